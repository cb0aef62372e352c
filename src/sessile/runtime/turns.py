"""One attempt of one turn: agent, journal, and an end that is written exactly once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sessile.core.attempts import STRIKES_MAX, user_message
from sessile.core.commands import FinishTurn, ReleaseTurn, Runner
from sessile.core.context import Holding, Identity, TurnContext
from sessile.core.errors import LeaseLost, SteerUnread
from sessile.core.events import Entry, Event, JsonObject, Progress, ToolStarted
from sessile.core.ids import Seq, SessionKey
from sessile.core.session import SessionHead
from sessile.core.transcript import History, Message, messages
from sessile.ports.agent import Agent, AgentFailed, MessageEnd, TextDelta, ThinkingDelta
from sessile.ports.notifier import Hint
from sessile.ports.store import Committed
from sessile.runtime.door import TurnDoor
from sessile.runtime.draft import Draft
from sessile.runtime.journal import Journal, patiently
from sessile.runtime.node import STOPS, End, Node, failed
from sessile.runtime.recovery import Remains, turn_entries
from sessile.runtime.tools import TurnTools, interrupted
from sessile.runtime.watch import Watch

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
        self._session = started.session
        self._turn = started.turn
        self._fresh = started.entries
        self._history = history
        self._remains = Remains()
        self._spawn = spawn
        self._closed = False
        self._stop: str | None = None
        self._stoppable = False
        self._task: asyncio.Task[Any] | None = None
        self._steered = False
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
        self._draft = Draft(
            turn=started.turn, ids=node.ids, chars_max=node.settings.output_chars_max
        )
        self._journal.buffered = self._draft.take
        self._door = TurnDoor(
            telemetry=node.telemetry,
            add_text=self._add_text,
            note_progress=self._note_progress,
        )

    @property
    def key(self) -> SessionKey:
        return self.holding.key

    @property
    def suspect(self) -> bool:
        """Its last attempt was lost without a durable step."""
        return self._turn.strikes > 0

    @property
    def history(self) -> History | None:
        """The session's history with what this attempt said, where all of it is known."""
        if self._history is None or not self._journal.said_is_whole:
            return None
        most = self._node.settings.history_entries_max
        return self._history.extended(self._journal.said).bounded(most)

    def history_after(self, ended: Committed) -> History | None:
        """The same with what the commit that ended it said: what the session's next turn reads."""
        before = self.history
        return None if before is None or ended.repeated else before.extended(ended.entries)

    def stop(self, why: str) -> None:
        """Cancel the agent; `why` is a key of STOPS. The first reason holds, but a lost lease
        overrules any. What is written when no agent runs, a recovery or an end, is left to go
        on: the store decides whether it still may."""
        if self._closed or (self._stop is not None and why != "lost"):
            return
        self._stop = why
        if self._stoppable and self._task is not None:
            self._task.cancel()

    def on_hint(self, hint: Hint) -> None:
        """Something was said to this turn; without entries the log is asked what."""
        if not hint.entries:
            self._spawn(self._look())
        for entry in hint.entries:
            if entry.kind == "turn.steered":
                self._steered = True
            elif entry.kind == "session.closed" or (
                entry.kind == "turn.cancel_requested" and entry.turn_id == self._turn.turn_id
            ):
                self.stop("cancel")

    def on_head(self, head: Seq) -> None:
        """The log is this long, as the sweep saw: a hint may have been lost."""
        if head > self._seen and not self._closed:
            self._spawn(self._look())

    async def run(self, successor: Callable[[], Runner | None]) -> Committed | None:
        """To the turn's end. Answers the commit that ended it, which may have started the
        session's next turn for `successor`; None where the lease was lost or handed back."""
        self._task = asyncio.current_task()
        self._door.enter()
        try:
            end = await self._recovered() if self._turn.attempt > 1 else None
            if end is None:
                end = await self._guarded(self._run_agent)
            while True:
                try:
                    return await self._finish(end, successor)
                except SteerUnread as unread:
                    if end.how == "completed" and not unread.details["cancelled"]:
                        end = await self._guarded(self._next_leg)
                    else:
                        self._remains.steers = (await self._refold()).steers
                        if end.how in ("completed", "released"):
                            end = STOPS["cancel"]  # decided by the head; no agent is asked again
                except LeaseLost:
                    self._refused()
                    return None
                except asyncio.CancelledError:
                    # Stopped by what its own commit told: its fate is settled by asking again.
                    self._swallow_stop()
        finally:
            self._closed = True
            self._journal.stop()
            self._door.close()

    # -- running the agent

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> End:
        """Whatever the agent does, the turn has an end."""
        if self._stop is not None:
            return STOPS[self._stop]
        started_at_ms = self._turn.started_at_ms or 0
        settings, now_ms = self._node.settings, self._node.clock.now_ms()
        seconds = settings.turn_seconds_max - (now_ms - started_at_ms) / 1000
        deadline = asyncio.timeout(max(seconds, 0))
        self._stoppable = True
        try:
            async with deadline:
                await work()
            return End(how="completed")
        except AgentFailed as failure:
            return failed(failure.code, failure.message, retry=failure.retry)
        except LeaseLost:
            # Lost, or closed over: then the end is the one thing that may still be written.
            return STOPS["cancel"]
        except asyncio.CancelledError:
            return STOPS[self._swallow_stop()]
        except TimeoutError:
            if deadline.expired():
                most = settings.turn_seconds_max
                return failed("turn_deadline", f"Not done within {most:g} seconds.", retry=True)
            return self._crashed("TimeoutError")
        except Exception as error:  # noqa: BLE001  a guest's code ends here
            return self._crashed(type(error).__name__)
        finally:
            self._stoppable = False

    def _crashed(self, name: str) -> End:
        logger.exception("agent raised", extra=self._fields())
        return failed(
            "agent_error", f"The agent raised {name}; the server's log has the rest.", retry=False
        )

    def _swallow_stop(self) -> str:
        """Our own cancellation ends here; anybody else's goes on."""
        if self._stop is None:
            raise asyncio.CancelledError
        assert self._task is not None
        while self._task.uncancel():
            pass
        return self._stop

    async def _recovered(self) -> End | None:
        """Close what the lost attempt left, before anything else; an end where that is all."""
        self._node.telemetry.attempts_recovered.inc()
        try:
            self._remains = await self._refold()
        except ValueError:
            return self._crashed("ValueError")  # the log is not one that any version wrote
        self._draft.text = self._remains.text
        try:
            if closing := self._remains.closing(self._turn.turn_id):
                await self._journal.write(*closing)
        except LeaseLost:
            # Lost, or closed over: then the end is the one thing that may still be written.
            return STOPS["cancel"]
        if self._head.cancel_turn_id == self._turn.turn_id:
            return STOPS["cancel"]
        if self._turn.strikes >= STRIKES_MAX:
            reason = f"{STRIKES_MAX} attempts in a row were lost without a step."
            return End(how="interrupted", reason=reason)
        self._steered = bool(self._remains.steers)
        return None

    async def _run_agent(self) -> None:
        agent = self._node.agents.get(self._session.assistant)
        if agent is None:
            name = self._session.assistant
            raise AgentFailed("unknown_assistant", f"This server has no assistant {name!r}.")
        if self._history is None:
            self._journal.said_since_here()
            self._history = await self._read_history() if agent.reads_history else History(())
        tools = self._tools(agent)
        stream = agent.run(self._context(), self._history, tools)
        watch = Watch(
            settings=self._node.settings,
            busy=lambda: tools.busy,
            on_silence=lambda: self.stop("silent"),
        )
        said_before = self._remains.messages if agent.restarts else 0
        try:
            async for event in stream:
                watch.seen()
                if said_before:
                    said_before -= isinstance(event, MessageEnd)
                    continue
                match event:
                    case TextDelta(text):
                        self._add_text(text)
                    case ThinkingDelta(text):
                        self._add_text(text, thinking=True)
                    case MessageEnd(parts):
                        await self._end_message(parts)
                    case Progress():
                        self._note_progress(event)
        finally:
            watch.stop()
            if (close := getattr(stream, "aclose", None)) is not None:
                await close()

    def _tools(self, agent: Agent) -> TurnTools:
        return TurnTools(
            turn_id=self._turn.turn_id,
            agent=agent,
            calls=self._remains.calls,
            journal=self._journal,
            ids=self._node.ids,
            settings=self._node.settings,
            threads=self._node.threads,
            context=self._context,
            steered=self._take_steered,
        )

    def _context(self) -> TurnContext:
        self._door.check()
        session, turn = self._session, self._turn
        identity = Identity(
            tenant_id=self.key.tenant_id,
            user_id=session.user_id,
            session_id=self.key.session_id,
            turn_id=turn.turn_id,
            fence=self.holding.fence,
            attempt=turn.attempt,
            assistant=session.assistant,
            grants=session.grants,
            input=turn.input,
        )
        return TurnContext(identity, self._door, self._history or History(()))

    async def _read_history(self) -> History:
        """From the log, at most the setting's entries, from the last summary on."""
        most = self._node.settings.history_entries_max
        if self._fresh and self._fresh[0].seq == 2:
            return History(self._fresh)  # the session's first turn: nothing else has been said
        store = self._node.store
        entries = await patiently(
            lambda: store.read(self.key, history=True, newest_first=True, limit=most)
        )
        return History(reversed(entries)).bounded(most)

    def _add_text(self, text: str, *, thinking: bool = False) -> None:
        self._draft.add(text, thinking=thinking)
        self._journal.flush_soon()

    def _note_progress(self, progress: Progress, note: str = "") -> None:
        if self._draft.note_progress(progress, note):
            self._journal.flush_soon()

    async def _end_message(self, parts: tuple[JsonObject, ...] | None) -> None:
        message = self._draft.end(parts)
        calls = [part for part in message.parts if part["type"] == "tool_call"]
        for part in calls:
            self._remains.calls.announced[part["call_id"]] = (part["name"], part["arguments"])
        if calls:
            await self._journal.write(message)
        else:
            self._journal.put(message)

    # -- steering

    async def _refold(self) -> Remains:
        """The turn so far, from the log."""
        remains = Remains()
        remains.fold(await self._entries(), self._turn.turn_id)
        return remains

    async def _entries(self) -> list[Entry]:
        page = self._node.settings.page_entries_max
        store, turn_id = self._node.store, self._turn.turn_id
        return await patiently(lambda: turn_entries(store, self.key, turn_id, page=page))

    async def _take_steered(self) -> tuple[Message, ...]:
        if not self._steered:
            return ()
        self._steered = False
        steers = tuple((await self._refold()).steers.values())
        already = len(self._journal.said)
        await self._journal.write(
            *(user_message(s.turn_id, s.message_id, s.input, steer_id=s.steer_id) for s in steers)
        )
        said = (
            self._journal.said[already:] if self._journal.said_is_whole else await self._entries()
        )
        delivered = {steer.message_id for steer in steers}
        return tuple(message for message in messages(said) if message.message_id in delivered)

    async def _next_leg(self) -> None:
        """The agent has answered, but not what was steered in meanwhile: ask it again."""
        closing = (*self._left, *self._open_calls())
        self._left.clear()
        self._remains.take_in(closing)
        self._journal.resume()
        await self._journal.write(*closing)
        self._steered = True
        await self._take_steered()
        self._remains.calls.unnamed.clear()
        self._remains.messages = 0
        self._history, self._fresh = self.history, ()
        self._journal.said_since_here()
        await self._run_agent()

    async def _look(self) -> None:
        """A hint came without its entries, or did not come."""
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
            self._steered = True

    # -- the end

    async def _finish(self, end: End, successor: Callable[[], Runner | None]) -> Committed | None:
        if end.how == "lost" or self._stop == "lost":
            return None
        node = self._node
        how = end.how
        if how == "released":
            try:
                await self._release()
            except LeaseLost:
                how = "cancelled"  # lost; or closed over, and then the end is still ours to write
            else:
                return None
        self._left.extend(await self._journal.drain())
        if (message := self._draft.end_open(whole=how == "completed")) is not None:
            self._left.append(message)
        command = FinishTurn(
            holding=self.holding,
            step=self._journal.step,
            end=how,
            output=self._draft.text,
            error=end.error,
            reason=end.reason,
            progress=self._draft.progress,
            closing=(*self._left, *self._open_calls()),
            unread=() if how == "completed" else tuple(self._remains.steers.values()),
            successor=successor(),
        )
        committed = await patiently(lambda: node.store.transact(self.key, command))
        node.publish(committed)
        return committed

    async def _release(self) -> None:
        """Hand the turn back. What it has done is written first: a tool's outcome above all."""
        await self._journal.write()
        await self._journal.drain()
        node, released = self._node, ReleaseTurn(holding=self.holding)
        node.publish(await patiently(lambda: node.store.transact(self.key, released)))

    def _open_calls(self) -> tuple[Event, ...]:
        """An outcome for each call that has none: a provider refuses a history without."""
        calls = self._remains.calls
        never = [
            ToolStarted(
                turn_id=self._turn.turn_id,
                call_id=call_id,
                message_id=self._node.ids.message_id(),
                name=name,
                arguments=arguments,
            )
            for call_id, (name, arguments) in calls.announced.items()
            if call_id not in calls.started
        ]
        return (
            *interrupted(calls.started.values(), "The turn ended while this call ran."),
            *interrupted(never, "The turn ended before this call was made."),
        )

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
