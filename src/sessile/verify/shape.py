"""What each line of a history has to be, so that the checks can go by it."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, cast

Kinds = type | tuple[type, ...]
Shape = Mapping[str, tuple[Kinds, bool]]
"""By name: what it may be, and whether it has to be there."""
TEXT: Kinds = (str, type(None))
NUMBER: Kinds = (int, float, type(None))

RUN: Shape = {
    "target": (str, True), "can": (tuple, True), "limits": (dict, True), "seed": (int, True),
    "url": (str, False), "version": (int, False),
}  # fmt: skip
OP: Shape = {
    "number": (int, True), "kind": (str, True), "part": (str, True), "client": (str, True),
    "principal": (str, True), "began": ((int, float), True), "ended": ((int, float), True),
    "outcome": (str, True), "session": (TEXT, False), "turn": (TEXT, False),
    "nonce": (TEXT, False), "key": (TEXT, False), "status": ((int, type(None)), False),
    "settled": (bool, False), "said": (dict, False), "request": (str, False),
    "reply": (str, False),
}  # fmt: skip
ITEM: Shape = {"id": (TEXT, True), "role": (str, True), "text": (str, True), "turn": (TEXT, True)}
SAID: Shape = {
    "session": (TEXT, False), "turn": (TEXT, False), "reply": (TEXT, False),
    "sessions": (list, False), "events": (list, False),
    "text": (str, False), "message": (str, False), "call": (TEXT, False), "over": (bool, False),
    "progress": (dict, False),
}  # fmt: skip
EVENT: Shape = {"is": (str, True), "name": (str, True), "turn": (TEXT, False)}
OF_KIND: Mapping[str, Shape] = {
    "read": {"path": (str, True), "items": (list, True)},
    "turn": {"state": (str, True)},
    "list": {"sessions": (list, True)},
    "tools": {"names": (list, True)},
    "pending": {"names": (list, True)},
    "stream": {
        "stream": (int, True), "cursor": (TEXT, True), "end": (str, True),
        "opened": (NUMBER, True), "silence": ((int, float), True),
    },
    "event": {
        "stream": (int, True), "id": (TEXT, True), "seq": (object, True), "name": (str, True),
        "session": (TEXT, True), "turn": (TEXT, True), "is": (str, True), "state": (TEXT, True),
    },
}  # fmt: skip
"""Of what was answered; a stream and an event say it in any case."""


def check(values: Any, shape: Shape) -> None:
    """Raises TypeError."""
    if not isinstance(values, dict):
        raise TypeError("it is not names and values")
    given = cast(Mapping[str, Any], values)
    for name, (kinds, needed) in shape.items():
        if name not in given:
            if needed:
                raise TypeError(f"{name} is missing")
        elif not isinstance(given[name], kinds):
            raise TypeError(f"{name} is a {type(given[name]).__name__}")
        elif isinstance(given[name], float) and not isfinite(given[name]):
            raise TypeError(f"{name} is {given[name]}")


def check_run(values: Any) -> None:
    """Raises TypeError."""
    check(values, RUN)
    for each in values["limits"].values():
        check({"a limit": each}, {"a limit": ((int, float), True)})
    for each in values["can"]:
        check({"can": each}, {"can": (str, True)})


def check_op(values: Any) -> None:
    """Raises TypeError."""
    check(values, OP)
    said, kind = values.get("said", {}), values["kind"]
    check(said, SAID)
    if values["outcome"] == "ok" or kind in ("stream", "event"):
        check(said, OF_KIND.get(kind, {}))
    if kind == "stream" and values["outcome"] == "ok" and said["opened"] is None:
        raise TypeError("opened is missing")
    for item in said.get("items", ()):
        check(item, ITEM)
    for event in said.get("events", ()):
        check(event, EVENT)
    for session in said.get("sessions", ()):
        check({"session": session}, SAID)
