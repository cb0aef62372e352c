"""Is everything there, once and in order?"""

from collections import defaultdict
from typing import Any

from sessile.verify.check import Look, check
from sessile.verify.facts import Facts, nonces, texts
from sessile.verify.history import Op

NOISE_SECONDS = 0.2
"""What a reply may be on its way."""


@check("lost-message", "S4", "T1", "what was accepted is not in the history", "read")
def lost_message(facts: Facts, look: Look) -> None:
    """A turn that was cancelled before it was told to have started has taken its message back.
    What is lost by a restart is for session-amnesia to judge."""
    begun = {op.said["turn"] for op in facts.of("event") if op.said["is"] == "started"}
    withdrawn = {op.turn for op in facts.of("cancel") if op.ok} - begun - {None}
    completed = {op.turn for op in facts.of("turn") if op.ok and op.said["state"] == "completed"}
    late = "late messages" in facts.run.can
    held = {place: set(nonces(*texts(read))) for place, read in facts.settled.items()}
    for nonce, sends in facts.posts.items():
        send = next((op for op in sends if op.ok), None)
        home = facts.home.get(nonce)
        if send is None or home is None or send.said.get("turn") in withdrawn:
            continue
        if late and send.said.get("turn") not in completed:
            continue
        for path, read in facts.last_reads(home):
            gone = facts.gone.get(home)
            if read.began < send.ended or facts.across(send, read):
                continue
            if gone is not None and gone.kind == "delete" and gone.began < read.ended:
                continue
            look.tried()
            if nonce not in held[home, path]:
                what = f"{nonce} was accepted ({send.status}) and is not in {path} of {home}."
                look.found(home, what, send, read)


@check("duplicate-turn", "S9", "T1", "one message is there twice", "read")
def duplicate_turn(facts: Facts, look: Look) -> None:
    for (session, path), read in facts.settled.items():
        count: dict[str, int] = defaultdict(int)
        for item in read.said["items"]:
            if item["role"] in ("user", ""):
                for nonce in set(nonces(item["text"])):
                    count[nonce] += 1
        for nonce, times in count.items():
            sent = facts.posts.get(nonce, ())
            keys = {op.key for op in sent}
            if not sent or (len(sent) > 1 and (None in keys or len(keys) > 1)):
                continue
            look.tried()
            if times > 1 and all(item["role"] for item in read.said["items"]):
                what = f"{nonce} was said once and is {times} times in {path}."
                look.found(session, what, *sent, read)


@check("key-taken-again", "S9", "T1", "an idempotency key does twice what it names", "keys")
def key_taken_again(facts: Facts, look: Look) -> None:
    by_key: dict[tuple[str, str | None, str], list[Op]] = defaultdict(list)
    for op in facts.of("send"):
        if op.key is not None and op.ok:
            by_key[op.principal, op.session, op.key].append(op)
    for (_, session, key), ops in by_key.items():
        first = ops[0]
        for op in ops[1:]:
            look.tried()
            if op.nonce != first.nonce:
                what = f"The key {key} was accepted again with another body."
                look.found(session, what, first, op)
            elif op.said.get("turn") != first.said.get("turn"):
                what = f"The key {key} made two turns."
                look.found(session, what, first, op)


@check("reordered-turns", "S4", "T1", "what came later stands earlier", "read")
def reordered_turns(facts: Facts, look: Look) -> None:
    for (session, path), read in facts.settled.items():
        items: list[dict[str, Any]] = read.said["items"]
        place = {
            nonce: number
            for number, item in reversed(list(enumerate(items)))
            if item["role"] in ("user", "")
            for nonce in nonces(item["text"])
        }
        sends = [
            (facts.posts[nonce][0], number) for nonce, number in place.items()
            if facts.home.get(nonce) == session and facts.posts[nonce][0].ok
        ]  # fmt: skip
        ended = sorted(sends, key=lambda each: each[0].ended)
        done, last = 0, None
        for op, number in sorted(sends, key=lambda each: each[0].began):
            while done < len(ended) and ended[done][0].ended < op.began:
                if last is None or ended[done][1] > last[1]:
                    last = ended[done]
                done += 1
            if last is not None:
                look.tried()
                if last[1] > number:
                    what = f"{op.nonce} was sent after {last[0].nonce} and is before it in {path}."
                    look.found(session, what, last[0], op, read)
        _replies_after(facts, look, session, read)


def _replies_after(facts: Facts, look: Look, session: str, read: Op) -> None:
    """A turn's reply stands behind what it answers, where that is known to be the turn's."""
    items = read.said["items"]
    to_come = {item["turn"] for item in items if item["role"] == "user"} - {None}
    asked: set[str] = set()
    for item in items:
        if item["turn"] not in to_come:
            continue
        if item["role"] == "user":
            asked.add(item["turn"])
        elif item["role"] == "assistant" and item["turn"] in facts.turn_home:
            look.tried()
            if item["turn"] not in asked:
                look.found(session, f"The reply of {item['turn']} is before what it answers.", read)


@check("overlapping-turns", "S4", "T3", "two turns of a session run at once", "stream",
       "events.started", "events.ended", "events.turn")  # fmt: skip
def overlapping_turns(facts: Facts, look: Look) -> None:
    if "parallel turns" in facts.run.can:
        return
    for stream in facts.events.values():
        running: dict[str, Op] = {}
        behind: dict[str, Op] = {}
        for op in stream:
            turn = str(op.said["turn"])
            if turn in behind:
                look.found(op.session, f"{turn} went on after another had begun.", behind[turn], op)
                del behind[turn]
            if op.said["is"] == "started":
                look.tried()
                behind |= dict.fromkeys(running.keys() - {turn}, op)
                running = {turn: op}
            elif op.said["is"] == "ended":
                running.pop(turn, None)


@check("undeclared-busy-policy", "S4", "T1", "a second message is taken now so, now so")
def undeclared_busy_policy(facts: Facts, look: Look) -> None:
    """It counts as taken where the first was seen under way after that; to come back later is asked
    of anybody. A 5xx that is not declared to mean it is no policy: it is the other message's doing
    where one of two failed several times and never both, and none that was alone in its session."""
    last = _seen_under_way(facts)
    ways: dict[str, Op] = {}
    pairs: dict[str | None, list[Op]] = defaultdict(list)
    for op in facts.of("send", part="busy"):
        pairs[op.session].append(op)
        if not op.client.endswith("/second") or op.outcome not in ("ok", "busy"):
            continue
        if op.status in (429, 503) or (op.ok and last.get(op.session or "", 0.0) < op.ended):
            continue
        look.tried()
        ways.setdefault("accepted" if op.ok else str(op.status), op)
    if len(ways) > 1:
        look.found(None, f"It was {' and '.join(sorted(ways))}.", *ways.values())
    failed = [[op for op in pair if op.outcome == "failed"] for pair in pairs.values()]
    one = [ops[0] for ops in failed if len(ops) == 1]
    alone = list(facts.of("send", part="basics"))
    if len(one) > 1 and max(map(len, failed)) == 1 and alone and all(op.ok for op in alone):
        look.tried(len(one))
        what = f"One of two was {one[0].status} in {len(one)} sessions of {len(pairs)}, and none of"
        what += f" {len(alone)} that were alone."
        look.found(one[0].session, what, *pairs[one[0].session], alone[0])


def _seen_under_way(facts: Facts) -> dict[str, float]:
    """When each session's first message was last known to be at work."""
    last: dict[str, float] = {}
    turns: dict[str, str] = {}
    for op in facts.of("send", part="busy"):
        if op.ok and op.client.endswith("/first") and op.session is not None:
            turns[op.session] = str(op.said.get("turn"))
            if "turn" not in facts.run.can:
                last[op.session] = op.ended - NOISE_SECONDS  # its reply came so late
    for op in facts.of("turn", part="busy"):
        if (
            op.ok
            and op.said["state"] in ("queued", "running")
            and turns.get(op.session or "") == op.turn
        ):
            last[op.session or ""] = op.began
    return last


@check("divergent-history", "S4", "T1", "two ways to read a session disagree", "two reads")
def divergent_history(facts: Facts, look: Look) -> None:
    """Between two reads of one path that are the same, another path said something else: so that
    nothing can have been written meanwhile."""
    for session, reads in facts.at_rest.items():
        for first, other, again in zip(reads, reads[1:], reads[2:], strict=False):
            same_path = first.said["path"] == again.said["path"] != other.said["path"]
            if not same_path or _said(first) != _said(again):
                continue
            look.tried(bool(_said(first) or _said(other)))
            if _said(first) != _said(other):
                what = f"{first.said['path']} and {other.said['path']} differ at rest."
                look.found(session, what, first, other, again)


@check("sequence-gap", "S4", "T3", "numbers of a log are missing on a stream", "events.seq")
def sequence_gap(facts: Facts, look: Look) -> None:
    for stream in facts.events.values():
        before: Op | None = None
        for op in stream:
            if op.said["is"] == "gap":
                before = None
                continue
            if not isinstance(op.said["seq"], int):
                continue
            if before is not None:
                look.tried()
                if op.said["seq"] not in (before.said["seq"], before.said["seq"] + 1):
                    what = f"{op.said['seq']} came after {before.said['seq']}."
                    look.found(op.session, what, before, op)
            before = op


@check("sequence-reuse", "S4", "T3", "one place in a log has two contents", "stream")
def sequence_reuse(facts: Facts, look: Look) -> None:
    """To whomever it is told, and however often. When it was sent may be in it, and pieces of text
    may be put together by the time that they are told again."""
    seen: dict[tuple[str, str], Op] = {}
    for op in facts.of("event"):
        place = op.said["id"] if op.said["seq"] is None else op.said["seq"]
        if place is None:
            continue
        first = seen.setdefault((op.session or "", str(place)), op)
        if first is not op:
            look.tried()
            if not _same(first, op):
                look.found(op.session, f"{place} has two contents.", first, op)


@check("non-monotonic-read", "S4", "T1", "a later read lacks what an earlier one had", "read")
def non_monotonic_read(facts: Facts, look: Look) -> None:
    before: dict[tuple[str, str, str], tuple[Op, set[str]]] = {}
    for op in facts.of("read"):
        if not op.ok or "more" in op.said:
            continue
        gone = facts.gone.get(op.session or "")
        if gone is not None and gone.kind == "delete" and gone.began < op.ended:
            continue
        place = (op.client, op.session or "", op.said["path"])
        held = set(nonces(*texts(op))) | {str(i["id"]) for i in op.said["items"] if i["id"]}
        earlier = before.get(place)
        if earlier is not None and earlier[0].ended <= op.began:
            if facts.across(earlier[0], op):
                continue
            look.tried()
            missing = earlier[1] - held
            if missing:
                what = f"{min(missing)} was read and is not there any more."
                look.found(op.session, what, earlier[0], op)
        before[place] = (op, held)


def _same(one: Op, other: Op) -> bool:
    if any(one.said[name] != other.said[name] for name in ("name", "turn", "session")):
        return False
    if "text" in one.said and "text" in other.said:
        text, more = str(one.said["text"]), str(other.said["text"])
        return text.endswith(more) or more.endswith(text)
    if one.said.get("message") != other.said.get("message"):
        return False
    return set(nonces(one.reply)) == set(nonces(other.reply))


def _said(read: Op) -> list[tuple[str, str]]:
    return [
        (item["role"], " ".join(item["text"].split())) for item in read.said["items"]
        if item["role"] in ("user", "assistant") and item["text"]
    ]  # fmt: skip
