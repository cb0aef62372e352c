"""What all attempts on a node share, and the ways in which one can end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from sessile.core.commands import Runner
from sessile.core.errors import AssistantNotHere
from sessile.core.events import JsonObject
from sessile.core.notes import Note
from sessile.core.session import Session
from sessile.ports.agent import Agent
from sessile.ports.clock import Clock, IdSource
from sessile.ports.store import Committed
from sessile.runtime.guests import Guests
from sessile.runtime.limits import Limits
from sessile.runtime.outages import WatchedStore
from sessile.runtime.telemetry import Telemetry
from sessile.runtime.threads import Threads
from sessile.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What all attempts on this node share. None of it belongs to a session."""

    store: WatchedStore
    clock: Clock
    ids: IdSource
    settings: Settings
    agents: Mapping[str, Agent]
    telemetry: Telemetry
    threads: Threads
    limits: Limits
    runner: Runner
    publish: Callable[[Committed], None]
    guests: Guests = field(default_factory=Guests)

    def note(self, request_id: str = "") -> Note:
        """Of an act that is asked for now."""
        return Note(audit_id=self.ids.audit_id(), request_id=request_id)

    def agent_of(self, session: Session) -> Agent:
        """Raises AssistantNotHere."""
        agent = self.agents.get(session.assistant)
        if agent is None:
            raise AssistantNotHere(assistant=session.assistant)
        return agent


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How an attempt ended. `released` hands the turn back; `awaiting` lets go of it until its
    approvals are answered; `lost` writes nothing more."""

    how: Literal["completed", "failed", "cancelled", "interrupted", "released", "awaiting", "lost"]
    error: JsonObject | None = None
    reason: str = ""


def failed(code: str, message: str, *, retry: bool) -> End:
    return End(how="failed", error={"code": code, "message": message, "retry": retry})


STOPS: Mapping[str, End] = {
    "cancel": End(how="cancelled", reason="asked"),
    "lost": End(how="lost"),
    "await": End(how="awaiting"),
    "drain": End(how="released"),
    "silent": failed("agent_silent", "The agent gave no sign of life in time.", retry=True),
}
