"""What does a probe say of what it is given, and of what follows on a failure or a gate?"""

from collections import defaultdict

from sessile.verify.answering import GIVEN, Answer
from sessile.verify.check import Look, check
from sessile.verify.facts import Facts
from sessile.verify.history import Op

FRESH = 3
PART = "probe"


@check("stale-context", "S0", "T5", "a tool is given another turn's session, turn or principal",
       "probe")  # fmt: skip
def stale_context(facts: Facts, look: Look) -> None:
    """By ids that the run knows as another's; a backend may well have words of its own for them
    within. A principal is told by what its first tool was given, where that tells the two apart."""
    look.lacks = "no tool of the probe said what it was given"
    alias: dict[str, tuple[str, Op]] = {}
    named: dict[str, str] = {}
    called = [answer for answer in facts.answers.values() if answer.tool]
    for answer in called:
        if (name := answer.tool.get("principal")) is not None:
            named.setdefault(facts.posts[answer.nonce][0].principal, name)
    for answer in called:
        look.tried()
        send, session = facts.posts[answer.nonce][0], facts.home[answer.nonce]
        seen = answer.tool.get("session", session)
        whose, first = alias.setdefault(seen, (session, send))
        what = _apart(answer) or _stale(facts, answer, send, session)
        if what is None and seen not in facts.owner and whose != session:
            what = f"Its tool was given the session {seen}, as {whose}'s tool was before."
        others = {name: who for who, name in named.items() if who != send.principal}
        known = answer.tool.get("principal")
        if what is None and known in others and known != named[send.principal]:
            what = f"{send.principal}'s tool was given {known}, who is {others[known]}."
        if what is not None:
            ops = [send, answer.op, *([first] if whose != session else [])]
            look.found(session, what, *ops)


def _apart(answer: Answer) -> str | None:
    for name in GIVEN:
        agent, tool = answer.agent.get(name), answer.tool.get(name)
        if agent is not None and tool is not None and agent != tool:
            return f"Its agent was given the {name} {agent}, its tool {tool}."
    return None


def _stale(facts: Facts, answer: Answer, send: Op, session: str) -> str | None:
    seen, turn = answer.tool.get("session"), answer.tool.get("turn")
    if seen is not None and seen != session and seen in facts.owner:
        return f"Its tool was given {seen}, which is another session."
    if turn is not None and turn != str(send.said.get("turn")) and turn in facts.turn_home:
        return f"The tool of {send.said.get('turn')} was given {turn}, which is another turn."
    return None


@check("bricked-session", "S6", "T5", "after a turn that failed, all others of its session fail",
       "probe")  # fmt: skip
def bricked_session(facts: Facts, look: Look) -> None:
    """Beside a session in which the same messages are answered. One that waits is for stuck-run to
    judge."""
    sends: dict[str, list[Op]] = defaultdict(list)
    for op in facts.of("send", part=PART):
        if op.nonce is not None and op.session is not None:
            sends[op.client].append(op)
    control = [facts.answers.get(op.nonce or "") for op in sends["probe/control"]]
    if not control or not all(control):
        look.lacks = "the probe did not answer where nothing had failed"
        return
    look.lacks = "no turn of the probe failed"
    only_read = all(answer is not None and answer.op.kind == "read" for answer in control)
    state = {op.turn: op.said["state"] for op in facts.of("turn", part=PART) if op.ok}
    for client in ("probe/fail", "probe/break"):
        first = next(iter(sends[client]), None)
        if first is None or first.outcome == "unknown" or first.nonce in facts.answers:
            continue
        fresh = [op for op in sends[client][1:] if op.outcome != "unknown"]
        under_way = [state.get(op.said.get("turn")) in ("queued", "running") for op in fresh]
        if len(fresh) < FRESH or any(under_way):
            continue
        if only_read and not any(True for _ in facts.last_reads(first.session or "")):
            continue
        look.tried()
        if not any(op.nonce in facts.answers for op in fresh):
            what = f"{len(fresh)} messages behind one that failed were not answered."
            look.found(first.session, what, first, *fresh, *sends["probe/control"])


@check("grant-drift", "S4", "T5", "a tool runs that was not granted, or is not any more", "probe",
       "grants")  # fmt: skip
def grant_drift(facts: Facts, look: Look) -> None:
    granted: dict[str, Op] = {}
    for op in sorted(facts.of("grant", "revoke", "send", part=PART), key=lambda op: op.began):
        session = op.session or ""
        if op.kind != "send":
            if op.ok or op.kind == "grant":  # one that was refused may have been done
                granted[session] = op
            continue
        answer = facts.answers.get(op.nonce or "")
        change = granted.get(session)
        if answer is None or answer.command != "gated":
            continue
        if change is not None and change.kind == "grant":
            continue
        look.tried()
        if answer.tool:
            since = "before it was granted" if change is None else "after its grant was taken"
            found = [op, answer.op, *([] if change is None else [change])]
            look.found(session, f"A tool ran {since}.", *found)


@check("invisible-gate", "S4", "T5", "a tool is neither offered, nor refused, nor listed", "probe",
       "grants")  # fmt: skip
def invisible_gate(facts: Facts, look: Look) -> None:
    listed = {
        (op.session, name) for op in facts.of("tools", part=PART)
        for name in op.said.get("names", ())
    }  # fmt: skip
    for answer in facts.answers.values():
        session = facts.home[answer.nonce]
        if answer.command != "gated" or answer.tool:
            continue
        look.tried()
        known = "probe_gated" in answer.offered or (session, "probe_gated") in listed
        if not known and not answer.refused:
            what = "probe_gated did not run, and nothing says that there is such a tool."
            asked = [op for op in facts.of("tools", part=PART) if op.session == session]
            look.found(session, what, facts.posts[answer.nonce][0], answer.op, *asked)


@check("consumed-approval", "S7", "T5", "an approval was taken, and its call does not go on",
       "probe", "approvals", "read")  # fmt: skip
def consumed_approval(facts: Facts, look: Look) -> None:
    """Not even when it was given again."""
    asks = {op.session: op for op in facts.of("send", part=PART) if op.client == "probe/approvals"}
    given: dict[str | None, list[Op]] = defaultdict(list)
    for op in facts.of("approve", part=PART):
        given[op.session].append(op)
    for session, approvals in given.items():
        ask = asks.get(session)
        last = max((read for _, read in facts.last_reads(session or "")), default=None,
                   key=lambda read: read.began)  # fmt: skip
        if ask is None or not approvals[0].ok:
            continue
        answer = facts.answers.get(ask.nonce or "")
        waited = 0.0 if last is None else last.began - approvals[0].ended
        if answer is not None and not answer.tool:
            continue  # it may have said so before it was approved
        if answer is None and waited < facts.limit("stuck_seconds"):
            continue
        look.tried()
        if answer is None and last is not None:
            what = f"Approved, and {waited:.0f} s later there is no answer."
            look.found(session, what, ask, *approvals, last)
