"""Who sees and changes what?"""

import re
from collections import defaultdict
from collections.abc import Iterator

from sessile.verify.answering import BEGINS, answers_in
from sessile.verify.check import Look, check
from sessile.verify.facts import Facts, nonces
from sessile.verify.history import Op

_WORD = re.compile(r"[\w.-]{5,}")
_CHANGES = re.compile(r"[\w+/=.:-]*\d[\w+/=.:-]*|[\w+/=-]{16,}")
"""Ids and times, which differ from one refusal to the next."""
_NAME = re.compile(r"(?=.*\d)(?=.*[a-zA-Z]).*")
"""An id that no model comes upon by itself."""
LATER = (429, 503)
"""They say nothing of the session."""


@check("misrouted-event", "S0", "T3", "a stream tells of another session", "stream")
def misrouted_event(facts: Facts, look: Look) -> None:
    for op in facts.of("event"):
        if op.part == "foreign cursor":
            continue  # what it is told there is for cross-session-replay to judge
        told = list(_told_of(facts, op))
        look.tried(bool(told))
        for home, what, sent in told:
            if home != op.session:
                look.found(op.session, f"{what} came on the stream of {op.session}.", *sent, op)
                break


def _told_of(facts: Facts, event: Op) -> Iterator[tuple[str, str, tuple[Op, ...]]]:
    """The sessions that an event is known to be of, by what in it, and what shows that."""
    named, turn = event.said["session"], str(event.said["turn"])
    if named in facts.owner:
        yield named, f"An event of {named}", ()
    if turn in facts.turn_home:
        yield facts.turn_home[turn], f"An event of {facts.turn_home[turn]}'s turn", ()
        if "probe" in facts.run.can:
            return  # its own words: which of them it should not know is context-bleed's
    for nonce in nonces(event.reply):
        if nonce in facts.home:
            home = facts.home[nonce]
            yield home, f"What was posted to {home}", (facts.posts[nonce][0],)


@check("context-bleed", "S0", "T1", "an answer knows what was said in another session")
def context_bleed(facts: Facts, look: Look) -> None:
    for op in facts.of("send", "press", "turn", "read"):
        said = [op.said.get("reply") or ""]
        said += [each["text"] for each in op.said.get("items", ()) if each["role"] == "assistant"]
        if not op.ok or not any(said):
            continue
        look.tried()
        session = op.session or str(op.said.get("session"))
        shown = {nonce for answer in answers_in(*said) for nonce in answer["nonces"]}
        # Which session a probe was given is for stale-context to judge.
        for named in _words(*(text for text in said if BEGINS not in text)):
            if named != session and named in facts.owner and _NAME.fullmatch(named):
                born = facts.born[named]
                look.found(session, f"An answer in {session} speaks of {named}.", born, op)
                break
        for nonce in nonces(*said):
            home = facts.home.get(nonce, session)
            if home == session:
                continue
            sent = facts.posts[nonce][0]
            if nonce in shown:
                look.found(session, f"The model is shown what was posted to {home}.", sent, op)
                break
            if sent.principal == op.principal:
                look.found(session, f"An answer knows what was posted to {home}.", sent, op)
                break


@check("cross-tenant-read", "S8", "T2", "somebody reads what is another's", "two principals")
def cross_tenant_read(facts: Facts, look: Look) -> None:
    for op in facts.ops:
        owner = facts.owner.get(op.session or "")
        if op.kind == "event" or op.kind == "list" or (owner and owner != op.principal):
            look.tried(op.kind != "event")
            for nonce in nonces(op.reply):
                sent = facts.posts.get(nonce)
                if sent is not None and sent[0].principal != op.principal:
                    what = f"{op.principal} was shown what {sent[0].principal} had posted."
                    look.found(op.session, what, sent[0], op)
                    break
            else:
                refused = (
                    op.kind in ("read", "turn", "stream") and op.kind in facts.refused_if_absent
                )
                if owner and owner != op.principal and refused and op.ok:
                    look.found(op.session, f"{op.principal} was answered {op.status}.", op)
                if op.kind == "list" and op.ok:
                    _listed(facts, look, op)


def _listed(facts: Facts, look: Look, op: Op) -> None:
    for session in op.said["sessions"]:
        owner = facts.owner.get(session)
        if owner is not None and owner != op.principal:
            look.found(session, f"{op.principal}'s list has a session of {owner}.", op)
            return


@check("cross-tenant-write", "S8", "T2", "somebody changes what is another's", "two principals")
def cross_tenant_write(facts: Facts, look: Look) -> None:
    """A success says something where nothing is answered so for a session that is not there; else
    what came of it does."""
    ended: set[str] = set()
    for op in facts.of("send", "press", "cancel", "close", "delete"):
        owner = facts.owner.get(op.session or "")
        if owner is None or owner == op.principal:
            continue
        look.tried()
        came = None
        if op.ok and op.kind in ("close", "delete") and op.session not in ended:
            ended.add(op.session or "")
            came = _came_of(facts, op, owner)
        if op.ok and (op.kind in facts.refused_if_absent or came is not None):
            what = f"{op.principal}'s {op.kind} on a session of {owner} was answered {op.status}."
            look.found(op.session, what, op, *([] if came is None else [came]))
    for (session, _), read in facts.settled.items():
        for nonce in nonces(*(item["text"] for item in read.said["items"])):
            sent = facts.posts.get(nonce)
            if sent is not None and sent[0].principal != facts.owner.get(
                session, sent[0].principal
            ):
                look.found(session, f"It holds what {sent[0].principal} posted.", sent[0], read)
                break


def _came_of(facts: Facts, gone: Op, owner: str) -> Op | None:
    """What shows that the session has ended: its owner is refused, or reads no more what was said
    before."""
    for op in facts.asked_by_owner.get(gone.session or "", ()):
        if op.began >= gone.ended and op.outcome == "refused":
            return op
    said = facts.said_in.get(gone.session or "", ())
    before = {op.nonce for op in said if op.ended < gone.began and op.principal == owner}
    for _, read in facts.last_reads(gone.session or ""):
        held = {nonce for item in read.said["items"] for nonce in nonces(item["text"])}
        if read.began >= gone.ended and before - held:
            return read
    return None


@check("cross-session-replay", "S8", "T3", "a cursor of one session opens another", "resume")
def cross_session_replay(facts: Facts, look: Look) -> None:
    told: dict[tuple[str, str], Op] = {}
    for op in facts.of("event", part="foreign cursor"):
        told.setdefault((op.session or "", str(op.said["id"] or op.reply)), op)
    for number, stream in facts.streams.items():
        if stream.part != "foreign cursor" or stream.said["cursor"] is None:
            continue
        look.tried()
        for op in facts.events.get(number, ()):
            homes = [home for home, *_ in _told_of(facts, op) if home != stream.session]
            first = told.get((homes[0], str(op.said["id"] or op.reply))) if homes else None
            if first is not None:
                what = f"It tells what {first.session} was told."
                look.found(stream.session, what, first, stream, op)
                break


@check("existence-oracle", "S8", "T2", "not yours and not there are told apart", "two principals")
def existence_oracle(facts: Facts, look: Look) -> None:
    """Asked in pairs by one client: a session that is another's, and one that nobody has."""
    pairs: dict[tuple[str, str], list[Op]] = defaultdict(list)
    for op in facts.ops:
        owned = facts.owner.get(op.session or "") == op.principal
        if op.part == "oracle" and op.kind != "event" and not owned and op.session is not None:
            pairs[op.client, op.kind].append(op)
    for (_, kind), ops in pairs.items():
        for foreign, absent in zip(ops[::2], ops[1::2], strict=False):
            if foreign.ok or "unknown" in (foreign.outcome, absent.outcome):
                continue  # what was answered is another fault
            if foreign.status in LATER or absent.status in LATER:
                continue
            look.tried()
            if foreign.status != absent.status:
                what = (
                    f"{kind}: {foreign.status} for what is another's, {absent.status} for nothing."
                )
                look.found(foreign.session, what, foreign, absent)
            elif _shape(foreign) != _shape(absent):
                what = f"{kind}: the bodies of the two {foreign.status} differ."
                look.found(foreign.session, what, foreign, absent)


def _words(*texts: str) -> Iterator[str]:
    for text in texts:
        yield from _WORD.findall(text)


def _shape(op: Op) -> str:
    """The reply without what names the one session or the one request."""
    text = op.reply.replace(op.session or "\0", "ID")
    if op.turn:
        text = text.replace(op.turn, "ID")
    return _CHANGES.sub("0", text)
