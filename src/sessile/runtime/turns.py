"""One attempt of one turn: agent, journal, and an end that is written exactly once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sessile.core.attempts import STRIKES_MAX, SUSPECT_STRIKES_MIN
from sessile.core.commands import AwaitTurn, FinishTurn, ReleaseTurn, Runner
from sessile.core.context import Holding
from sessile.core.errors import LeaseLost, SteerUnread
from sessile.core.events import Event, MessageAdded, ToolOutcome
from sessile.core.ids import Seq, SessionKey
from sessile.core.session import SessionHead
from sessile.core.transcript import History
from sessile.ports.agent import AgentFailed
from sessile.ports.notifier import Hint
from sessile.ports.store import Committed
from sessile.runtime.guests import Guest
from sessile.runtime.journal import Journal, patiently
from sessile.runtime.node import STOPS, End, Node, failed
from sessile.runtime.steps import Steps

logger = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Attempt:
    """Made from the commit that started it."""

    def __init__(
        self, node: Node, started: Committed, *, spawn: Spawn, history: History | None
    ) -> None:
        assert started.turn is not None
        assert started.head is not None
        assert started.session is not None, "the wide row comes with a start"
        self._node = node
        self._head = started.head
        self._turn = started.turn
        self._spawn = spawn
        self._closed = False
        self._stop: str | None = None
        self._guest: Guest | None = None
        self._seen = started.head.head
        self._left: list[Event] = []
        self.holding = Holding(
            key=started.head.key,
            turn_id=started.turn.turn_id,
            fence=started.head.fence,
            attempt=started.turn.attempt,
            node=node.runner.node,
        )
        self._journal = Journal(
            store=node.store,
            holding=self.holding,
            publish=self._committed,
            spawn=self._spawn_write,
            delay_seconds=node.settings.delta_milliseconds / 1000,
        )
        self._deadline = self._deadline_of(started)
        self._steps = Steps(
            node,
            holding=self.holding,
            started=started,
            journal=self._journal,
            history=history,
            on_silence=lambda: self.stop("silent"),
            on_waiting=lambda: self.stop("await"),
        )

    @property
    def key(self) -> SessionKey:
        return self.holding.key

    @property
    def suspect(self) -> bool:
        """Its last attempts were lost without a durable step."""
        return self._turn.strikes >= SUSPECT_STRIKES_MIN

    def history_after(self, ended: Committed) -> History | None:
        """What the session's next turn reads, where all of it is known here."""
        return self._steps.history_after(ended)

    def stop(self, why: str) -> None:
        """Cancel the agent; `why` is a key of STOPS. The first reason holds, but a lost lease
        overrules any. What is written when no agent runs, a recovery or an end, is left to go
        on: the store decides whether it still may. An agent that does not heed it is given up."""
        if self._closed or (self._stop is not None and why != "lost"):
            return
        self._stop = why
        if self._guest is not None:
            self._guest.stop()

    def on_hint(self, hint: Hint) -> None:
        """Something was said to this turn. What was steered in is read when the agent is next
        asked; of all else the store is asked, since a hint may be anybody's."""
        if any(entry.kind == "turn.steered" for entry in hint.entries):
            self._steps.heard()
        self._spawn(self._look())

    def on_head(self, head: Seq) -> None:
        """The log is this long, as the sweep saw: a hint may have been lost."""
        if head > self._seen and not self._closed:
            self._spawn(self._look())

    async def run(self, successor: Callable[[], Runner | None]) -> Committed | None:
        """To the turn's end. Answers the commit that ended it, which may have started the
        session's next turn for `successor`; None where the lease was lost or handed back."""
        self._steps.door.enter()
        try:
            end = await self._recovered() if self._turn.attempt > 1 else None
            if end is None:
                end = await self._guarded(self._steps.ask)
            while True:
                try:
                    return await self._finish(end, successor)
                except SteerUnread as unread:
                    if end.how == "completed" and not unread.details["cancelled"]:
                        end = await self._guarded(self._ask_again)
                    else:
                        self._steps.remains.steers = (await self._steps.refold()).steers
                        if end.how in ("completed", "released"):
                            end = STOPS["cancel"]  # decided by the head; no agent is asked again
                except LeaseLost:
                    self._refused()
                    return None
        finally:
            self._closed = True
            self._journal.seal()
            self._steps.door.close()

    # -- running the agent

    def _deadline_of(self, started: Committed) -> float:
        """An instant of the loop's. What went before is told by the store's clock, where the start
        is seen, since this node's may be another."""
        turn, entries = self._turn, started.entries
        now_ms = entries[-1].at_ms if entries else self._node.clock.now_ms()
        waited_ms = 0 if turn.awaited is None else turn.awaited.waited_ms
        spent_ms = now_ms - (turn.started_at_ms or 0) - waited_ms
        left_seconds = self._node.settings.turn_seconds_max - spent_ms / 1000
        return asyncio.get_running_loop().time() + left_seconds

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> End:
        """Whatever the agent does, the turn has an end."""
        if self._stop is not None:
            return STOPS[self._stop]
        seconds = self._deadline - asyncio.get_running_loop().time()
        guest = self._guest = Guest(work, self._node.guests)
        try:
            ended = await guest.ended(seconds=max(seconds, 0))
        finally:
            self._guest = None
        if ended:
            return self._end_of(guest)
        logger.warning("an agent goes on after its turn was stopped", extra=self._fields())
        self._journal.seal()
        self._steps.door.close()
        return self._stopped()

    def _end_of(self, guest: Guest) -> End:
        match guest.error:
            case None:
                return End(how="completed")
            case LeaseLost():
                # Lost, or closed over: then the end is the one thing that may still be written.
                return STOPS["cancel"]
            case error if self._stop is not None or guest.expired:
                if not isinstance(error, asyncio.CancelledError):
                    logger.warning(
                        "agent raised when stopped", exc_info=error, extra=self._fields()
                    )
                return self._stopped()
            case AgentFailed() as failure:
                return failed(failure.code, failure.message, retry=failure.retry)
            case error:
                return self._crashed(error)

    def _stopped(self) -> End:
        if self._stop is not None:
            return STOPS[self._stop]
        most = self._node.settings.turn_seconds_max
        return failed("turn_deadline", f"Not done within {most:g} seconds.", retry=True)

    def _crashed(self, error: BaseException) -> End:
        logger.error("agent raised", exc_info=error, extra=self._fields())
        name = type(error).__name__
        return failed(
            "agent_error", f"The agent raised {name}; the server's log has the rest.", retry=False
        )

    async def _recovered(self) -> End | None:
        """Close what the lost attempt left, before anything else; an end where that is all."""
        try:
            self._steps.remains = await self._steps.refold()
        except ValueError as error:
            return self._crashed(error)  # the log is not one that any version wrote
        self._steps.draft.text = self._steps.remains.text
        try:
            if closing := self._steps.remains.closing(self._turn.turn_id):
                await self._journal.write(*closing)
        except LeaseLost:
            # Lost, or closed over: then the end is the one thing that may still be written.
            return STOPS["cancel"]
        if self._head.cancel_turn_id == self._turn.turn_id:
            return STOPS["cancel"]
        if self._turn.strikes >= STRIKES_MAX:
            reason = f"{STRIKES_MAX} attempts in a row were lost without a step."
            return End(how="interrupted", reason=reason)
        if self._steps.remains.steers:
            self._steps.heard()
            # They may be read from now on: the end asks the log again which were not.
            self._steps.remains.steers.clear()
        return None

    # -- what is said to it

    async def _ask_again(self) -> None:
        """It has answered, but not what was steered in meanwhile."""
        answered, self._left = tuple(self._left), []
        await self._steps.ask_again(answered)

    async def _look(self) -> None:
        """A hint came, or did not come."""
        store = self._node.store
        found = await patiently(lambda: store.find(self.key))
        if found is None:
            self.stop("cancel")
        else:
            self._heed(found.head)

    def _committed(self, committed: Committed) -> None:
        self._node.publish(committed)
        if committed.head is not None:
            self._heed(committed.head)

    def _heed(self, head: SessionHead) -> None:
        """What the session's head says to this turn, whether or not a hint came."""
        self._seen = max(self._seen, head.head)
        if head.cancel_turn_id == self._turn.turn_id:
            self.stop("cancel")
        elif head.steers_unread:
            self._steps.heard()

    # -- the end

    async def _finish(self, end: End, successor: Callable[[], Runner | None]) -> Committed | None:
        if end.how == "lost" or self._stop == "lost":
            return None
        node = self._node
        how = end.how
        if how == "released" or how == "awaiting":
            try:
                await (self._release() if how == "released" else self._await())
            except LeaseLost:
                how = "cancelled"  # lost; or closed over, and then the end is still ours to write
            else:
                return None
        # What was steered in and had not reached the agent becomes a turn, and no message of this.
        self._left.extend(e for e in await self._journal.drain() if not _delivers(e))
        if (message := self._steps.draft.end_open(whole=how == "completed")) is not None:
            self._left.append(message)
        command = FinishTurn(
            holding=self.holding,
            step=self._journal.step,
            end=how,
            output=self._steps.draft.text,
            error=end.error,
            reason=end.reason,
            progress=self._steps.draft.progress,
            closing=(*self._left, *self._steps.open_calls()),
            unread=() if how == "completed" else tuple(self._steps.remains.steers.values()),
            successor=successor(),
        )
        committed = await patiently(lambda: node.store.transact(self.key, command))
        node.publish(committed)
        if open_ids := self._steps.remains.calls.open_ids:
            ended = {each.call_id for each in command.closing if isinstance(each, ToolOutcome)}
            node.telemetry.orphans.inc(len(open_ids - ended))
        return committed

    async def _release(self) -> None:
        """Hand the turn back. What it has done is written first: a tool's outcome above all."""
        left, self._left = tuple(self._left), []
        await self._journal.settle(*left)
        node, released = self._node, ReleaseTurn(holding=self.holding)
        node.publish(await patiently(lambda: node.store.transact(self.key, released)))

    async def _await(self) -> None:
        """Ask for approvals, and let go of the turn until they are answered."""
        self._left.extend(e for e in await self._journal.drain() if not _delivers(e))
        command = AwaitTurn(
            holding=self.holding,
            step=self._journal.step,
            asked=self._steps.parked,
            open_calls=self._steps.calls_without_outcome(),
            expires_ms=int(self._node.settings.approval_seconds_max * 1000),
            output=self._steps.draft.text,
            open_message_id=self._steps.draft.open_message_id,
            closing=(*self._left, *self._steps.draft.take()),
        )
        node = self._node
        node.publish(await patiently(lambda: node.store.transact(self.key, command)))

    def _refused(self) -> None:
        self._node.telemetry.fence_refusals.inc()
        logger.warning("late write refused", extra=self._fields())

    def _spawn_write(self, write: Coroutine[Any, Any, None]) -> None:
        self._spawn(self._written(write))

    async def _written(self, write: Coroutine[Any, Any, None]) -> None:
        try:
            await write
        except LeaseLost:
            self.stop("cancel")

    def _fields(self) -> dict[str, object]:
        return {
            "tenant_id": self.key.tenant_id,
            "session_id": self.key.session_id,
            "turn_id": self._turn.turn_id,
            "fence": self.holding.fence,
        }


def _delivers(event: Event) -> bool:
    return isinstance(event, MessageAdded) and event.steer_id is not None
