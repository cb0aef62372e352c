"""Projections of a log for people and agents: messages, and what tools answered."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sessile.core.codec import decode, to_json
from sessile.core.events import (
    Entry,
    Event,
    JsonObject,
    MessageAdded,
    Role,
    SessionSummarized,
    ToolCompleted,
    ToolFailed,
    ToolInterrupted,
    ToolRefused,
)
from sessile.core.ids import MessageId, Seq, TurnId

_SUMMARY = SessionSummarized.kind
TEXT_KINDS = frozenset(
    {
        "message.added",
        "tool.completed",
        "tool.failed",
        "tool.interrupted",
        "tool.refused",
        "session.summarized",
    }
)
"""The kinds that a transcript is made of: each entry of them is a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the history. Its place is the entry that completed it.

    A tool's message has one part, `{type: tool_result, call_id, parent_call_id, name, arguments,
    status, result, reason}` with status `completed`, `failed`, `interrupted` or `refused`.
    """

    message_id: MessageId
    turn_id: TurnId | None
    seq: Seq
    role: Role
    parts: tuple[JsonObject, ...]
    state: Literal["complete", "partial"]
    at_ms: int

    @property
    def text(self) -> str:
        """The text parts in a row; of a tool's message, its result or why there is none."""
        return "".join(_text(part) for part in self.parts)


class History:
    """What a session said so far, as an agent reads it: the last summary, and behind it what it
    does not cover, oldest first.

    What was called from within a call, by a tool or by an assistant that was asked, is not among
    the messages: the agent did not ask for it. The entries are decoded when they are first looked
    at.
    """

    __slots__ = ("_entries", "_messages")

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = tuple(entry for entry in entries if entry.kind in TEXT_KINDS)
        self._messages: tuple[Message, ...] | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        if self._messages is None:
            said = messages(self._shown())
            self._messages = tuple(each for each in said if not _within_a_call(each))
        return self._messages

    @property
    def empty(self) -> bool:
        return not self._entries

    def tool_outputs(self, name: str) -> tuple[Any, ...]:
        """What the tool `name` returned in this session, oldest first; completed calls only, those
        from within a call among them."""
        events = (decode(each) for each in self._entries if each.kind == ToolCompleted.kind)
        return tuple(
            event.result
            for event in events
            if isinstance(event, ToolCompleted) and event.name == name
        )

    def extended(self, entries: Iterable[Entry]) -> "History":
        """This history and what was appended since."""
        return History((*self._entries, *entries))

    def bounded(self, most: int) -> "History":
        """The newest entries, this many, and the last summary however far back. Of these and what
        is said later, the same can be told as of the whole log."""
        if len(self._entries) <= most:
            return self
        newest, summary = self._entries[-most:], self.summary
        if summary is not None and summary.seq < newest[0].seq:
            newest = (summary, *newest)
        return self if newest == self._entries else History(newest)

    @property
    def summary(self) -> Entry | None:
        """The last one, but for those that were voided: what they stood for is told again."""
        summaries = (e for e in reversed(self._entries) if e.kind == _SUMMARY)
        return next((each for each in summaries if not is_void(each)), None)

    def _shown(self) -> tuple[Entry, ...]:
        summary = self.summary
        if summary is None:
            return tuple(e for e in self._entries if e.kind != _SUMMARY)
        event = decode(summary)
        assert isinstance(event, SessionSummarized)
        # A copy in a fork names a seq of the session that it was copied from.
        covered = min(event.upto_seq, summary.seq)
        rest = (e for e in self._entries if e.seq > covered and e.kind != _SUMMARY)
        return (summary, *rest)


def is_void(summary: Entry) -> bool:
    """Whether a redaction took what it said."""
    event = decode(summary)
    assert isinstance(event, SessionSummarized)
    return event.redacted


def tokens_estimated(said: Iterable[Message]) -> int:
    """About how many tokens a model would count: a quarter of the characters."""
    return sum(len(message.text) // 4 + 1 for message in said)


def messages(entries: Iterable[Entry]) -> Iterable[Message]:
    """The messages among the entries, in log order."""
    for entry in entries:
        if entry.kind in TEXT_KINDS:
            yield _message(entry, decode(entry))


def _within_a_call(message: Message) -> bool:
    return any(part.get("parent_call_id") is not None for part in message.parts)


def _message(entry: Entry, event: Event) -> Message:
    match event:
        case MessageAdded():
            return _of(entry, event.message_id, event.role, event.parts, state=event.state)
        case ToolCompleted():
            part = _result(event, status="completed", result=event.result)
        case ToolFailed():
            part = _result(event, status="failed", reason=event.error)
        case ToolInterrupted():
            part = _result(event, status="interrupted", reason=event.reason)
        case ToolRefused():
            part = _result(event, status="refused", reason=event.reason)
        case _:
            assert isinstance(event, SessionSummarized), f"{entry.kind} is no message"
            summary = {"type": "text", "text": event.summary}
            return _of(entry, MessageId(f"msg_summary_{entry.seq}"), "system", (summary,))
    return _of(entry, event.message_id, "tool", (part,))


def _of(
    entry: Entry,
    message_id: MessageId,
    role: Role,
    parts: Iterable[JsonObject],
    *,
    state: Literal["complete", "partial"] = "complete",
) -> Message:
    return Message(
        message_id=message_id,
        turn_id=entry.turn_id,
        seq=entry.seq,
        role=role,
        parts=tuple(parts),
        state=state,
        at_ms=entry.at_ms,
    )


def _result(
    event: ToolCompleted | ToolFailed | ToolInterrupted | ToolRefused,
    *,
    status: str,
    result: Any = None,
    reason: str | None = None,
) -> Mapping[str, Any]:
    return {
        "type": "tool_result",
        "call_id": event.call_id,
        "parent_call_id": event.parent_call_id,
        "name": event.name,
        "arguments": event.arguments,
        "status": status,
        "result": result,
        "reason": reason,
    }


def _text(part: JsonObject) -> str:
    match part["type"]:
        case "text":
            text: str = part["text"]
            return text
        case "tool_result":
            shown = part["result"] if part["status"] == "completed" else part["reason"]
            return shown if isinstance(shown, str) else to_json(shown)
        case _:
            return ""
