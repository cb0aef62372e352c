"""Which session is it?"""

from collections import defaultdict

from sessile.verify.check import Look, check
from sessile.verify.facts import Facts, is_no_id, nonces, texts
from sessile.verify.history import Op

NOT_THERE = (403, 404, 410)
ACCEPTED = 202


@check("null-session-id", "S2", "T1", "what opens a session answers without its id")
def null_session_id(facts: Facts, look: Look) -> None:
    for op in facts.of("open", "send", "press"):
        if not op.ok or op.session is not None or "sessions" not in op.said:
            continue
        look.tried()
        ids = op.said["sessions"]
        if not ids or any(map(is_no_id, ids)):
            look.found(None, f"The session's id is {ids!r} in the reply that opened it.", op)


@check("unusable-session-id", "S2", "T1", "an id that was just given is refused")
def unusable_session_id(facts: Facts, look: Look) -> None:
    """What fails beside another message is for undeclared-busy-policy to judge."""
    keys: dict[str, str | None] = {}
    accepted = {op.kind for op in facts.ops if op.ok}
    written: dict[str, float] = {}
    for op in facts.of("send"):
        if op.ok and op.session is not None:
            written.setdefault(op.session, op.ended)
    for op in facts.of("send", "press", "read", "stream"):
        born = facts.born.get(op.session or "")
        if born is None or op.principal != born.principal or op.began < born.ended:
            continue
        if op.began - born.ended > facts.limit("create_seconds") or op.outcome == "unknown":
            continue
        gone = facts.gone.get(op.session or "")
        if gone is not None and gone.began < op.ended:
            continue
        if facts.across(born, op) or (op.outcome == "failed" and op.number in facts.contended):
            continue
        if op.part == "probe":
            continue  # what fails behind a turn that was to fail is for bricked-session to judge
        if op.key is not None and keys.setdefault(op.key, op.nonce) != op.nonce:
            continue  # a key that was taken is refused for what it is
        if born.status is None and op.began < written.get(op.session or "", op.ended):
            continue  # of a name that the caller made up, it is there when it is written to
        look.tried()
        if op.kind not in accepted and op.status not in NOT_THERE:
            continue  # whatever is asked is refused: the request is not as it should be
        if op.outcome in ("refused", "failed") and op.status is not None:
            look.found(op.session, f"The session was given and then {op.status}.", born, op)


@check("session-substitution", "S2", "T1", "a reply names another session than its request")
def session_substitution(facts: Facts, look: Look) -> None:
    for op in facts.of("open", "send", "press", "turn"):
        if not op.ok:
            continue
        named = [each for each in _named(op) if not is_no_id(each)]
        if not named:
            continue
        look.tried()
        wanted = named[0] if is_no_id(op.session) else op.session
        for other in named:
            if other != wanted:
                look.found(wanted, f"The reply names {other} where it is {wanted}.", op)
                break


@check("split-session", "S1", "T1", "one message, or one user's, ends up in two sessions", "read")
def split_session(facts: Facts, look: Look) -> None:
    where: dict[str, dict[str, Op]] = defaultdict(dict)
    for (session, _), read in facts.settled.items():
        said = (item["text"] for item in read.said["items"] if item["role"] in ("user", ""))
        for nonce in set(nonces(*said)):
            where[nonce][session] = read
    for nonce, reads in where.items():
        look.tried()
        if len(reads) > 1:
            sessions = ", ".join(sorted(reads))
            look.found(None, f"{nonce} is in {len(reads)} sessions: {sessions}.", *reads.values())


@check(
    "fallback-session", "S1", "T1", "one user's next message opens a second session", "exclusive"
)
def fallback_session(facts: Facts, look: Look) -> None:
    """The same fault, seen where the backend keeps one session a user, and nobody names it."""
    last: dict[str, Op] = {}
    for op in facts.of("send", "press", part="exclusive"):
        got = op.said.get("session")
        before = last.get(op.client)
        if not op.ok or is_no_id(got):
            continue
        if before is not None and before.ended <= op.began:
            look.tried()
            if before.said["session"] != got:
                what = f"{op.client} was in {before.said['session']} and is in {got} now."
                look.found(str(got), what, before, op)
        last[op.client] = op


@check("duplicate-active-session", "S1", "T1", "first messages at once open several", "exclusive")
def duplicate_active_session(facts: Facts, look: Look) -> None:
    first: dict[str, dict[str, Op]] = defaultdict(dict)
    for op in facts.of("send", "press", part="at once"):
        got = op.said.get("session")
        if op.ok and not is_no_id(got):
            first[op.client.partition("/")[0]].setdefault(str(got), op)
    for user, sessions in first.items():
        look.tried()
        if len(sessions) > 1:
            what = f"{user} has {len(sessions)} sessions: {', '.join(sorted(sessions))}."
            look.found(None, what, *sessions.values())


@check(
    "unborn-session-event", "S3", "T3", "an event's session or turn is not the reply's", "stream"
)
def unborn_session_event(facts: Facts, look: Look) -> None:
    told: dict[str, Op] = {}
    for op in facts.of("send", "press"):
        turn = op.said.get("turn")
        if op.ok and not is_no_id(turn):
            told[str(turn)] = op
    naming = {op.said["name"] for op in facts.of("event") if op.said["session"] is not None}
    for op in facts.of("event"):
        sent = told.get(str(op.said["turn"]))
        if sent is None or op.said["name"] not in naming:
            continue  # some events need not name theirs, but each of a kind does or does not
        look.tried()
        named, wanted = op.said["session"], sent.session or sent.said.get("session")
        if named != wanted and named not in facts.owner:
            look.found(
                op.session, f"The event's session is {named}, the reply's {wanted}.", sent, op
            )
    for op in facts.of("turn"):
        sent = told.get(op.turn or "")
        if sent is None or op.principal != sent.principal or op.outcome == "unknown":
            continue
        if facts.turn_home[op.turn or ""] != op.session:
            continue  # asked for where it is not, as a misrouted event had it
        look.tried()
        if op.status == 404 and op.part != "gone" and not facts.across(sent, op):
            look.found(op.session, f"The turn {op.turn} was accepted and is 404.", sent, op)


@check("session-resurrection", "S8", "T1", "what was deleted comes back", "delete", "read")
def session_resurrection(facts: Facts, look: Look) -> None:
    """Where a send makes the session that it names, it may do so again, but with nothing old."""
    creates = "sends that create" in facts.run.can
    for op in facts.of("read", "send"):
        gone = facts.gone.get(op.session or "")
        if gone is None or gone.kind != "delete" or op.began < gone.ended:
            continue
        if gone.principal != facts.owner.get(op.session or "") or op.session in facts.twice_born:
            continue
        later = gone.ended + facts.limit("told_seconds")
        if (op.kind == "send" and creates) or (gone.status == ACCEPTED and op.began < later):
            continue
        look.tried()
        if op.kind == "send" and op.ok:
            look.found(op.session, "A message was accepted after the session's deletion.", gone, op)
        elif op.kind == "read" and op.ok:
            old = [
                nonce for nonce in nonces(*texts(op))
                if nonce in facts.posts and facts.posts[nonce][0].ended < gone.began
            ]  # fmt: skip
            if old:
                look.found(op.session, f"{old[0]} is still read after the deletion.", gone, op)


def _named(op: Op) -> list[str]:
    if "sessions" in op.said:
        return list(op.said["sessions"])
    named = op.said.get("session")
    return [] if named is None else [named]
