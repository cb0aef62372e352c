"""What a redaction takes out of one entry's body, kind by kind."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, cast

from sessile.core.events import TERMINAL_KINDS, Entry
from sessile.core.ids import CallId, MessageId, TurnId
from sessile.core.session import Session

REPEATED_CHARS_MIN = 4
"""A text as short as "yes" is in everything, and tells nothing."""

Body = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Voids:
    """`ids`: of messages. `inputs`, `outputs`: turns whose input, or output, is void; `turns`:
    where what else repeats one of `texts` is void. `asked`, `answered`: calls whose arguments, or
    whose outcome, are void. `place`: the seq behind which a summary may tell the message."""

    ids: frozenset[MessageId]
    inputs: set[TurnId] = field(default_factory=set[TurnId])
    outputs: set[TurnId] = field(default_factory=set[TurnId])
    turns: set[TurnId] = field(default_factory=set[TurnId])
    asked: set[CallId] = field(default_factory=set[CallId])
    answered: set[CallId] = field(default_factory=set[CallId])
    texts: set[str] = field(default_factory=set[str])
    place: float = inf

    def take(self, entry: Entry, body: Body) -> None:
        """Take what is void out of the body."""
        own, turn_id = body.get("message_id") in self.ids, entry.turn_id
        match entry.kind:
            case "turn.queued" | "turn.steered" if own:
                body["input"] = _void_input(body["input"])
            case "turn.edited" if turn_id in self.inputs:
                body["input"] = _void_input(body["input"])
            case "button.pressed" if turn_id in self.inputs:
                body["payload"] = {}
            case "intent.decided" if turn_id in self.inputs:
                body["reason"] = ""
            case "message.added":
                body["parts"] = [*self._parts(body["parts"], own=own, turn_id=turn_id)]
            case "message.delta" if own:
                body["text"], body["offset"] = "", 0
            case "button.offered" if own:
                body["label"], body["payload"] = "", {}
            case "session.summarized" if entry.seq > self.place:
                body["summary"] = ""
            case "session.opened" | "session.updated":
                body["title"] = self._title(body["title"])
                body["metadata"] = self._scrubbed(body["metadata"])
            case _:
                self._take_of_turn(entry, body)

    def session(self, session: Session) -> Body:
        """The title and metadata that the wide row has now."""
        title, metadata = self._title(session.title), self._scrubbed(session.metadata)
        return {"title": title, "metadata": metadata}

    def _take_of_turn(self, entry: Entry, body: Body) -> None:
        turn_id, call_id = entry.turn_id, body.get("call_id")
        if entry.kind == "turn.awaiting":
            body["calls"] = [self._call(each, turn_id) for each in body["calls"]]
        if turn_id in self.outputs and (
            entry.kind in TERMINAL_KINDS or entry.kind == "turn.awaiting"
        ):
            body["output"] = ""
        if "arguments" in body:
            body |= self._call(body, turn_id)
        if call_id in self.answered:
            body |= {name: "" for name in ("error", "reason") if name in body}
            if "result" in body:
                body["result"] = None
        if turn_id in self.turns:
            # Not the output of an answer: what repeats a message there is a message of its own.
            texts = ("result", "error", "reason", "note")
            body |= {name: self._scrubbed(body[name]) for name in texts if name in body}

    def _call(self, call: Mapping[str, Any], turn_id: TurnId | None) -> Body:
        arguments = call["arguments"]
        if call["call_id"] in self.asked:
            arguments = {}
        elif turn_id in self.turns:
            arguments = self._scrubbed(arguments)
        return {**call, "arguments": arguments}

    def _parts(self, parts: Iterable[Body], *, own: bool, turn_id: TurnId | None) -> Iterable[Body]:
        for part in parts:
            if part["type"] == "tool_call":
                call = self._call(part, turn_id)
                # What a provider keeps with a part may say the same in its own words.
                changed = own or call["arguments"] != part["arguments"]
                yield _without_provider(call) if changed else part
            elif not own:
                yield part
            elif part["type"] == "button":
                yield {**part, "label": "", "payload": {}}
            elif part["type"] == "text":
                yield {"type": "text", "text": "", "redacted": True}

    def _title(self, title: str | None) -> str | None:
        if title is None:
            return None
        said = _plain(title).rstrip("….").rstrip()
        for text in map(_plain, self.texts):
            if said == text or (len(said) >= REPEATED_CHARS_MIN and said in text):
                return None
        return None if self._repeats(title) else title

    def _scrubbed(self, value: Any) -> Any:
        if not self.texts:
            return value
        if isinstance(value, str):
            return "" if self._repeats(value) else value
        if isinstance(value, Mapping):
            items = cast(Mapping[str, Any], value).items()
            return {name: self._scrubbed(each) for name, each in items if not self._repeats(name)}
        if isinstance(value, list | tuple):
            return [self._scrubbed(each) for each in cast(list[Any], value)]
        return value

    def _repeats(self, said: str) -> bool:
        return any(
            text in said or _plain(text) in _plain(said)
            for text in self.texts
            if len(text) >= REPEATED_CHARS_MIN
        )


def texts_of(body: Mapping[str, Any]) -> set[str]:
    """What is said in a body that is to be void, as others may repeat it."""
    said: list[Any] = [body.get("result"), body.get("input", {}).get("text")]
    parts = [it.get("text") for it in body.get("parts", ()) if it["type"] == "text"]
    said += [*parts, "".join(parts)]
    return {it.strip() for it in said if isinstance(it, str) and it.strip()}


def _plain(text: str) -> str:
    return " ".join(text.split())


def _void_input(given: Mapping[str, Any]) -> Body:
    """What kind of input it was, and for a press of which button of which message."""
    kept = {name: given[name] for name in ("type", "button", "message_id") if name in given}
    if given["type"] == "button":
        kept["payload"] = {}
    return {**kept, "text": "", "redacted": True}


def _without_provider(part: Body) -> Body:
    return {name: value for name, value in part.items() if name != "provider"}
