"""What a check is, and what it comes to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from sessile.verify.facts import Facts
from sessile.verify.history import Op

Verdict = Literal["found", "passed", "not testable"]
FINDINGS_MAX = 20
"""Of one check; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`what`: one sentence, of what happened. `ops`: the operations that show it, in order."""

    what: str
    session: str | None
    ops: tuple[int, ...]


@dataclass(slots=True)
class Look:
    """What a check tells while it looks. `lacks`: what would have let it look."""

    trials: int = 0
    lacks: str = "the run did nothing that would show it"
    more: int = 0
    findings: list[Finding] = field(default_factory=list[Finding])

    def tried(self, times: int = 1) -> None:
        self.trials += times

    def found(self, session: str | None, what: str, *ops: Op) -> None:
        if len(self.findings) >= FINDINGS_MAX:
            self.more += 1
            return
        numbers = tuple(sorted({op.number for op in ops}))
        self.findings.append(Finding(what, session, numbers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`needs`: of what a mapping has, all of these; else the check is not testable. `kind`: the
    class of fault that it belongs to. `tier`: what it takes to see it."""

    name: str
    kind: str
    tier: str
    about: str
    needs: tuple[str, ...]
    find: Callable[[Facts, Look], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """`why`: of what is not testable. `trials`: how often it was looked for."""

    check: Check
    verdict: Verdict
    trials: int
    findings: tuple[Finding, ...] = ()
    more: int = 0
    why: str = ""


CHECKS: dict[str, Check] = {}


def check(
    name: str, kind: str, tier: str, about: str, *needs: str
) -> Callable[[Callable[[Facts, Look], None]], Callable[[Facts, Look], None]]:
    """Registers a check; they are reported in the order in which they are declared."""

    def declare(find: Callable[[Facts, Look], None]) -> Callable[[Facts, Look], None]:
        assert name not in CHECKS, f"{name} is declared twice"
        CHECKS[name] = Check(
            name=name, kind=kind, tier=tier, about=about, needs=("send", *needs), find=find
        )
        return find

    return declare
