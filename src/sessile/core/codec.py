"""Events to JSON text and back. Kind names are for ever; an unknown kind survives a round trip."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from json import encoder
from typing import Any, cast, get_args

from sessile.core import events
from sessile.core.events import Entry, Event, Unknown
from sessile.core.ids import TurnId

_KINDS: Mapping[str, type] = {cls.kind: cls for cls in get_args(Event) if cls is not Unknown}
_COLUMNS = ("turn_id",)
_MARK = "redacted"
_BODY = {
    cls: tuple(f.name for f in fields(cls) if f.name not in (*_COLUMNS, _MARK))
    for cls in _KINDS.values()
}
_VOIDABLE = frozenset(cls for cls in _KINDS.values() if any(f.name == _MARK for f in fields(cls)))
"""Where it is not voided, nothing is said of it: most entries never are."""
_HAS_TURN = frozenset(
    cls for cls in _KINDS.values() if any(f.name == "turn_id" for f in fields(cls))
)
_NEEDS_TURN = frozenset(
    cls for cls in _HAS_TURN if any(f.name == "turn_id" and f.type is TurnId for f in fields(cls))
)
_TUPLES = frozenset({"parts", "message_ids", "call_ids", "calls"})
_REQUIRED = {
    cls: frozenset(
        f.name
        for f in fields(cls)
        if f.default is MISSING and f.default_factory is MISSING and f.name not in _COLUMNS
    )
    for cls in _KINDS.values()
}
# An escaped NUL, but not a backslash that is itself escaped before the letters u0000.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
# What `JSONEncoder.encode` makes anew at each call, made once: a third of what an entry costs.
_encoded: Callable[[Any, int], Iterable[str]] = cast(Any, encoder).c_make_encoder(
    None,
    dict,
    encoder.encode_basestring,
    None,
    ":",
    ",",
    False,
    False,
    False,
)
_lenient = json.JSONEncoder(default=dict)


def kinds() -> frozenset[str]:
    """All kinds that this version knows."""
    return frozenset(_KINDS)


def to_json(value: Any) -> str:
    """Compact JSON that any database and reader takes: NUL and lone surrogates become U+FFFD,
    NaN and the infinities null."""
    try:
        text = "".join(_encoded(value, 0))
    except RecursionError:
        raise ValueError("Circular, or nested too deep for JSON") from None
    except ValueError:
        finite = json.loads(_lenient.encode(value), parse_constant=lambda _: None)
        text = "".join(_encoded(finite, 0))
    if "\\u0000" in text:
        text = _NUL.sub("\\1\ufffd", text)
    return text if text.isascii() else clean(text)


def clean(text: str) -> str:
    """The text with each lone surrogate replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def encode(event: Event) -> str:
    """The entry body of an event."""
    if isinstance(event, Unknown):
        return to_json(event.body)
    cls = type(event)
    body = {name: getattr(event, name) for name in _BODY[cls]}
    if cls in _VOIDABLE and getattr(event, _MARK):
        body[_MARK] = True
    return to_json(body)


def turn_of(event: Event) -> TurnId | None:
    """The turn that an event belongs to, if it belongs to one."""
    if isinstance(event, Unknown) or type(event) in _HAS_TURN:
        turn_id: TurnId | None = getattr(event, "turn_id")  # noqa: B009
        return turn_id
    return None


def decode(entry: Entry) -> Event:
    """The event of an entry. Fields that a newer version added are left out.

    Raises ValueError where the body is not one that any version wrote.
    """
    parsed: Any = json.loads(entry.body)
    if not isinstance(parsed, dict):
        raise ValueError(f"entry {entry.seq}: the body is no object")
    body = cast(dict[str, Any], parsed)
    cls = _KINDS.get(entry.kind)
    if cls is None:
        return Unknown(kind=entry.kind, turn_id=entry.turn_id, body=body)
    if missing := _REQUIRED[cls] - body.keys():
        raise ValueError(f"entry {entry.seq}: {entry.kind} without {', '.join(sorted(missing))}")
    values: dict[str, Any] = {name: body[name] for name in _BODY[cls] if name in body}
    if cls in _VOIDABLE and body.get(_MARK) is True:
        values[_MARK] = True
    for name in _TUPLES & values.keys():
        if not isinstance(values[name], list):
            raise ValueError(f"entry {entry.seq}: {entry.kind} with {name} that are no list")
        values[name] = tuple(values[name])
    if cls in _HAS_TURN:
        if entry.turn_id is None and cls in _NEEDS_TURN:
            raise ValueError(f"entry {entry.seq}: {entry.kind} without turn_id")
        values["turn_id"] = entry.turn_id
    event: Event = cls(**values)
    return event


def entry_json(entry: Entry) -> str:
    """The wire form of an entry: `{seq, kind, turn_id, at, body}`. The body is not parsed."""
    turn = "null" if entry.turn_id is None else f'"{entry.turn_id}"'
    return (
        f'{{"seq":{entry.seq},"kind":"{entry.kind}","turn_id":{turn},'
        f'"at":"{timestamp(entry.at_ms)}","body":{entry.body}}}'
    )


def timestamp(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds, by Howard Hinnant's civil-from-days algorithm.

    Written out because a log's entries are encoded by the thousand, and because core takes no
    clock: `datetime` would be both slower and an open door.
    """
    seconds, milliseconds = divmod(at_ms, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    """What is written at one time has few seconds in it."""
    days, second = divmod(seconds, 86_400)
    day = days + 719_468
    era, day_of_era = divmod(day, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    return (
        f"{year:04d}-{month:02d}-{day_of_year - (153 * shifted + 2) // 5 + 1:02d}"
        f"T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    )


assert kinds() >= events.TERMINAL_KINDS
