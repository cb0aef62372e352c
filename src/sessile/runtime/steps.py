"""What the agent does in one attempt: it is asked for steps, heard, and told what was steered."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from sessile.core.context import Holding, Identity, ToolResult, TurnContext
from sessile.core.events import (
    Entry,
    Event,
    IntentDecided,
    JsonObject,
    Progress,
    SessionHandedOff,
    SessionSummarized,
    ToolStarted,
)
from sessile.core.ids import CallId, Seq
from sessile.core.transcript import History, Message
from sessile.ports.agent import (
    Agent,
    AgentFailed,
    Button,
    IntentDecision,
    MessageEnd,
    TextDelta,
    ThinkingDelta,
    ToolError,
)
from sessile.ports.store import Committed
from sessile.runtime.calls import interrupted
from sessile.runtime.delegation import Questions, known
from sessile.runtime.door import TurnDoor
from sessile.runtime.draft import Draft
from sessile.runtime.histories import turn_history
from sessile.runtime.journal import Journal, patiently
from sessile.runtime.node import Node
from sessile.runtime.recovery import Remains, turn_entries
from sessile.runtime.steering import Steering
from sessile.runtime.tools import TurnTools, Within
from sessile.runtime.watch import Watch

HANDOFFS_MAX = 8
"""Assistants that one turn may go through."""


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
        on_waiting: Callable[[], None],
    ) -> None:
        assert started.turn is not None
        assert started.session is not None, "the wide row comes with a start"
        self._node = node
        self._key = holding.key
        self._fence = holding.fence
        self._session = started.session
        self._turn = started.turn
        self._fresh = started.entries if started.turn.attempt == 1 else ()
        self._journal = journal
        self._history = history
        self._on_silence = on_silence
        self._on_waiting = on_waiting
        self.parked: tuple[ToolStarted, ...] = ()
        """The calls for which the turn is to wait."""
        self._tools: TurnTools | None = None
        self._handed_to: str | None = None
        self._whole = True
        self._answered = False
        self._passing = 0
        self._asked_tokens = 0
        self._steering = Steering(journal=journal, refold=self.refold, entries=self._entries)
        self.remains = Remains()
        """The turn so far, as the log has it."""
        self.draft = Draft(
            turn=started.turn, ids=node.ids, chars_max=node.settings.output_chars_max
        )
        journal.buffered = self.draft.take
        journal.refused = lambda call: self.remains.calls.note(call)  # noqa: PLW0108  read later
        self.door = TurnDoor(self, telemetry=node.telemetry)
        self._questions = Questions(
            node, self.door, self._identity, self._tools_of, on_tokens=self._count_asked
        )

    @property
    def history(self) -> History | None:
        """The session's history with what this attempt said, where all of it is known."""
        if self._history is None or not self._whole or not self._journal.said_is_whole:
            return None
        most = self._node.settings.history_entries_max
        return self._history.extended(self._journal.said).bounded(most)

    def history_after(self, ended: Committed) -> History | None:
        """The same with what the commit that ended it said: what the session's next turn reads.
        Not of a turn that was stopped, perhaps because what it had read was voided."""
        before = self.history
        stopped = ended.turn is None or ended.turn.status == "cancelled"
        if before is None or ended.repeated or stopped:
            return None
        return before.extended(ended.entries).bounded(self._node.settings.history_entries_max)

    async def ask(self) -> None:
        """Hear the agent out; and where it hands off without an answer, the next one."""
        for _ in range(HANDOFFS_MAX):
            await self._ask_one()
            if self._handed_to is None or self._answered or self.draft.spoken:
                return
            self._take_over()
        raise AgentFailed("handed_off_too_often", "The assistants hand this turn to each other.")

    def _take_over(self) -> None:
        """The assistant that the session was handed to goes on, if it was."""
        if self._handed_to is not None:
            self._session = replace(self._session, assistant=self._handed_to)
            self._handed_to, self._history, self._fresh = None, None, ()
            self.remains.handed_off()

    async def _ask_one(self) -> None:
        agent = self._node.agents.get(self._session.assistant)
        if agent is None:
            name = self._session.assistant
            raise AgentFailed("unknown_assistant", f"This server has no assistant {name!r}.")
        tools = self._tools = self._tools_of(agent)
        # A tool may look at the history too.
        if self._history is None and (agent.reads_history or tools.offered):
            self._journal.said_since_here()
            begun_at = self.remains.begun_at if agent.restarts else None
            self._whole = begun_at is None
            self._history = await self._read_history(begun_at)
        self._asked_tokens = 0
        stream = agent.run(self.context(None), self._history or History(()), tools)
        watch = Watch(
            settings=self._node.settings, busy=lambda: tools.busy, on_silence=self._on_silence
        )
        self._passing = self.remains.messages if agent.restarts else 0
        self._answered = bool(self._passing and self.remains.text)
        try:
            async for event in stream:
                self.door.check()  # one that goes on after its turn's end is not heard
                watch.seen()
                if self._passing:
                    self._passing -= isinstance(event, MessageEnd)
                    continue
                match event:
                    case TextDelta(text):
                        self._add_text(text)
                    case ThinkingDelta(text):
                        self._add_text(text, thinking=True)
                    case MessageEnd(parts):  # last words behind a hand-off are left open
                        if parts or not (self.handed_off and self.draft.spoken):
                            await self._end_message(parts)
                    case Progress():
                        self._count(event)
                    case Button():
                        self.draft.offer(event.button, event.label, event.payload)
                        self._journal.flush_soon()
                    case IntentDecision():
                        self._decide(event)
        finally:
            watch.stop()
            if (close := getattr(stream, "aclose", None)) is not None:
                await close()

    def heard(self) -> None:
        """Something was steered in."""
        self._steering.heard()

    async def ask_again(self, answered: tuple[Event, ...]) -> None:
        """Write what it answered, and ask it for what was steered in meanwhile."""
        closing = (*answered, *self.open_calls())
        self.remains.take_in(closing)
        self._journal.resume()
        await self._journal.write(*closing)
        self._steering.heard()
        await self._steering.take(asked_again=True)
        self.remains.run_again()
        self._history, self._fresh = self.history, ()
        self._take_over()
        self.remains.decided = "agent"
        self._journal.said_since_here()
        await self.ask()

    async def refold(self) -> Remains:
        """The turn so far, from the log."""
        remains = Remains()
        remains.fold(await self._entries(), self._turn.turn_id)
        return remains

    def open_calls(self) -> tuple[Event, ...]:
        """An outcome for each call that has none: a provider refuses a history without."""
        started = self.remains.calls.started
        return (
            *interrupted(started.values(), "The turn ended while this call ran."),
            *interrupted(self._not_made(), "The turn ended before this call was made."),
        )

    def calls_without_outcome(self) -> tuple[ToolStarted, ...]:
        """All calls, those that wait among them, that need an outcome before the turn's end."""
        waiting = {call.call_id: call for call in self.parked}
        others = (call for call in self._not_made() if call.call_id not in waiting)
        return (*self.remains.calls.started.values(), *waiting.values(), *others)

    def _not_made(self) -> list[ToolStarted]:
        return self.remains.calls.not_made(self._turn.turn_id, self._node.ids.message_id)

    # -- what the agent's tools and contexts ask for

    @property
    def decided(self) -> str | None:
        return self.remains.decided

    @property
    def handed_off(self) -> bool:
        return self._handed_to is not None

    def on_waiting(self) -> None:
        self.parked = tuple(self.remains.calls.waiting.values())
        self._on_waiting()

    async def steered_after(self, made: int) -> tuple[Message, ...]:
        """What was steered in. An agent that is run again gets first what it read before, where
        it read it; and nothing new before it is past what it did."""
        remains = self.remains
        agent = self._node.agents[self._session.assistant]
        if agent.restarts and (remains.readings or self._passing or made < remains.begun):
            return remains.read_again(made, passed=remains.messages - self._passing)
        return await self._steering.take()

    def context(self, call_id: CallId | None) -> TurnContext:
        self.door.check()
        return TurnContext(self._identity(call_id), self.door, self._history)

    def _identity(self, call_id: CallId | None) -> Identity:
        session, turn = self._session, self._turn
        return Identity(
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
            reached=self.draft.progress,
            call_id=call_id,
        )

    def add_aside(self, text: str) -> None:
        """Text of a tool's, in the message that the agent writes."""
        if not self._passing:
            self.draft.add(text, aside=True)
            self._journal.flush_soon()

    def note_progress(self, progress: Progress, note: str = "") -> None:
        if self.draft.note_progress(progress, note):
            self._journal.flush_soon()

    async def call(
        self, name: str, arguments: Mapping[str, Any], parent: CallId | None
    ) -> ToolResult:
        assert self._tools is not None, "a context is made for an agent that runs"
        return await self._tools.call(name, arguments, parent=parent)

    async def ask_other(self, assistant: str, text: str, parent: CallId | None) -> str:
        """Raises UnknownAssistant, and ToolError where there is no answer."""
        assert self._tools is not None, "a context is made for an agent that runs"
        return await self._questions.ask(self._tools, assistant, text, parent)

    async def hand_off(self, assistant: str, reason: str) -> None:
        """Raises UnknownAssistant, and ToolError where a call waits: it is this assistant's."""
        known(self._node, assistant)
        if self.remains.calls.waiting:
            raise ToolError("A call waits for an approval: hand off when it was answered.")
        if assistant != (self._handed_to or self._session.assistant):
            self._handed_to = assistant  # also where who hands off is cancelled meanwhile
            await self._journal.write(SessionHandedOff(assistant=assistant, reason=reason))

    async def summarize(self, summary: str) -> None:
        first = self._fresh[0] if self._fresh else (await self._entries())[0]
        await self._journal.write(SessionSummarized(summary=summary, upto_seq=Seq(first.seq - 1)))

    # -- parts

    def _count(self, progress: Progress) -> None:
        """The agent's own count: what those used whom it asked comes on top."""
        used = progress.tokens_used + self._asked_tokens
        self.note_progress(replace(progress, tokens_used=used))

    def _count_asked(self, tokens: int) -> None:
        self._asked_tokens += tokens
        self.note_progress(Progress(tokens_used=self.draft.progress.tokens_used + tokens))

    def _decide(self, decision: IntentDecision) -> None:
        self.remains.decided = decision.path
        self._journal.put(IntentDecided(turn_id=self._turn.turn_id, **asdict(decision)))

    def _tools_of(self, agent: Agent, within: Within | None = None) -> TurnTools:
        return TurnTools(
            turn_id=self._turn.turn_id,
            agent=agent,
            grants=self._session.grants,
            calls=self.remains.calls,
            journal=self._journal,
            ids=self._node.ids,
            settings=self._node.settings,
            threads=self._node.threads,
            asking=self if within is None else within.asking,
            within=within,
        )

    async def _read_history(self, upto: Seq | None) -> History:
        """From the log, at most the setting's entries, from the last summary on."""
        if self._fresh and self._fresh[0].seq == 2:
            return History(self._fresh)  # the session's first turn: nothing else has been said
        store, most = self._node.store, self._node.settings.history_entries_max
        return await patiently(lambda: turn_history(store, self._key, upto=upto, entries_max=most))

    def _add_text(self, text: str, *, thinking: bool = False) -> None:
        self.draft.add(text, thinking=thinking)
        self._journal.flush_soon()

    async def _end_message(self, parts: tuple[JsonObject, ...] | None) -> None:
        message = self.draft.end(parts)
        calls = [part for part in message.parts if part["type"] == "tool_call"]
        self._answered = bool(self.draft.text) and not calls
        for part in calls:
            self.remains.calls.announced[part["call_id"]] = (part["name"], part["arguments"])
        if calls:
            await self._journal.write(message)
        else:
            self._journal.put(message)

    async def _entries(self) -> list[Entry]:
        store, page = self._node.store, self._node.settings.page_entries_max
        turn_id = self._turn.turn_id
        return await patiently(lambda: turn_entries(store, self._key, turn_id, page=page))
