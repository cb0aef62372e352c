"""What is left when the server was killed and started again?"""

from collections import defaultdict
from collections.abc import Iterable

from sessile.verify.check import Look, check
from sessile.verify.facts import Facts, nonces, texts
from sessile.verify.history import Op

GONE = (404, 410)


@check("session-amnesia", "S10", "T4", "what was accepted is gone after a restart", "restart",
       "read")  # fmt: skip
def session_amnesia(facts: Facts, look: Look) -> None:
    """A message that was in no history yet is missed where its turn is not told to have failed,
    or to be under way still."""
    restart = next(facts.of("restart"), None)
    if restart is None:
        return
    if not restart.ok:
        look.lacks = f"the server was not restarted: {restart.reply}"
        return
    look.lacks = "nothing could be read after the restart"
    reads = list(facts.of("read", part="restart"))
    before = _by_session(op for op in reads if op.ended <= restart.began)
    sends = _by_session(op for op in facts.of("send", part="restart") if op.ended <= restart.began)
    states = {
        op.turn: op.said["state"] for op in facts.of("turn", part="restart")
        if op.ok and op.began >= restart.ended
    }  # fmt: skip
    for session, after in _by_session(op for op in reads if op.began >= restart.ended).items():
        last = after[-1]
        if last.status in GONE:
            look.tried()
            what = f"{session} was there before the restart and is {last.status} after it."
            look.found(session, what, facts.born[session], restart, last)
            continue
        had = _last(before[session])
        for path, read in _last(after).items():
            look.tried()
            earlier, has = had.get(path), set(nonces(*texts(read)))
            seen = set(nonces(*texts(earlier))) if earlier is not None else set[str]()
            lost = [
                send for send in sends[session]
                if send.ok and send.nonce not in has
                and (send.nonce in seen or states.get(send.said.get("turn")) in (None, "completed"))
            ]  # fmt: skip
            if lost:
                what = f"{lost[0].nonce} was accepted before the restart and is not in {path}."
                look.found(session, what, lost[0], restart, read)
            elif earlier is not None and _length(read) < _length(earlier):
                what = f"{path} had {_length(earlier)} messages and has {_length(read)} after it."
                look.found(session, what, earlier, restart, read)


def _by_session(ops: Iterable[Op]) -> dict[str, list[Op]]:
    found: dict[str, list[Op]] = defaultdict(list)
    for op in ops:
        if op.session is not None:
            found[op.session].append(op)
    return found


def _last(reads: Iterable[Op]) -> dict[str, Op]:
    """By path."""
    return {op.said["path"]: op for op in reads if op.ok and "more" not in op.said}


def _length(read: Op) -> int:
    return sum(item["role"] in ("user", "assistant", "") for item in read.said["items"])
