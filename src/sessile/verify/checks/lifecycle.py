"""Does each turn begin, go on and end as it should?"""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sessile.verify.answering import Answer
from sessile.verify.check import Look, check
from sessile.verify.facts import ENDS, Facts, is_no_id
from sessile.verify.history import Op

_MARK = re.compile(r"\s*[\[(<*_][^\n]{1,80}[\])>*_.]*\s*$")


@check("missing-terminal", "S7", "T3", "a turn that ended is not told to have ended", "stream",
       "events.ended", "events.turn")  # fmt: skip
def missing_terminal(facts: Facts, look: Look) -> None:
    """Of a turn of which something was told. It has ended where it was asked for and said so; one
    that is not known to have ended may be stuck instead. Where turns cannot be asked for, it has
    when the session's next one did."""
    asked = {op.turn: op for op in _last_turns(facts, None) if op.said["state"] in ENDS}
    for stream, events in facts.whole():
        told = {op.said["turn"] for op in events}
        ended = {op.said["turn"] for op in events if op.said["is"] == "ended"}
        sends = list(facts.sent_to(stream))
        last = max((op.began for op in sends if op.said["turn"] in ended), default=0.0)
        for send in sends:
            turn = send.said["turn"]
            if "turn" in facts.run.can:
                over = turn in asked and asked[turn].ended < stream.ended
            else:
                over = "parallel turns" not in facts.run.can and send.ended <= last
            if turn in told and over:
                look.tried()
                if turn not in ended:
                    look.found(stream.session, f"{turn} has no end on the stream.", send, stream)


@check("double-terminal", "S7", "T3", "a turn ends twice", "ends of turns")
def double_terminal(facts: Facts, look: Look) -> None:
    for events in facts.events.values():
        ended: dict[str, Op] = {}
        for op in events:
            if op.said["is"] == "ended" and not is_no_id(op.said["turn"]):
                look.tried()
                first = ended.setdefault(op.said["turn"], op)
                if first is not op and first.said["id"] != op.said["id"]:
                    what = f"{op.said['turn']} ended {first.said['name']}, then {op.said['name']}."
                    look.found(op.session, what, first, op)
    for op in facts.of("send"):
        over: dict[str, str] = {}
        for event in op.said.get("events", ()):
            turn, name = event.get("turn"), event["name"]
            if event["is"] == "ended" and not is_no_id(turn):
                look.tried()
                if turn in over:
                    what = f"{turn} ended {over[turn]}, then {name}, in one reply."
                    look.found(op.session, what, op)
                over[turn] = name


@check("orphan-tool-call", "S6", "T3", "a call has no outcome, or an outcome no call")
def orphan_tool_call(facts: Facts, look: Look) -> None:
    """On a stream, of turns that were told to have ended: of another, the outcome may be to come.
    And in what the model is shown, where a provider would refuse it."""
    if not {"events.call", "probe"} & set(facts.run.can):
        look.lacks = "the mapping has neither stream.events.call nor a probe"
    for session, calls in _shown_calls(facts).items():
        for name, (answer, outcomes) in calls.items():
            look.tried()
            if outcomes != 1:
                sent = facts.posts[answer.nonce][0]
                what = f"The model is shown {name} with {outcomes or 'no'} outcomes."
                look.found(session, what, sent, answer.op)
    for stream, events in facts.whole():
        open_calls: dict[str, Op] = {}
        begun: set[str] = set()
        ended = {op.said["turn"] for op in events if op.said["is"] == "ended"}
        waits = "events.ended" in facts.run.can
        for op in events:
            call = op.said.get("call")
            if call is None:
                continue
            look.tried()
            if not op.said["over"]:
                open_calls[call] = op
                begun.add(call)
            elif call in open_calls:
                del open_calls[call]
            elif call not in begun:
                look.found(stream.session, f"{call} has an outcome and was not begun.", op)
        for call, op in open_calls.items():
            if not waits or op.said["turn"] in ended or None in ended:
                look.found(stream.session, f"{call} was begun and has no outcome.", op, stream)


@check("stuck-run", "S7", "T1", "a turn does not come to an end", "turn")
def stuck_run(facts: Facts, look: Look) -> None:
    """It is asked for until the limit is over since anything ended in its session, or it showed
    progress: one that waits behind others that end is not stuck. A server that was restarted, or
    paused, has another limit, from then on; and what it tells again moves nothing."""
    back = [op for op in facts.of("resume", "restart") if op.ok]
    heard: set[tuple[str, str]] = set()
    moved: dict[str, float] = {}
    last: dict[str, Op] = {}
    began: dict[str, Op] = {}
    for op in facts.ops:
        if op.kind in ("send", "press") and op.ok and not is_no_id(op.said.get("turn")):
            began.setdefault(str(op.said["turn"]), op)
            moved[op.session or str(op.said.get("session"))] = op.ended
        elif op.kind == "turn" and op.ok:
            before = last.get(op.turn or "")
            if before is None or before.said != op.said:
                moved[op.session or ""] = op.ended
            last[op.turn or ""] = op
        elif op.kind == "event" and op.session is not None:
            event = (op.session, str(op.said["id"]))
            if op.said["id"] is None or event not in heard:
                moved[op.session] = op.ended
            heard.add(event)
    for turn, op in last.items():
        send = began.get(turn)
        if send is None:
            continue
        look.tried()
        silence, limit = op.ended - moved.get(op.session or "", op.ended), "stuck_seconds"
        for hook in back:
            if send.began < hook.began < op.began:
                silence, limit = min(silence, op.ended - hook.ended), "recovery_seconds"
        if op.said["state"] in ("queued", "running") and silence > facts.limit(limit):
            what = f"{turn} is {op.said['state']}, and nothing has moved for {silence:.0f} s."
            look.found(op.session, what, send, op)


@check("disconnect-cancels-turn", "S5", "T3", "a turn ends with its reader's connection", "stream",
       "turn", "slow turns")  # fmt: skip
def disconnect_cancels_turn(facts: Facts, look: Look) -> None:
    """One that failed did so by itself, where such a turn does so with its readers there, too."""
    slow = [op for part in ("joined", "busy") for op in _last_turns(facts, part)]
    fails = any(op.said["state"] == "failed" for op in slow) or not slow
    for op in _last_turns(facts, "disconnect"):
        state = op.said["state"]
        if state not in ENDS or (state == "failed" and fails):
            continue  # not seen to its end, or to another
        look.tried()
        if op.said["state"] != "completed":
            what = f"{op.turn} is {op.said['state']} after all its readers had left."
            look.found(op.session, what, op)


@check("unstoppable-turn", "S5", "T3", "a cancelled turn goes on", "cancel", "turn", "slow turns")
def unstoppable_turn(facts: Facts, look: Look) -> None:
    """It was asked for after the cancellation was answered, and was under way. When an event came
    says nothing alone: it may have been on its way for long. One that neither goes on nor ends is
    for stuck-run to judge."""
    asked: dict[str, list[Op]] = defaultdict(list)
    for op in facts.of("turn", part="cancel"):
        if op.ok:
            asked[op.turn or ""].append(op)
    said: dict[str, list[Op]] = defaultdict(list)
    for op in facts.of("event"):
        said[str(op.said["turn"])].append(op)
    for cancel in facts.of("cancel", part="cancel"):
        after = [op for op in asked[cancel.turn or ""] if op.began >= cancel.ended]
        if not cancel.ok or not after:
            continue
        look.tried()
        under_way = [op for op in after if op.said["state"] in ("queued", "running")]
        last = after[-1].said["state"]
        if under_way and last not in ("cancelled", "queued", "running"):
            what = f"{cancel.turn} was cancelled, went on and is {last}."
            look.found(cancel.session, what, cancel, under_way[0], after[-1])
            continue
        late = cancel.ended + facts.limit("stop_seconds")
        still = next((op for op in under_way if op.began > late), None)
        wrote = [op for op in said[cancel.turn or ""] if still and op.began > still.ended]
        goes_on = next((op for op in wrote if op.said["is"] == "text"), None)
        if still is not None and goes_on is not None:
            what = f"{cancel.turn} wrote {still.began - cancel.ended:.1f} s after its cancellation."
            look.found(cancel.session, what, cancel, still, goes_on)


@check("lost-partial", "S5", "T3", "text that was shown before a cancellation is gone", "cancel",
       "events.texts", "events.turn", "slow turns", "read")  # fmt: skip
def lost_partial(facts: Facts, look: Look) -> None:
    replies = {op.turn: op.said["reply"] for op in _last_turns(facts, "cancel")}
    for cancel in facts.of("cancel", part="cancel"):
        if not cancel.ok:
            continue
        shown = _shown(facts, cancel, until=cancel.began)
        reads = [read for _, read in facts.last_reads(cancel.session or "")]
        kept = [replies.get(cancel.turn, "")] + [
            item["text"] for read in reads
            for item in read.said["items"] if item["role"] != "user"
        ]  # fmt: skip
        if not shown or not reads:
            continue
        look.tried()
        if not any(_plain(shown) in _plain(text) for text in kept):
            what = f"{len(shown)} characters of {cancel.turn} were shown and are kept nowhere."
            look.found(cancel.session, what, cancel)


@check("ghost-turn", "S5", "T3", "a cancelled turn keeps text that nobody was shown", "cancel",
       "events.texts", "events.turn", "slow turns", "read")  # fmt: skip
def ghost_turn(facts: Facts, look: Look) -> None:
    """What stands in brackets behind the text may say that it was stopped."""
    answers: dict[str, list[str]] = defaultdict(list)
    for op in facts.of("send"):
        if op.ok and op.said.get("reply"):
            answers[str(op.said.get("turn"))].append(op.said["reply"])
    for cancel in facts.of("cancel", part="cancel"):
        if not cancel.ok:
            continue
        shown = _shown(facts, cancel, until=None)
        events = facts.told.get((cancel.session or "", cancel.turn or ""), ())
        whole = {op.said["message"] for op in events if "message" in op.said}
        told = [_plain(text) for text in (shown, *whole, *answers[str(cancel.turn)])]
        for _, read in facts.last_reads(cancel.session or ""):
            for item in read.said["items"]:
                if item["role"] == "assistant" and item["turn"] == cancel.turn and item["text"]:
                    look.tried()
                    text = _plain(_MARK.sub("", item["text"]))
                    if not any(text in each for each in told):
                        what = f"{cancel.turn} has text that no stream has had."
                        look.found(cancel.session, what, cancel, read)


@check(
    "premature-busy", "S7", "T3", "busy, though the turn's end was told", "stream", "events.ended"
)
def premature_busy(facts: Facts, look: Look) -> None:
    """Of the turn that was accepted before. To come back later is asked of anybody."""
    ended: dict[tuple[str, str | None], Op] = {}
    before: dict[str, Op] = {}
    for op in sorted((*facts.of("event"), *facts.of("send", part="after the end")), key=_began):
        session = op.session or ""
        if op.kind == "event":
            if op.said["is"] == "ended":
                ended[session, op.said["turn"]] = op
            continue
        last = before.get(session)
        if last is not None and op.status not in (429, 503):
            end = ended.get((session, last.said.get("turn"))) or ended.get((session, None))
            if end is not None and last.began <= end.began:
                look.tried()
                if op.outcome == "busy":
                    what = f"Answered {op.status} after the turn's end was received."
                    look.found(op.session, what, end, op)
        if op.ok:
            before[session] = op


@check("phantom-progress", "S3", "T3", "progress is missing, falls, or goes on after the end",
       "progress")  # fmt: skip
def phantom_progress(facts: Facts, look: Look) -> None:
    reached: dict[tuple[str, str, int], tuple[Op, dict[str, Any]]] = {}
    over: dict[tuple[str, int], Op] = {}
    for op in facts.ops:
        told = op.said.get("progress")
        turn = op.turn if op.kind == "turn" else op.said.get("turn")
        if op.kind not in ("turn", "event") or not op.ok or turn is None:
            continue
        reader = op.said.get("stream", 0)
        if op.kind == "event" and op.said["is"] == "ended":
            over[turn, reader] = op
        if not told:
            continue
        look.tried()
        numbers = {name: value for name, value in told.items() if isinstance(value, int | float)}
        lacking = sorted(set(told) - set(numbers))
        if lacking:
            look.found(op.session, f"{', '.join(lacking)} of {turn} is no number.", op)
        earlier = reached.get((turn, op.client, reader))
        for name, value in numbers.items():
            if earlier is not None and value < earlier[1].get(name, value):
                what = f"{name} of {turn} fell from {earlier[1][name]} to {value}."
                look.found(op.session, what, earlier[0], op)
        if 0 < numbers.get("total_iterations", 0) < numbers.get("current_iteration", 0):
            look.found(op.session, f"{turn} is past its total of iterations.", op)
        ended = over.get((turn, reader))
        if ended is not None and ended is not op and op.kind == "event":
            look.found(op.session, f"Progress of {turn} came after its end.", ended, op)
        reached[turn, op.client, reader] = (op, numbers)


def _last_turns(facts: Facts, part: str | None) -> list[Op]:
    last: dict[str | None, Op] = {}
    for op in facts.of("turn", part=part):
        if op.ok:
            last[op.turn] = op
    return list(last.values())


def _began(op: Op) -> tuple[float, int]:
    return op.began, op.number


def _plain(text: str) -> str:
    """Without the white space that one keeps and another does not."""
    return " ".join(text.split())


def _shown_calls(facts: Facts) -> Mapping[str, Mapping[str, tuple[Answer, int]]]:
    """By session and call, as the last that was answered there tells it."""
    found: dict[str, dict[str, tuple[Answer, int]]] = defaultdict(dict)
    for answer in facts.answers.values():
        for call, outcomes in answer.calls.items():
            found[facts.home[answer.nonce]][call] = (answer, outcomes)
    return found


def _shown(facts: Facts, cancel: Op, *, until: float | None) -> str:
    """What any one stream of the session was told of the turn's text: the longest."""
    texts: dict[int, str] = defaultdict(str)
    for op in facts.told.get((cancel.session or "", cancel.turn or ""), ()):
        if op.said["is"] == "text" and (until is None or op.began < until):
            texts[op.said["stream"]] += op.said.get("text", "")
    return max(texts.values(), key=len, default="")
