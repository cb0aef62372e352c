"""From a history to verdicts: pure, and linear in the history's length.

What is reported, happened, and the operations that show it are named. What could not be looked for
is said to be `not testable`; it never counts as passed.
"""

import re
from collections.abc import Collection, Iterator

from sessile.verify.check import CHECKS, Check, Look, Result
from sessile.verify.checks import MODULES
from sessile.verify.facts import Facts
from sessile.verify.history import History

NEEDS = {
    "read": "reads",
    "two reads": "second way to read",
    "keys": "send.keyed (idempotency keys)",
    "exclusive": "send.exclusive (one session a user)",
    "two principals": "second principal, q",
    "resume": "stream.resume_header or resume_query",
    "slow turns": "slow_text",
    "ends of turns": "stream.events or send.events with ended and turn",
    "probe": "probe (an agent that tells what it is shown)",
    **{
        f"events.{name}": f"stream.events.{name}"
        for name in ("seq", "session", "turn", "call", "started", "ended", "texts", "progress")
    },
}
"""What a check needs, by the name that a mapping has for it where that is another."""
OF_STREAMS = re.compile(r"events\.|resume$").match
"""Whether a need is one that goes without saying where there is no stream."""
HOOKS = {
    "restart": "there is no restart hook: --restart COMMAND",
    "pause": "there is no pause hook: --pause COMMAND --resume COMMAND",
}
"""What a check needs that no mapping has."""


def judge(history: History, *, only: Collection[str] = ()) -> tuple[Result, ...]:
    """Every check's verdict, or those of `only`. Raises KeyError for a name that is none."""
    facts = Facts(history)
    wanted = [CHECKS[name] for name in only] or declared()
    return tuple(_judged(check, facts) for check in wanted)


def declared() -> list[Check]:
    """All checks, in the order in which they are reported."""
    places = [module.__name__ for module in MODULES]
    return sorted(CHECKS.values(), key=lambda check: places.index(check.find.__module__))


def _judged(check: Check, facts: Facts) -> Result:
    look = Look()
    missing = [need for need in check.needs if need not in facts.run.can]
    if "stream" not in facts.run.can and any(map(OF_STREAMS, missing)):
        missing = [
            "stream",
            *(need for need in missing if need != "stream" and not OF_STREAMS(need)),
        ]
    if not missing:
        check.find(facts, look)
    if look.findings:
        return Result(
            check=check, verdict="found", trials=look.trials, findings=tuple(look.findings),
            more=look.more,
        )  # fmt: skip
    if missing and missing[0] in HOOKS:
        return Result(check=check, verdict="not testable", trials=0, why=HOOKS[missing[0]])
    if missing:
        why = f"the mapping has no {', '.join(NEEDS.get(need, need) for need in missing)}"
        return Result(check=check, verdict="not testable", trials=0, why=why)
    if not look.trials:
        return Result(check=check, verdict="not testable", trials=0, why=look.lacks)
    return Result(check=check, verdict="passed", trials=look.trials)


def faults(results: Collection[Result]) -> Iterator[Result]:
    return (result for result in results if result.verdict == "found")
