"""A session's history as pydantic-ai's model messages, and a model's response as message parts.

The messages are built anew for each run and never kept: the log is the only history.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_ai.messages import (
    FilePart,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    RetryFeedbackPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_core import to_json

from sessile.core.events import JsonObject
from sessile.core.ids import CallId, TurnId
from sessile.core.transcript import History, Message

SUMMARY = "Summary of the conversation so far:\n"
LEFT_OUT = "[earlier messages are left out]"
CUT_OFF = "\n[cut off]"
NEVER_RUN = "This call was never run: its turn ended first."

_PARTS: TypeAdapter[ModelResponsePart] = TypeAdapter(ModelResponsePart)
_FEEDBACK: TypeAdapter[RetryFeedbackPart] = TypeAdapter(RetryFeedbackPart)
_READ = frozenset({"text", "thinking", "tool_call"})
# What a message's part says itself, or what says nothing when it is alone.
_SAID = frozenset({"content", "part_kind", "args"})
_IDLE = frozenset({"provider_name"})


@dataclass(frozen=True, slots=True)
class Folded:
    """Where a turn goes on from."""

    messages: list[ModelMessage]
    pending: Mapping[str, CallId]
    """Our ids of the calls that the last response announced and that are not all answered, by
    the provider's."""
    responses: int
    """How often the turn's model has answered so far."""
    answered: bool
    """The turn's reply is there: only its end is missing."""


def wire_name(name: str) -> str:
    """A tool's name in the characters that every provider takes."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def told(status: str, reason: str | None) -> str:
    """What a model reads in place of a result."""
    match status:
        case "interrupted":
            return (
                f"Interrupted: {reason} It may or may not have taken effect, and was not run again."
            )
        case "refused":
            return f"Refused: {reason}"
        case _:
            return reason or "The tool failed."


def shown(value: Any) -> str:
    """Text as it is, all else as JSON."""
    return value if isinstance(value, str) else to_json(value).decode()


def fold(history: History, turn_id: TurnId) -> Folded:
    """The history as a model reads it: each call with its result behind it, no call without."""
    said = history.messages
    outcomes = {
        part["call_id"]: part
        for message in said
        for part in message.parts
        if part["type"] == "tool_result"
    }
    last = next((message for message in reversed(said) if message.role != "tool"), None)
    ours = last is not None and last.role == "assistant" and last.turn_id == turn_id
    pending = last if ours and last and _unanswered(last, outcomes) else None
    summaries = [message for message in said if message.role == "system"]
    announced = {call["call_id"] for message in said for call in _calls(message)}
    messages: list[ModelMessage] = []
    if summaries:
        messages.append(_asked(summaries[-1], SUMMARY))
    for message in said:
        if message is not pending:
            messages.extend(_model_messages(message, outcomes, announced))
    if messages and not isinstance(messages[0], ModelRequest):
        # The history is bounded: what it begins in the middle of was asked for before.
        messages.insert(0, ModelRequest(parts=[UserPromptPart(LEFT_OUT)]))
    calls: dict[str, CallId] = {}
    if pending is not None:
        messages.append(_response(pending))
        calls = {_provider_id(call): call["call_id"] for call in _calls(pending)}
    return Folded(
        messages,
        calls,
        sum(message.role == "assistant" and message.turn_id == turn_id for message in said),
        answered=_answers(said, turn_id),
    )


def _answers(said: Sequence[Message], turn_id: TurnId) -> bool:
    if not said or said[-1].role != "assistant" or said[-1].turn_id != turn_id:
        return False
    return not _calls(said[-1]) and not _feedback(said[-1])


def message_parts(
    response: ModelResponse, call_ids: Mapping[str, CallId], names: Mapping[str, str]
) -> tuple[JsonObject, ...]:
    """The parts of a response for the log; `names` are ours by the wire's. Tool calls that are
    not among `call_ids` are left out: they carry the output."""
    parts: list[JsonObject] = []
    for part in response.parts:
        match part:
            case TextPart() | ThinkingPart():
                said = {"type": part.part_kind, "text": part.content}
                parts.append(said | _provider(_dumped(part)))
            case ToolCallPart() if call_id := call_ids.get(part.tool_call_id):
                parts.append(_call(part, call_id, names.get(part.tool_name, part.tool_name)))
            case ToolCallPart() | FilePart():
                pass
            case _:
                # A native tool's call, its result, or a provider's own compaction.
                opaque = {"type": "text", "text": "", "provider": {"part": _dumped(part)}}
                parts.append(opaque)
    return tuple(parts)


def arguments_of(call: ToolCallPart) -> dict[str, Any]:
    """What the model filled in; nothing where it is no JSON object."""
    return _object(call.args) or {}


def _object(args: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if not isinstance(args, str):
        return dict(args or {})
    try:
        parsed = json.loads(args or "{}")
    except ValueError:
        return None
    return cast(dict[str, Any], parsed) if isinstance(parsed, dict) else None


def rejected(parts: Sequence[JsonObject], request: ModelRequest) -> tuple[JsonObject, ...]:
    """The parts of a response that its agent did not take, and what the model is told of it."""
    said = [part for part in parts if part["type"] != "tool_call"]
    told = [part for part in request.parts if isinstance(part, RetryFeedbackPart)]
    if said:
        provider: Mapping[str, Any] = said[0].get("provider", {})
        feedback = [_FEEDBACK.dump_python(part, mode="json", exclude_none=True) for part in told]
        said[0] = {**said[0], "provider": {**provider, "feedback": feedback}}
    return tuple(said)


def _model_messages(
    message: Message, outcomes: Mapping[str, JsonObject], announced: set[str]
) -> Iterable[ModelMessage]:
    match message.role:
        case "user":
            yield _asked(message)
        case "assistant":
            response = _response(message)
            if response.parts:
                yield response
            if results := [
                _result(call, outcomes.get(call["call_id"])) for call in _calls(message)
            ]:
                yield ModelRequest(parts=results)
            if feedback := _feedback(message):
                yield ModelRequest(parts=feedback)
        case "tool":
            for part in message.parts:
                if part["type"] == "tool_result" and part["call_id"] not in announced:
                    yield ModelResponse(parts=[_part(part)], timestamp=_time(message))
                    yield ModelRequest(parts=[_result(part, part)])
        case "system":
            pass  # the last of them opens the history


def _asked(message: Message, before: str = "") -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(before + message.text, timestamp=_time(message))])


def _response(message: Message) -> ModelResponse:
    parts = [_part(part) for part in message.parts if part["type"] in _READ]
    if message.state == "partial":
        # Thinking that was cut off has no signature, and a provider may refuse it without.
        parts = [part for part in parts if not isinstance(part, ThinkingPart)]
        parts.append(TextPart(CUT_OFF))
    return ModelResponse(parts=parts, timestamp=_time(message))


def _part(part: JsonObject) -> ModelResponsePart:
    provider: Mapping[str, Any] = part.get("provider", {})
    if part["type"] in ("text", "thinking"):
        plain = {"part_kind": part["type"], "content": part["text"]}
    else:
        name = part["name"] if "tool_call_id" in provider else wire_name(part["name"])
        plain = {
            "part_kind": "tool-call",
            "tool_name": name,
            "args": part["arguments"],
            "tool_call_id": part["call_id"],
        }
    known = plain | {name: value for name, value in provider.items() if name != "feedback"}
    try:
        return _PARTS.validate_python(provider.get("part", known))
    except ValidationError:
        # Another version of pydantic-ai wrote it: what matters is what was said.
        return _PARTS.validate_python(plain)


def _result(call: JsonObject, outcome: JsonObject | None) -> ModelRequestPart:
    part = _part(call)
    assert isinstance(part, ToolCallPart)
    content: Any = NEVER_RUN
    if outcome is not None and outcome["status"] == "completed":
        content = outcome["result"]
    elif outcome is not None:
        content = told(outcome["status"], outcome["reason"])
    return ToolReturnPart(
        tool_name=part.tool_name,
        content=content,
        tool_call_id=part.tool_call_id,
        outcome="success" if outcome and outcome["status"] == "completed" else "failed",
    )


def _call(part: ToolCallPart, call_id: CallId, name: str) -> JsonObject:
    provider = {n: value for n, value in _dumped(part).items() if n not in _SAID}
    if name == part.tool_name:
        del provider["tool_name"]
    if _object(part.args) is None:
        provider["args"] = part.args
    return {
        "type": "tool_call",
        "call_id": call_id,
        "name": name,
        "arguments": arguments_of(part),
        "provider": provider,
    }


def _dumped(part: ModelResponsePart) -> dict[str, Any]:
    dumped: dict[str, Any] = _PARTS.dump_python(part, mode="json", exclude_none=True)
    return dumped


def _provider(dumped: Mapping[str, Any]) -> dict[str, Any]:
    provider = {name: value for name, value in dumped.items() if name not in _SAID}
    return {"provider": provider} if provider.keys() - _IDLE else {}


def _unanswered(message: Message, outcomes: Mapping[str, JsonObject]) -> bool:
    return any(call["call_id"] not in outcomes for call in _calls(message))


def _calls(message: Message) -> list[JsonObject]:
    return [part for part in message.parts if part["type"] == "tool_call"]


def _provider_id(call: JsonObject) -> str:
    provider: Mapping[str, str] = call.get("provider", {})
    return provider.get("tool_call_id", call["call_id"])


def _feedback(message: Message) -> list[RetryFeedbackPart]:
    told: list[Any] = []
    for part in message.parts:
        told.extend(part.get("provider", {}).get("feedback", ()))
    return [_FEEDBACK.validate_python(each) for each in told]


def _time(message: Message) -> datetime:
    return datetime.fromtimestamp(message.at_ms / 1000, tz=UTC)
