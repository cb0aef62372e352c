"""The message that a turn is writing, and how far the turn is: deltas before they are entries."""

import json
from typing import Literal

from sessile.core.codec import clean, to_json
from sessile.core.context import whole
from sessile.core.events import (
    ButtonOffered,
    Event,
    JsonObject,
    MessageAdded,
    MessageDelta,
    Progress,
    TurnProgress,
)
from sessile.core.ids import MessageId
from sessile.core.session import Turn
from sessile.ports.agent import AgentFailed
from sessile.ports.clock import IdSource

Channel = Literal["text", "thinking"]


class Draft:
    """Coalesces: what was added since `take` was last called is one delta a channel."""

    def __init__(self, *, turn: Turn, ids: IdSource, chars_max: int) -> None:
        self._turn = turn
        self._ids = ids
        self._chars_max = chars_max
        self._message_id: MessageId | None = None
        self._written: dict[Channel, list[str]] = {"thinking": [], "text": []}
        self._fresh: dict[Channel, list[str]] = {"thinking": [], "text": []}
        self._offset: dict[Channel, int] = {"thinking": 0, "text": 0}
        self._chars = 0
        self._aside: list[str] = []
        self._offers: list[ButtonOffered] = []
        self._fresh_offers: list[ButtonOffered] = []
        self._notes: list[TurnProgress] = []
        self.progress = turn.progress
        self.text = ""
        """Of the last message that was ended: in the end, the turn's output."""

    def add(self, text: str, *, thinking: bool = False, aside: bool = False) -> None:
        """`aside`: not by the agent itself, which will not know of it when it ends the message.

        Raises AgentFailed where the message grows too large.
        """
        if not text:
            return
        text = clean(text).replace("\0", "\ufffd")
        self._chars += len(text)
        self._check_size(self._chars)
        if self._message_id is None:
            self._message_id = self._ids.message_id()
        self._fresh["thinking" if thinking else "text"].append(text)
        if aside:
            self._aside.append(text)

    @property
    def open_message_id(self) -> MessageId | None:
        """Of the message that was begun and not ended."""
        return self._message_id

    @property
    def spoken(self) -> bool:
        """The message that is open has text."""
        return bool(self._written["text"] or self._fresh["text"])

    def offer(self, button: str, label: str, payload: JsonObject) -> None:
        """A button under the message. Raises as `add`."""
        if self._message_id is None:
            self._message_id = self._ids.message_id()
        offered = ButtonOffered(
            turn_id=self._turn.turn_id,
            message_id=self._message_id,
            button=button,
            label=label,
            payload=json.loads(to_json(payload)),
        )
        self._chars += _size(_button(offered))
        self._check_size(self._chars)
        self._offers.append(offered)
        self._fresh_offers.append(offered)

    def note_progress(self, progress: Progress, note: str) -> bool:
        """Whether there is anything new to tell. Raises TypeError as `whole`."""
        raised = self.progress.raised_to(whole(progress))
        if raised == self.progress and not note:
            return False
        self.progress = raised
        told = TurnProgress(
            turn_id=self._turn.turn_id,
            note=note,
            current_iteration=raised.current_iteration,
            total_iterations=raised.total_iterations,
            tokens_used=raised.tokens_used,
            total_tokens=raised.total_tokens,
        )
        if self._notes and not self._notes[-1].note:
            self._notes.pop()
        self._notes.append(told)
        return True

    def take(self) -> tuple[Event, ...]:
        """What was added since, as entries to be written now."""
        events: list[Event] = []
        channels: tuple[Channel, ...] = ("thinking", "text")
        for channel in channels:
            if not self._fresh[channel]:
                continue
            assert self._message_id is not None
            text = "".join(self._fresh[channel])
            events.append(
                MessageDelta(
                    turn_id=self._turn.turn_id,
                    message_id=self._message_id,
                    offset=self._offset[channel],
                    text=text,
                    channel=channel,
                )
            )
            self._written[channel].append(text)
            self._fresh[channel].clear()
            self._offset[channel] += len(text)
        events.extend(self._fresh_offers)
        self._fresh_offers.clear()
        events.extend(self._notes)
        self._notes.clear()
        return tuple(events)

    def end(self, parts: tuple[JsonObject, ...] | None) -> MessageAdded:
        """The whole message; it replaces the deltas, written or not.

        Raises AgentFailed where it is too large, and TypeError where it is no JSON.
        """
        return self._ended(self._parts() if parts is None else self._taken(parts), whole=True)

    def end_open(self, *, whole: bool) -> MessageAdded | None:
        """The message that is open, if there is one, as the turn's last."""
        if self._message_id is None:
            return None
        return self._ended(self._parts(), whole=whole)

    def _ended(self, parts: tuple[JsonObject, ...], *, whole: bool) -> MessageAdded:
        message = MessageAdded(
            turn_id=self._turn.turn_id,
            message_id=self._message_id or self._ids.message_id(),
            role="assistant",
            parts=(*parts, *map(_button, self._offers)),
            state="complete" if whole else "partial",
        )
        self._message_id = None
        self._chars = 0
        self._aside.clear()
        self._offset = {"thinking": 0, "text": 0}
        self._offers.clear()
        self._fresh_offers.clear()
        for kept in (*self._written.values(), *self._fresh.values()):
            kept.clear()
        self.text = "".join(part["text"] for part in parts if part["type"] == "text")
        return message

    def _taken(self, parts: tuple[JsonObject, ...]) -> tuple[JsonObject, ...]:
        """Parts of the agent's own making, as they will be read from the log."""
        taken: tuple[JsonObject, ...] = tuple(json.loads(to_json(parts)))
        if self._aside:
            taken = ({"type": "text", "text": "".join(self._aside)}, *taken)
        self._check_size(sum(_size(part) for part in taken))
        return taken

    def _check_size(self, chars: int) -> None:
        if chars > self._chars_max:
            message = f"The agent's message is longer than {self._chars_max} characters."
            raise AgentFailed("output_too_large", message)

    def _parts(self) -> tuple[JsonObject, ...]:
        parts: list[JsonObject] = []
        channels: tuple[Channel, ...] = ("thinking", "text")
        for channel in channels:
            text = "".join((*self._written[channel], *self._fresh[channel]))
            if text:
                parts.append({"type": channel, "text": text})
        return tuple(parts)


def _button(offered: ButtonOffered) -> JsonObject:
    return {
        "type": "button",
        "button": offered.button,
        "label": offered.label,
        "payload": offered.payload,
    }


def _size(part: JsonObject) -> int:
    """In characters; of what is no text, as JSON."""
    return sum(
        len(value) if isinstance(value, str) else len(to_json(value))
        for name, value in part.items()
        if name != "type"
    )
