"""What a lost attempt left in the log, and what the next one must know before it goes on."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sessile.core.codec import decode, to_json
from sessile.core.events import (
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    Entry,
    Event,
    IntentDecided,
    MessageAdded,
    MessageDelta,
    MessageReset,
    SessionHandedOff,
    ToolOutcome,
    ToolRefused,
    ToolStarted,
    TurnStarted,
    TurnSteered,
)
from sessile.core.ids import CallId, MessageId, Seq, SessionKey, TurnId
from sessile.core.transcript import Message, messages
from sessile.ports.store import Store
from sessile.runtime.calls import HANDED_OFF, Answer, Calls, Unnamed, interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A steered message that the agent has read, behind so many calls and messages of its run."""

    message: Message
    calls: int
    messages: int


@dataclass(slots=True)
class Remains:
    """A turn so far, folded from its entries. A fresh turn has none."""

    calls: Calls = field(default_factory=Calls)
    open_message: MessageId | None = None
    """Has deltas, and was never completed."""
    text: str = ""
    """Of the last whole message that the agent wrote."""
    begun_at: Seq | None = None
    """The message with which the agent's run begins: the turn's, or one that came when the agent
    had answered; or what the assistant before left of its calls behind its hand-off."""
    begun: int = 0
    """Calls that the agent itself has made in this run, not its tools; one that waits for an
    approval was made, too."""
    messages: int = 0
    """Whole messages that the agent wrote in this run."""
    readings: list[Reading] = field(default_factory=list[Reading])
    """What it has read in this run."""
    decided: str | None = None
    """Who answers: the path of the last decision, or the agent where it was spoken to again."""
    left: set[CallId] | None = None
    """Calls of the assistant that handed off, until the next one has begun."""
    steers: dict[TurnId, TurnSteered] = field(default_factory=dict[TurnId, TurnSteered])
    """Steered inputs that no message has delivered."""

    def closing(self, turn_id: TurnId) -> tuple[Event, ...]:
        """What the next attempt writes first: the partial text is void, and a call that may or
        may not have taken effect is not run again."""
        unsafe = [call for call in self.calls.started.values() if not call.idempotent]
        outcomes = interrupted(unsafe, "The server was lost while this call ran.")
        self.take_in(outcomes)
        if self.open_message is None:
            return outcomes
        reset = MessageReset(turn_id=turn_id, message_id=self.open_message)
        self.open_message = None
        return (reset, *outcomes)

    def fold(self, entries: Iterable[Entry], turn_id: TurnId) -> None:
        """Take in further entries; those of other turns are passed over."""
        for entry in entries:
            if entry.kind == SessionHandedOff.kind:
                self.handed_off()
                self.begun_at = entry.seq
                self.left = set(self.calls.started)
            if entry.turn_id != turn_id:
                continue
            event = decode(entry)
            self._add(event)
            if self.left is not None:
                self._left_behind(entry, event, self.left)
            if isinstance(event, MessageAdded) and event.role == "user":
                self._spoken_to(entry, event)

    def take_in(self, events: Iterable[Event]) -> None:
        """The same for events that are about to be written."""
        for event in events:
            self._add(event)

    def run_again(self) -> None:
        """A new run of the agent begins: nothing of it is in the log."""
        self.begun_at, self.begun, self.messages = None, 0, 0
        self.readings.clear()
        self.calls.drawn.clear()
        self.calls.unnamed.clear()
        self.calls.asked.clear()
        self.calls.waiting.clear()

    def handed_off(self) -> None:
        """The run is another assistant's: nobody has decided who answers for it."""
        self.run_again()
        self.decided = None

    def read_again(self, made: int, *, passed: int) -> tuple[Message, ...]:
        """What the agent had read behind so many calls and messages, the first time."""
        due = [r for r in self.readings if r.calls <= made and r.messages <= passed]
        del self.readings[: len(due)]
        return tuple(reading.message for reading in due)

    def _left_behind(self, entry: Entry, event: Event, left: set[CallId]) -> None:
        """The next assistant was asked when the calls of the one before had their outcomes."""
        match event:
            case ToolStarted(parent_call_id=parent) if parent in left:
                left.add(event.call_id)
            case ToolRefused(verdict=verdict) if verdict == HANDED_OFF:
                self.begun_at = entry.seq
            case _ if isinstance(event, ToolOutcome) and not left.isdisjoint(
                (event.call_id, event.parent_call_id)
            ):
                self.begun_at = entry.seq
            case ToolStarted() | IntentDecided() | MessageAdded() | TurnStarted():
                self.left = None
            case _:
                pass

    def _spoken_to(self, entry: Entry, message: MessageAdded) -> None:
        if message.steer_id is None or message.asked_again:
            self.run_again()
            self.begun_at = entry.seq
            self.decided = "agent" if message.asked_again else None
        else:
            (read,) = messages((entry,))
            self.readings.append(Reading(message=read, calls=self.begun, messages=self.messages))

    def _add(self, event: Event) -> None:
        calls = self.calls
        match event:
            case TurnSteered():
                self.steers[event.steer_id] = event
            case MessageAdded(role="assistant"):
                self.open_message = None
                self.text = "".join(p["text"] for p in event.parts if p["type"] == "text")
                self.messages += 1
                for part in event.parts:
                    if part["type"] == "tool_call":
                        calls.announced[part["call_id"]] = (part["name"], part["arguments"])
                        calls.drawn.append(part["call_id"])
            case MessageAdded(steer_id=steer_id) if steer_id is not None:
                self.steers.pop(steer_id, None)
            case MessageDelta():
                self.open_message = event.message_id
            case MessageReset():
                self.open_message = None
            case ToolStarted():
                self._begun(event)
                calls.started[event.call_id] = event
            case ToolRefused(verdict=verdict) if verdict == HANDED_OFF:
                calls.note(event)  # of the assistant before
            case _ if isinstance(event, ToolOutcome):
                self._begun(event)
                calls.note(event)
            case ApprovalRequested():
                self.begun += 1
                calls.cards[event.call_id] = event.message_id
                if event.call_id not in calls.announced:
                    calls.announced[event.call_id] = (event.name, event.arguments)
                    self._unnamed(event, None)  # from within a tool nothing waits
            case ApprovalGranted():
                calls.answers[event.call_id] = Answer(granted=True)
            case ApprovalDenied():
                calls.answers[event.call_id] = Answer(granted=False, reason=_denial(event))
            case IntentDecided():
                self.decided = event.path
                if event.path == "agent":
                    # What was called so far, the stages did: they are not gone through again.
                    self.begun = 0
                    calls.unnamed.clear()
            case _:
                pass

    def _begun(self, event: ToolStarted | ToolOutcome) -> None:
        calls = self.calls
        if event.call_id in calls.started or event.call_id in calls.outcomes:
            return
        self.begun += event.call_id not in calls.cards and event.parent_call_id is None
        if event.call_id not in calls.announced:
            self._unnamed(event, event.parent_call_id)

    def _unnamed(
        self, event: ToolStarted | ToolOutcome | ApprovalRequested, parent: CallId | None
    ) -> None:
        shown = to_json(event.arguments)
        self.calls.unnamed.append(Unnamed(event.call_id, event.name, shown, parent))


def _denial(event: ApprovalDenied) -> str:
    """What the model is told."""
    told = "It was not approved" if event.by is None else "The user did not approve it"
    return f"{told}: {event.reason}" if event.reason else f"{told}."


async def turn_entries(store: Store, key: SessionKey, turn_id: TurnId, *, page: int) -> list[Entry]:
    """The log from the turn's first attempt on, oldest first."""
    newest_first: list[Entry] = []
    before: int | None = None
    while True:
        entries = await store.read(key, before=before, newest_first=True, limit=page)
        for entry in entries:
            newest_first.append(entry)
            if entry.kind == "turn.started" and entry.turn_id == turn_id:
                event = decode(entry)
                if isinstance(event, TurnStarted) and event.attempt == 1:
                    return newest_first[::-1]
        if not entries:
            return newest_first[::-1]
        before = entries[-1].seq
