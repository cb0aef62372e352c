"""Faults that are planted on purpose: the simulation has to find each of them.

They stand here, around the parts that they break, and leave no switch in what they break.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from tests.runtime.rig import Rig
from tests.simulation.agents import KeepsContext
from tests.simulation.store import DicedStore
from tests.simulation.world import Plant

from sessile.adapters.memory import MemoryStore
from sessile.adapters.memory.rows import Kept
from sessile.core.attempts import check_append
from sessile.core.commands import (
    AnswerApproval,
    AwaitTurn,
    Command,
    Decision,
    FinishTurn,
    Named,
    View,
    named,
)
from sessile.core.context import Holding
from sessile.core.decide import decide
from sessile.core.errors import LeaseLost
from sessile.core.events import (
    TERMINAL_KINDS,
    ApprovalDenied,
    ApprovalGranted,
    Entry,
    Event,
    MessageAdded,
    ToolCompleted,
    ToolStarted,
    TurnCompleted,
)
from sessile.core.ids import NodeId, Seq, SessionKey, TurnId, UserId
from sessile.core.policy import Verdict
from sessile.core.session import Turn
from sessile.core.transcript import History
from sessile.ports.agent import Tool
from sessile.ports.store import Committed
from sessile.runtime.door import TurnDoor
from sessile.runtime.steps import Steps
from sessile.runtime.tools import TurnTools


class FenceRemoved(MemoryStore):
    """Whoever writes for the running turn is let through."""

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        if (kept := self._kept.get(holding.key)) is not None:
            holding = replace(holding, fence=kept.head.fence)
            step = kept.lease.step
        return await super().append(holding, step, events)

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        if isinstance(command, FinishTurn) and (kept := self._kept.get(key)) is not None:
            holding = replace(command.holding, fence=kept.head.fence)
            command = replace(command, holding=holding, step=kept.lease.step)
        return await super().transact(key, command)


class LooksThenWrites(MemoryStore):
    """A transaction in two halves, for `LockRemoved`."""

    async def look(self, key: SessionKey, command: Command) -> View:
        view = self._view(key, named(command))
        return replace(view, turns=dict(view.turns))

    async def write(self, key: SessionKey, command: Command, view: View) -> Committed:
        decision = decide(view, command)
        session_id = decision.session_id or key.session_id
        once = named(command).once
        if decision.deleted or (once is not None and not decision.repeated):
            # The row is unique: it is the one thing that two writers cannot both do.
            return await super().transact(key, command)
        return self._apply(key, view, decision, session_id)


class LockRemoved(DicedStore):
    """Reads, decides on what it read, and writes a moment later."""

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        memory = self._store._store  # type: ignore[attr-defined]
        view = await self._call(lambda: memory.look(key, command))
        return await self._call(lambda: memory.write(key, command, view))


class LeaseNotRenewed(MemoryStore):
    """Says that it renewed the leases."""

    async def renew(self, node: NodeId, holdings: Any, *, lease_ms: int) -> frozenset[SessionKey]:
        return frozenset()


class Halves(MemoryStore):
    async def append_first_half(self, holding: Holding, step: int, events: Any) -> Committed:
        """Without a step: that comes with the second half."""
        committed = await self.append(holding, step, events)
        kept = self._kept[holding.key]
        kept.lease = replace(kept.lease, step=step)
        return committed


class AppendInTwo(DicedStore):
    """An append that is two transactions, each of which may be asked for again."""

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        half = len(events) // 2
        if half:
            memory, first = self._store._store, tuple(events[:half])  # type: ignore[attr-defined]
            await self._call(lambda: memory.append_first_half(holding, step, first), again=True)
        return await super().append(holding, step, events[half:])


class EndsTwice(MemoryStore):
    """An end that is asked for again is written again."""

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        kept = self._kept.get(key)
        if isinstance(command, FinishTurn) and kept is not None:
            turn = kept.turns[command.holding.turn_id]
            if turn.ended and turn.attempt == command.holding.attempt:
                again = TurnCompleted(turn_id=turn.turn_id, output=command.output)
                view = self._view(key, named(command))
                return self._apply(key, view, Decision(events=(again,)), key.session_id)
        return await super().transact(key, command)


class MessagesUnfenced(MemoryStore):
    """A message is taken from whoever brings it."""

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        try:
            return await super().append(holding, step, events)
        except LeaseLost:
            said = tuple(event for event in events if isinstance(event, MessageAdded))
            if said and holding.key in self._kept:
                view = self._view(holding.key, Named())
                self._apply(holding.key, view, Decision(events=said), holding.key.session_id)
            raise


class StepsUnchecked(MemoryStore):
    """An append that is asked for again is written again."""

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        if (kept := self._kept.get(holding.key)) is not None:
            view = View(now_ms=0, head=kept.head, lease=kept.lease)
            if not check_append(view, holding, step=step):
                step = kept.lease.step
        return await super().append(holding, step, events)


class AnswersAgain(MemoryStore):
    """An answer that is given again is written again."""

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        kept = self._kept.get(key)
        running = None if kept is None else kept.head.running_turn_id
        if isinstance(command, AnswerApproval) and kept is not None and running is not None:
            awaited = kept.turns[running].awaited
            if awaited is not None and command.call_id in awaited.answers:
                by, view = command.principal.user_id, self._view(key, named(command))
                answer = ApprovalGranted if command.granted else ApprovalDenied
                again = answer(turn_id=running, call_id=command.call_id, by=by, unanswered=0)
                return self._apply(
                    key, view, Decision(events=(again,), turn_id=running), key.session_id
                )
        return await super().transact(key, command)


class WaitsForEver(MemoryStore):
    """What nobody answers never expires."""

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        if isinstance(command, AwaitTurn):
            command = replace(command, expires_ms=10**9)
        return await super().transact(key, command)


class KeepsKeys(MemoryStore):
    """What was answered to the keys of a session stays when it is deleted."""

    def _delete(self, key: SessionKey) -> Committed:
        remembered = dict(self._remembered)
        done = super()._delete(key)
        self._remembered.update(remembered)
        return done


class TakesForksAlong(MemoryStore):
    """What was forked from a session goes with it."""

    def _delete(self, key: SessionKey) -> Committed:
        for fork, line in list(self.records._forks.items()):
            if key in line and fork in self._kept:
                super()._delete(fork)
        return super()._delete(key)


class BringsBack(MemoryStore):
    """An append finds its session though it was deleted."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._gone: dict[SessionKey, Kept] = {}

    def _delete(self, key: SessionKey) -> Committed:
        self._gone[key] = self._kept[key]
        return super()._delete(key)

    async def append(self, holding: Holding, step: int, events: Sequence[Event]) -> Committed:
        if (gone := self._gone.get(holding.key)) is not None:
            self._kept.setdefault(holding.key, gone)
        return await super().append(holding, step, events)


def deletes_by_hints_only(rig: Rig) -> None:
    """Readers hear of a delete by nothing but its hint."""
    swept = rig.feed.swept
    there = lambda asked, heads: swept([key for key in asked if key in heads], heads)  # noqa: E731
    rig.feed.swept = there  # type: ignore[method-assign]


def hints_only(rig: Rig) -> None:
    """Readers hear of nothing but by hints."""
    rig.feed.swept = lambda *_: None  # type: ignore[method-assign]


@contextmanager
def unguarded_door() -> Iterator[None]:
    """Contexts never expire and fit any turn."""
    with patch.object(TurnDoor, "check", lambda _: None):
        yield


@contextmanager
def forgets_the_end() -> Iterator[None]:
    """A chained turn is shown what was appended, but not what the end before it carried."""

    def history_after(self: Steps, ended: Committed) -> History | None:
        if ended.repeated or self.history is None:
            return None
        turn_id = self._turn.turn_id
        return self.history.extended(e for e in ended.entries if e.turn_id != turn_id)

    with patch.object(Steps, "history_after", history_after):
        yield


@contextmanager
def runs_again() -> Iterator[None]:
    """What is in the log is run again."""
    original = TurnTools.call

    async def call(self: TurnTools, name: str, *args: Any, **named: Any) -> Any:
        self._calls.outcomes.clear()
        return await original(self, name, *args, **named)

    with patch.object(TurnTools, "call", call):
        yield


@contextmanager
def judged_otherwise(was: str, status: str) -> Iterator[None]:
    """A call that asks for an approval gets another verdict than its answer says."""
    original = TurnTools._judged

    async def judged(
        self: TurnTools, begun: ToolStarted, tool: Tool | None, *, brought: bool, asks: bool
    ) -> Verdict:
        said = await original(self, begun, tool, brought=brought, asks=asks)
        if tool is None or not tool.approval or said.status != was:
            return said
        return replace(said, status=status)

    with patch.object(TurnTools, "_judged", judged):
        yield


@contextmanager
def starts_unwritten() -> Iterator[None]:
    """A call runs before its start is durable."""

    async def start(self: TurnTools, begun: ToolStarted) -> None:
        self._calls.started[begun.call_id] = begun
        self._journal.put(begun)

    with patch.object(TurnTools, "_start", start):
        yield


@contextmanager
def unauthorised() -> Iterator[None]:
    """No store asks whether the session has the grant."""

    def written(view: View, events: Iterable[Event]) -> tuple[Event, ...]:
        return tuple(events)

    with patch("sessile.adapters.memory.store.authorised", written):
        yield


@contextmanager
def copies_too_much() -> Iterator[None]:
    """A fork has what was said until the next turns' ends, too."""

    async def end(log: AsyncIterator[Entry], turn_id: TurnId) -> Seq:
        return [entry.seq async for entry in log if entry.kind in TERMINAL_KINDS][-1]

    with patch("sessile.runtime.sessions.end_of", end):
        yield


@contextmanager
def expiry_approves() -> Iterator[None]:
    """What nobody answered in time goes through."""

    def granted(turn: Turn, *, by: UserId | None, reason: str) -> Iterator[ApprovalGranted]:
        waiting = () if turn.awaited is None else turn.awaited.unanswered
        for left, call_id in enumerate(reversed(waiting)):
            yield ApprovalGranted(
                turn_id=turn.turn_id, call_id=call_id, by=UserId(""), unanswered=left
            )

    with patch("sessile.core.attempts.denials", granted):
        yield


@contextmanager
def forgets_the_parent() -> Iterator[None]:
    """A call's outcome does not say from within which call it was made."""
    original = ToolStarted.completed

    def completed(self: ToolStarted, result: Any) -> ToolCompleted:
        return replace(original(self, result), parent_call_id=None)

    with patch.object(ToolStarted, "completed", completed):
        yield


FAULTS: dict[str, Plant] = {
    "fence removed": Plant(memory=FenceRemoved),
    "lock removed": Plant(memory=LooksThenWrites, store=LockRemoved),
    "lease not renewed": Plant(memory=LeaseNotRenewed),
    "append split in two": Plant(memory=Halves, store=AppendInTwo),
    "context cached by a tool": Plant(tool=KeepsContext),
    "context cached by a tool, and no guard": Plant(tool=KeepsContext, around=unguarded_door),
    "terminal event written twice": Plant(memory=EndsTwice),
    "hints only, and no sweep": Plant(node=hints_only),
    "message added without the fence": Plant(memory=MessagesUnfenced),
    "append retried without its step": Plant(memory=StepsUnchecked),
    "chained turn not shown the reply before it": Plant(around=forgets_the_end),
    "completed tools run again": Plant(around=runs_again),
    "approval answered twice": Plant(memory=AnswersAgain),
    "denied call runs": Plant(around=lambda: judged_otherwise("denied", "allowed")),
    "approved call does not run": Plant(around=lambda: judged_otherwise("allowed", "denied")),
    "expired call is approved": Plant(around=expiry_approves),
    "call runs before its start is durable": Plant(around=starts_unwritten),
    "grant not looked for when a call starts": Plant(around=unauthorised),
    "wait without an end": Plant(memory=WaitsForEver),
    "outcome without its parent": Plant(around=forgets_the_parent),
    "keys left by a delete": Plant(memory=KeepsKeys),
    "append brings a deleted session back": Plant(memory=BringsBack),
    "delete told by its hint only": Plant(node=deletes_by_hints_only),
    "forks deleted with their origin": Plant(memory=TakesForksAlong),
    "fork cut at a later turn": Plant(around=copies_too_much),
}
