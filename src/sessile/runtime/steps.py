"""What the agent does in one attempt: it is asked for steps, heard, and told what was steered."""

from collections.abc import Callable

from sessile.core.attempts import user_message
from sessile.core.context import Holding, Identity, TurnContext
from sessile.core.events import Entry, Event, JsonObject, Progress, ToolStarted
from sessile.core.transcript import History, Message, messages
from sessile.ports.agent import Agent, AgentFailed, MessageEnd, TextDelta, ThinkingDelta
from sessile.ports.store import Committed
from sessile.runtime.door import TurnDoor
from sessile.runtime.draft import Draft
from sessile.runtime.journal import Journal, patiently
from sessile.runtime.node import Node
from sessile.runtime.recovery import Remains, turn_entries
from sessile.runtime.tools import TurnTools, interrupted
from sessile.runtime.watch import Watch


class Steps:
    """All that an agent is given and all that it says goes through here, to the journal."""

    def __init__(
        self,
        node: Node,
        *,
        holding: Holding,
        started: Committed,
        journal: Journal,
        history: History | None,
        on_silence: Callable[[], None],
    ) -> None:
        assert started.turn is not None
        assert started.session is not None, "the wide row comes with a start"
        self._node = node
        self._key = holding.key
        self._fence = holding.fence
        self._session = started.session
        self._turn = started.turn
        self._fresh = started.entries
        self._journal = journal
        self._history = history
        self._on_silence = on_silence
        self.remains = Remains()
        """The turn so far, as the log has it."""
        self.steered = False
        """There may be steered inputs that no message has delivered."""
        self.draft = Draft(
            turn=started.turn, ids=node.ids, chars_max=node.settings.output_chars_max
        )
        journal.buffered = self.draft.take
        self.door = TurnDoor(
            telemetry=node.telemetry, add_text=self._add_aside, note_progress=self._note_progress
        )

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

    async def ask(self) -> None:
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
            on_silence=self._on_silence,
        )
        said_before = self.remains.messages if agent.restarts else 0
        try:
            async for event in stream:
                self.door.check()  # one that goes on after its turn's end is not heard
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

    async def ask_again(self, answered: tuple[Event, ...]) -> None:
        """Write what it answered, and ask it for what was steered in meanwhile."""
        closing = (*answered, *self.open_calls())
        self.remains.take_in(closing)
        self._journal.resume()
        await self._journal.write(*closing)
        self.steered = True
        await self._take_steered()
        self.remains.calls.unnamed.clear()
        self.remains.messages = 0
        self._history, self._fresh = self.history, ()
        self._journal.said_since_here()
        await self.ask()

    async def refold(self) -> Remains:
        """The turn so far, from the log."""
        remains = Remains()
        remains.fold(await self._entries(), self._turn.turn_id)
        return remains

    def open_calls(self) -> tuple[Event, ...]:
        """An outcome for each call that has none: a provider refuses a history without."""
        calls = self.remains.calls
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

    def _tools(self, agent: Agent) -> TurnTools:
        return TurnTools(
            turn_id=self._turn.turn_id,
            agent=agent,
            calls=self.remains.calls,
            journal=self._journal,
            ids=self._node.ids,
            settings=self._node.settings,
            threads=self._node.threads,
            context=self._context,
            steered=self._take_steered,
        )

    def _context(self) -> TurnContext:
        self.door.check()
        session, turn = self._session, self._turn
        identity = Identity(
            tenant_id=self._key.tenant_id,
            user_id=session.user_id,
            session_id=self._key.session_id,
            turn_id=turn.turn_id,
            fence=self._fence,
            attempt=turn.attempt,
            assistant=session.assistant,
            grants=session.grants,
            input=turn.input,
            metadata=session.metadata,
        )
        return TurnContext(identity, self.door, self._history or History(()))

    async def _read_history(self) -> History:
        """From the log, at most the setting's entries, from the last summary on."""
        most = self._node.settings.history_entries_max
        if self._fresh and self._fresh[0].seq == 2:
            return History(self._fresh)  # the session's first turn: nothing else has been said
        store = self._node.store
        entries = await patiently(
            lambda: store.read(self._key, history=True, newest_first=True, limit=most)
        )
        return History(reversed(entries)).bounded(most)

    def _add_text(self, text: str, *, thinking: bool = False) -> None:
        self.draft.add(text, thinking=thinking)
        self._journal.flush_soon()

    def _add_aside(self, text: str) -> None:
        self.draft.add(text, aside=True)
        self._journal.flush_soon()

    def _note_progress(self, progress: Progress, note: str = "") -> None:
        if self.draft.note_progress(progress, note):
            self._journal.flush_soon()

    async def _end_message(self, parts: tuple[JsonObject, ...] | None) -> None:
        message = self.draft.end(parts)
        calls = [part for part in message.parts if part["type"] == "tool_call"]
        for part in calls:
            self.remains.calls.announced[part["call_id"]] = (part["name"], part["arguments"])
        if calls:
            await self._journal.write(message)
        else:
            self._journal.put(message)

    async def _take_steered(self) -> tuple[Message, ...]:
        if not self.steered:
            return ()
        self.steered = False
        steers = tuple((await self.refold()).steers.values())
        already = len(self._journal.said)
        await self._journal.write(
            *(user_message(s.turn_id, s.message_id, s.input, steer_id=s.steer_id) for s in steers)
        )
        said = (
            self._journal.said[already:] if self._journal.said_is_whole else await self._entries()
        )
        delivered = {steer.message_id for steer in steers}
        return tuple(message for message in messages(said) if message.message_id in delivered)

    async def _entries(self) -> list[Entry]:
        page = self._node.settings.page_entries_max
        store, turn_id = self._node.store, self._turn.turn_id
        return await patiently(lambda: turn_entries(store, self._key, turn_id, page=page))
