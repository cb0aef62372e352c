"""May this session use this tool? A verdict always carries its reason: no gate is invisible."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reason` is a sentence for people, and for the model that was refused."""

    tool: str
    status: Literal["allowed", "needs_grant", "needs_approval", "denied"]
    reason: str


def verdict(tool: str, *, known: bool, allowed: Iterable[str]) -> Verdict:
    """`allowed`: the assistant's allow-list, names or patterns such as `debug.*`."""
    if not known:
        return Verdict(tool=tool, status="denied", reason="The assistant has no such tool.")
    for pattern in allowed:
        if fnmatchcase(tool, pattern):
            reason = f"The assistant's allow-list has {pattern!r}."
            return Verdict(tool=tool, status="allowed", reason=reason)
    return Verdict(tool=tool, status="denied", reason="Not in the assistant's allow-list.")
