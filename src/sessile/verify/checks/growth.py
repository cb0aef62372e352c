"""Does it stay as fast?"""

from itertools import groupby
from statistics import median

from sessile.verify.check import Look, check
from sessile.verify.facts import Facts
from sessile.verify.history import Op

WINDOW = 10
NOISE_SECONDS = 0.1
"""What a busy machine adds by itself."""


@check("linear-history-cost", "S11", "TL", "a turn costs more the longer its session is")
def linear_history_cost(facts: Facts, look: Look) -> None:
    """More than when the session was short, and than in one that is short at the same time: else
    the machine has become slower."""
    sends = [op for op in facts.of("send", part="long") if op.ok]
    short = [op for op in facts.of("send", part="short") if op.ok]
    if len(sends) < 3 * WINDOW or len(short) < WINDOW // 2:
        look.lacks = f"the long session had {len(sends)} turns, and it takes {3 * WINDOW}"
        return
    look.tried()
    early, late = sends[WINDOW : 2 * WINDOW], sends[-WINDOW:]
    first, last, beside = _seconds(early), _seconds(late), _seconds(short)
    if _more(last, max(first, beside), facts.limit("growth_ratio")):
        what = (
            f"The {len(sends)}th turn took {last * 1000:.1f} ms, the {2 * WINDOW}th"
            f" {first * 1000:.1f} ms; in a short session it took {beside * 1000:.1f} ms."
        )
        look.found(late[-1].session, what, early[-1], late[-1], short[-1])


@check("cross-session-contention", "S11", "TL", "one session's work slows the others")
def cross_session_contention(facts: Facts, look: Look) -> None:
    """Each time that another was busy, and never when none was."""
    sends = sorted(facts.of("send"), key=lambda op: op.began)
    measured = [op for op in sends if op.ok and op.part in ("alone", "beside")]
    rounds = [list(ops) for _, ops in groupby(measured, key=lambda op: op.part)]
    alone = [_seconds(ops) for ops in rounds if ops[0].part == "alone"]
    beside = [_seconds(ops) for ops in rounds if ops[0].part == "beside"]
    if len(beside) < 2 or len(alone) <= len(beside):
        look.lacks = "the backend is too slow, or took too few of the messages"
        return
    look.tried()
    before, after = max(alone), min(beside)
    if _more(after, before, facts.limit("contention_ratio")):
        what = f"{before * 1000:.1f} ms alone, {after * 1000:.1f} ms beside a busy session."
        slowest = max((op for op in measured if op.part == "beside"), key=_took)
        look.found(slowest.session, what, measured[0], slowest)


def _took(op: Op) -> float:
    return op.ended - op.began


def _seconds(ops: list[Op]) -> float:
    return median(map(_took, ops))


def _more(one: float, other: float, ratio: float) -> bool:
    return one > max(other * ratio, other + NOISE_SECONDS)
