"""May this session use this tool? A verdict always carries its reason: no gate is invisible."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`reason` is a sentence for people, and for the model that was refused. `grant`: what the
    tool needs, whether the session has it or not."""

    tool: str
    status: Literal["allowed", "needs_grant", "needs_approval", "denied"]
    reason: str
    grant: str | None = None


def verdict(
    tool: str,
    *,
    known: bool,
    allowed: Iterable[str],
    grant: str | None = None,
    grants: Collection[str] = (),
    approval: bool = False,
) -> Verdict:
    """`allowed`: the assistant's allow-list, names or patterns such as `debug.*`. `grant`: what
    the tool needs, of the session's `grants`. `approval`: each call asks a person."""
    if not known:
        return Verdict(tool=tool, status="denied", reason="The assistant has no such tool.")
    pattern = next((each for each in allowed if fnmatchcase(tool, each)), None)
    if pattern is None:
        return Verdict(
            tool=tool, status="denied", reason="Not in the assistant's allow-list.", grant=grant
        )
    if grant is not None and grant not in grants:
        return Verdict(tool=tool, status="needs_grant", reason=needs_grant(grant), grant=grant)
    if approval:
        reason = "Each call waits until a person approves it."
        return Verdict(tool=tool, status="needs_approval", reason=reason, grant=grant)
    reason = f"The assistant's allow-list has {pattern!r}."
    return Verdict(tool=tool, status="allowed", reason=reason, grant=grant)


def needs_grant(grant: str) -> str:
    """Why not, and how to get it."""
    return (
        f"This needs the grant {grant!r}, which the session does not have. An operator or admin"
        " gives it: PUT /v1/sessions/{session_id}/grants."
    )
