"""One attempt of one turn: agent, journal, and an end that is written exactly once."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from sessile.core.attempts import STRIKES_MAX, user_message
from sessile.core.commands import FinishTurn, ReleaseTurn, Runner
from sessile.core.context import Holding, Identity, TurnContext
from sessile.core.errors import LeaseLost, SteerUnread
from sessile.core.events import Event, JsonObject, Progress, ToolOutcome, ToolStarted
from sessile.core.ids import SessionKey
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
        self._fresh = started
        self._history = history
        self._remains = Remains()
        self._spawn = spawn
        self._closed = False
        self._stop: str | None = None
        self._task: asyncio.Task[Any] | None = None
        self._steered = False
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
            publish=node.publish,
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
        overrules any."""
        if self._closed or (self._stop is not None and why != "lost"):
            return
        self._stop = why
        if self._task is not None:
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

    async def run(self, successor: Callable[[], Runner | None]) -> Committed | None:
        """To the turn's end. Answers the commit that ended it, which may have started the
        session's next turn for `successor`; None where the lease was lost or handed back."""
        self._task = asyncio.current_task()
        self._door.enter()
        try:
            end = await self._guarded(self._begin())
            while True:
                try:
                    return await self._finish(end, successor)
                except SteerUnread:
                    if end.how == "completed":
                        end = await self._guarded(self._next_leg())
                    else:
                        self._remains.steers = (await self._refold()).steers
                except LeaseLost:
                    self._refused()
                    return None
                except asyncio.CancelledError:
                    # Stopped while the end was on its way: its fate is settled by asking again.
                    self._swallow_stop()
        finally:
            self._closed = True
            self._journal.stop()
            self._door.close()

    # -- running the agent

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> End:
        """Whatever the agent does, the turn has an end."""
        started_at_ms = self._turn.started_at_ms or 0
        settings, now_ms = self._node.settings, self._node.clock.now_ms()
        seconds = settings.turn_seconds_max - (now_ms - started_at_ms) / 1000
        deadline = asyncio.timeout(max(seconds, 0))
        try:
            async with deadline:
                await work
            return End(how="completed")
        except _Early as early:
            return early.end
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

    async def _begin(self) -> None:
        if self._stop is not None:
            raise _Early(STOPS[self._stop])
        if self._turn.attempt > 1:
            self._node.telemetry.attempts_recovered.inc()
            self._remains = await self._refold()
            if closing := self._remains.closing(self._turn.turn_id):
                await self._journal.write(*closing)
            self._draft.text = self._remains.text
        if self._head.cancel_turn_id == self._turn.turn_id:
            raise _Early(STOPS["cancel"])
        if self._turn.strikes >= STRIKES_MAX:
            reason = f"{STRIKES_MAX} attempts in a row were lost without a step."
            raise _Early(End(how="interrupted", reason=reason))
        await self._run_agent()

    async def _run_agent(self) -> None:
        agent = self._node.agents.get(self._session.assistant)
        if agent is None:
            name = self._session.assistant
            raise AgentFailed("unknown_assistant", f"This server has no assistant {name!r}.")
        if self._history is None:
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
        fresh = self._fresh.entries
        if fresh and fresh[0].seq == 2:
            return History(fresh)  # the session's first turn: nothing else has been said
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
        page = self._node.settings.page_entries_max
        turn_id = self._turn.turn_id
        store = self._node.store
        entries = await patiently(lambda: turn_entries(store, self.key, turn_id, page=page))
        remains = Remains()
        remains.fold(entries, turn_id)
        return remains

    async def _take_steered(self) -> tuple[Message, ...]:
        if not self._steered:
            return ()
        self._steered = False
        steers = tuple((await self._refold()).steers.values())
        already = len(self._journal.said)
        await self._journal.write(
            *(user_message(s.turn_id, s.message_id, s.input, steer_id=s.steer_id) for s in steers)
        )
        return tuple(
            message for message in messages(self._journal.said[already:]) if message.role == "user"
        )

    async def _next_leg(self) -> None:
        """The agent has answered, but not what was steered in meanwhile: ask it again."""
        await self._journal.write(*self._left)
        self._left.clear()
        self._steered = True
        await self._take_steered()
        self._remains.calls.unnamed.clear()
        self._remains.messages = 0
        self._history = self.history
        self._journal.said.clear()
        self._journal.said_is_whole = True
        await self._run_agent()

    async def _look(self) -> None:
        """A hint came without its entries."""
        found = await self._node.store.find(self.key)
        if found is None or found.head.cancel_turn_id == self._turn.turn_id:
            self.stop("cancel")
        elif found.head.steers_unread:
            self._steered = True

    # -- the end

    async def _finish(self, end: End, successor: Callable[[], Runner | None]) -> Committed | None:
        if self._stop == "lost":
            end = STOPS["lost"]
        if end.how == "lost":
            return None
        node = self._node
        self._left.extend(await self._journal.drain())
        if end.how == "released":
            released = ReleaseTurn(holding=self.holding)
            node.publish(await patiently(lambda: node.store.transact(self.key, released)))
            return None
        if (message := self._draft.end_open(whole=end.how == "completed")) is not None:
            self._left.append(message)
        command = FinishTurn(
            holding=self.holding,
            step=self._journal.step,
            end=end.how,
            output=self._draft.text,
            error=end.error,
            reason=end.reason,
            progress=self._draft.progress,
            closing=(*self._left, *self._open_calls()),
            unread=() if end.how == "completed" else tuple(self._remains.steers.values()),
            successor=successor(),
        )
        committed = await patiently(lambda: node.store.transact(self.key, command))
        node.publish(committed)
        return committed

    def _open_calls(self) -> tuple[Event, ...]:
        """An outcome for each call that has none: a provider refuses a history without."""
        calls = self._remains.calls
        ended = {event.call_id for event in self._left if isinstance(event, ToolOutcome)}
        begun = [call for call in calls.started.values() if call.call_id not in ended]
        never = [
            ToolStarted(
                turn_id=self._turn.turn_id,
                call_id=call_id,
                message_id=self._node.ids.message_id(),
                name=name,
                arguments=arguments,
            )
            for call_id, (name, arguments) in calls.announced.items()
            if call_id not in ended and call_id not in calls.started
        ]
        return (
            *interrupted(begun, "The turn ended while this call ran."),
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


class _Early(Exception):
    """The turn is to end before its agent is asked."""

    def __init__(self, end: End) -> None:
        self.end = end
