"""Does it stay as fast?"""

from collections import defaultdict
from statistics import median

from sessile.verify.check import Look, check
from sessile.verify.facts import Facts
from sessile.verify.history import Op

WINDOW = 10
NOISE_SECONDS = 0.05
"""What a busy machine adds by itself."""


@check("linear-history-cost", "S11", "TL", "a turn costs more the longer its session is")
def linear_history_cost(facts: Facts, look: Look) -> None:
    by_session: dict[str, list[Op]] = defaultdict(list)
    for op in facts.of("send", part="long"):
        if op.ok:
            by_session[op.session or ""].append(op)
    for session, sends in by_session.items():
        if len(sends) < 4 * WINDOW:
            continue
        look.tried()
        early, late = sends[WINDOW : 2 * WINDOW], sends[-WINDOW:]
        first, last = (median(op.ended - op.began for op in ops) for ops in (early, late))
        if last > max(first * facts.limit("growth_ratio"), first + NOISE_SECONDS):
            what = (
                f"The {len(sends)}th turn took {last * 1000:.1f} ms, the {2 * WINDOW}th"
                f" {first * 1000:.1f} ms."
            )
            look.found(session, what, early[-1], late[-1])


@check("cross-session-contention", "S11", "TL", "one session's work slows the others")
def cross_session_contention(facts: Facts, look: Look) -> None:
    alone = [op.ended - op.began for op in facts.of("send", part="alone") if op.ok]
    beside = [op for op in facts.of("send", part="beside") if op.ok]
    if len(alone) < WINDOW or len(beside) < WINDOW:
        return
    look.tried()
    before, after = median(alone), median(op.ended - op.began for op in beside)
    if after > max(before * facts.limit("contention_ratio"), before + NOISE_SECONDS):
        what = f"{before * 1000:.1f} ms alone, {after * 1000:.1f} ms beside a busy session."
        slowest = max(beside, key=lambda op: op.ended - op.began)
        look.found(slowest.session, what, slowest)
