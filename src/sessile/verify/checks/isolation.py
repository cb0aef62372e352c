"""Who sees and changes what?"""

import re
from collections import defaultdict
from collections.abc import Iterator

from sessile.verify.answering import BEGINS, answers_in
from sessile.verify.check import Look, check
from sessile.verify.facts import Facts, nonces
from sessile.verify.history import Op

_WORD = re.compile(r"[\w.-]{5,}")
_CHANGES = re.compile(r"[\w-]*\d[\w-]*")
"""Ids and times, which differ from one refusal to the next."""


@check("misrouted-event", "S0", "T3", "a stream tells of another session", "stream")
def misrouted_event(facts: Facts, look: Look) -> None:
    for op in facts.of("event"):
        if op.part == "foreign cursor":
            continue  # what it is told there is for cross-session-replay to judge
        look.tried()
        session, named, turn = op.session or "", op.said["session"], str(op.said["turn"])
        if named != session and named in facts.owner:
            look.found(session, f"An event of {named} came on the stream of {session}.", op)
            continue
        home = facts.turn_home.get(turn)
        if home is not None and home != session:
            look.found(session, f"An event of {home}'s turn came on the stream of {session}.", op)
            continue
        if home is not None and "probe" in facts.run.can:
            continue  # a probe's own words: which of them it should not know is context-bleed's
        for nonce in nonces(op.reply):
            home = facts.home.get(nonce, session)
            if home != session:
                sent = facts.posts[nonce][0]
                look.found(session, f"What was posted to {home} came on {session}.", sent, op)
                break


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
            if named != session and named in facts.owner:
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
                if owner and owner != op.principal and op.kind in ("read", "stream") and op.ok:
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
    for op in facts.of("send", "press", "cancel", "close", "delete"):
        owner = facts.owner.get(op.session or "")
        if owner is None or owner == op.principal:
            continue
        look.tried()
        if op.ok:
            what = f"{op.principal}'s {op.kind} on a session of {owner} was answered {op.status}."
            look.found(op.session, what, op)
    for (session, _), read in facts.settled.items():
        for nonce in nonces(*(item["text"] for item in read.said["items"])):
            sent = facts.posts.get(nonce)
            if sent is not None and sent[0].principal != facts.owner.get(
                session, sent[0].principal
            ):
                look.found(session, f"It holds what {sent[0].principal} posted.", sent[0], read)
                break


@check("cross-session-replay", "S8", "T3", "a cursor of one session opens another", "resume")
def cross_session_replay(facts: Facts, look: Look) -> None:
    told: dict[str, Op] = {}
    for op in facts.of("event", part="foreign cursor"):
        told.setdefault(op.reply, op)
    for number, stream in facts.streams.items():
        if stream.part != "foreign cursor" or stream.said["cursor"] is None:
            continue
        look.tried()
        for op in facts.events.get(number, ()):
            first = told.setdefault(op.reply, op)
            if first.session != stream.session:
                look.found(stream.session, f"It tells what {first.session} was told.", first, op)
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
