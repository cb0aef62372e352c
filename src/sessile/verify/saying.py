"""What a backend said, in the checker's words."""

import json
import re
from collections.abc import Mapping
from typing import Any

from sessile.verify import paths
from sessile.verify.answering import NONCE
from sessile.verify.mapping import Events, Read
from sessile.verify.mapping import Mapping as Target
from sessile.verify.sse import Event, Reader

TEXT_CHARS_MAX = 50_000
_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


def parsed(text: str) -> Any:
    """What the JSON says; None where it is none. Half a surrogate, which no file and no address
    takes, is replaced."""
    try:
        value = json.loads(text)
        if _SURROGATE.search(text):
            value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return value


def kept(text: str) -> str:
    """Of a long text, its beginning, and the nonces in the rest."""
    if len(text) <= TEXT_CHARS_MAX:
        return text
    return " ".join((text[:TEXT_CHARS_MAX], *NONCE.findall(text, TEXT_CHARS_MAX)))


def as_id(value: Any) -> str | None:
    """Of a session, a turn, an event: 7 in a reply is what `7` is in an address."""
    return None if value is None else str(value)


def said_by(event: Event, events: Events) -> dict[str, Any]:
    """An event in the checker's words."""
    data = parsed(event.data)

    def at(path: str | None) -> Any:
        if path == "@event":
            return event.name
        return event.id if path == "@id" else paths.first(data, path)

    name = paths.as_text(at(events.name))
    said: dict[str, Any] = {"id": as_id(at(events.id)), "name": name, "is": "other"}
    said |= {"state": None, "seq": at(events.seq)}
    said |= {"session": as_id(at(events.session)), "turn": as_id(at(events.turn))}
    if name in events.call_started or name in events.call_ended:
        said["call"], said["over"] = as_id(at(events.call)), name in events.call_ended
    if name in events.gap:
        said["is"] = "gap"
    elif name in events.started:
        said["is"] = "started"
    elif name in events.ended:
        said["is"], said["state"] = "ended", events.ended[name]
    elif name in events.texts:
        said["is"] = "text"
    if events.text is not None and name in events.texts:
        said["text"] = kept(paths.text(data, events.text))
    if events.message is not None and name in events.messages:
        said["message"] = kept(paths.text(data, events.message))
    if name in events.progress_in:
        said["progress"] = {each: paths.first(data, path) for each, path in events.progress.items()}
    return said


def streamed(text: str, events: Events, at: Mapping[str, Any]) -> dict[str, Any]:
    """A reply that is an event stream: what it comes to, and each of its events."""
    told = [said_by(event, events) for event in Reader().feed(text.encode() + b"\n\n")]
    named = [each["session"] for each in told if each["session"] is not None]
    turns = [each["turn"] for each in told if each["turn"] is not None]
    sessions = {} if events.session is None else {"sessions": sorted(set(named))}
    return {
        "session": named[0] if named else None, **sessions,
        "turn": turns[0] if turns else None,
        "reply": kept("".join(each.get("text", "") for each in told)),
        "events": [{name: each[name] for name in ("is", "name", "state", "turn")} for each in told],
    }  # fmt: skip


def items_of(value: Any, read: Read) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for item in paths.each(value, read.items):
        if any(paths.text(item, at) != wanted for at, wanted in read.where.items()):
            continue
        role = paths.as_text(paths.first(item, read.role))
        items.append({
            "id": as_id(paths.first(item, read.id)),
            "role": read.roles.get(role, role),
            "text": kept(paths.text(item, read.text)),
            "turn": as_id(paths.first(item, read.turn)),
        })  # fmt: skip
    return items[::-1] if read.newest_first else items


def said_of(
    target: Target, kind: str, text: str, at: Mapping[str, Any], read: tuple[str, Read] | None,
    events: Events | None,
) -> dict[str, Any]:  # fmt: skip
    if events is not None:
        return streamed(text, events, at)
    value = parsed(text)
    if read is not None:
        more = {"more": True} if paths.first(value, read[1].more) else {}
        return {"path": read[0], "items": items_of(value, read[1]), **more}
    if kind == "list" and target.list is not None:
        return {"sessions": list(map(as_id, paths.each(value, target.list.sessions)))}
    if kind == "turn" and target.turn is not None:
        asked = target.turn
        word = paths.as_text(paths.first(value, asked.state))
        state = next((ours for ours, all_ in asked.states.items() if word in all_), "other")
        progress = {name: paths.first(value, at) for name, at in asked.progress.items()}
        return {
            "state": state, "reply": kept(paths.text(value, asked.reply)), "progress": progress,
            "session": as_id(paths.first(value, asked.session)),
        }  # fmt: skip
    said: dict[str, Any] = {}
    if "names" in at:
        said["names"] = [paths.as_text(each) for each in paths.each(value, at["names"])]
    if "session" in at:
        said["sessions"] = [as_id(paths.first(value, path)) for path in at["session"]]
        said["session"] = said["sessions"][0] if said["sessions"] else None
    if "turn" in at:
        said["turn"] = as_id(paths.first(value, at["turn"]))
    if "reply" in at:
        said["reply"] = kept(paths.text(value, at["reply"]))
    return said
