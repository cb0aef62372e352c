"""What an input, a title and metadata have to be, whichever surface they came by."""

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from sessile.core.codec import clean, to_json
from sessile.core.commands import Once, Press
from sessile.core.context import Principal
from sessile.core.errors import InvalidInput
from sessile.core.events import JsonObject
from sessile.core.ids import SessionId, SessionKey, well_formed
from sessile.ports.agent import Agent
from sessile.settings import Settings

logger = logging.getLogger(__name__)

NOBODYS_SESSION = SessionId("ses_")
INPUT_TYPES = ("message", "task", "button")
DEPTH_MAX = 32
"""What is nested deeper is stored, and then told by nobody's serializer."""
_KEY = re.compile(r"[\x20-\x7e]{1,200}")
_GRANT = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")


def session_key(principal: Principal, session_id: SessionId) -> SessionKey:
    """Where the caller's session would be. What cannot be an id is looked for under a name that
    nothing has: it is answered as any other that does not exist, and no database sees it."""
    known = well_formed(session_id, prefix="ses")
    return SessionKey(principal.tenant_id, session_id if known else NOBODYS_SESSION)


def read_input(
    given: JsonObject, agents: Mapping[str, Agent], settings: Settings
) -> JsonObject | Press:
    """As it is submitted: a press is judged where it is known whose it is, and that it is not sent
    again. Raises InvalidInput, with the field; of a press only where it is not JSON."""
    if given.get("type") != "button":
        _check_input(given, settings)
        return given
    _as_json(given, field="input")
    try:
        _check_press(given, settings)
    except InvalidInput as refusal:
        return Press(readings={}, malformed=refusal)
    return Press(
        readings={name: _reading(agent, given, settings) for name, agent in agents.items()}
    )


def _reading(agent: Agent, given: JsonObject, settings: Settings) -> JsonObject | InvalidInput:
    try:
        return _pressed(given, agent.pressed(given["button"], given["payload"]), settings)
    except InvalidInput as refusal:
        return refusal
    except Exception as error:  # a guest's code ends here
        logger.error("a press could not be read", exc_info=error, extra={"assistant": agent.name})
        return InvalidInput("the payload could not be read", field="input.payload")


def _pressed(given: JsonObject, label: str, settings: Settings) -> JsonObject:
    """With the text that it reads as in the history."""
    read = {**given, "text": given.get("text") or label}
    _check_input(read, settings)
    return read


def _check_input(given: JsonObject, settings: Settings) -> None:
    text = given.get("text")
    if given.get("type") not in INPUT_TYPES:
        raise InvalidInput(f"input.type is one of {', '.join(INPUT_TYPES)}", field="input.type")
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput("input.text is a text that is not empty", field="input.text")
    chars_max = settings.text_chars_max
    if len(text) > chars_max:
        raise InvalidInput(f"input.text has at most {chars_max} characters", field="input.text")
    if not storable(text):
        raise InvalidInput("input.text has a NUL or a lone surrogate", field="input.text")
    _as_json(given, field="input")
    if metadata := given.get("metadata"):
        checked_metadata(metadata, settings, field="input.metadata")


def read_once(principal: Principal, scope: str, key: str | None, body: list[Any]) -> Once | None:
    """What the caller's idempotency key stands for. Raises InvalidInput."""
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidInput(
            "an idempotency key is 1 to 200 printable ASCII characters", field="idempotency_key"
        )
    canonical = json.dumps(json.loads(to_json(body)), sort_keys=True)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return Once(user_id=principal.user_id, scope=scope, key=key, request_hash=digest)


def check_grant(grant: str) -> None:
    """Raises InvalidInput."""
    if not _GRANT.fullmatch(grant):
        raise InvalidInput(f"a grant has the form {_GRANT.pattern}", field="grants")


def checked_title(title: str | None, settings: Settings) -> str | None:
    """Raises InvalidInput."""
    chars_max = settings.title_chars_max
    if title is not None and (len(title) > chars_max or not storable(title)):
        raise InvalidInput(
            f"title has at most {chars_max} characters, no NUL and no lone surrogate",
            field="title",
        )
    return title


def checked_metadata(
    metadata: JsonObject, settings: Settings, *, field: str = "metadata"
) -> JsonObject:
    """As it is stored and will be read. Raises InvalidInput, with the field."""
    bytes_max = settings.metadata_bytes_max
    text = _as_json(metadata, field=field)
    if len(text.encode()) > bytes_max:
        raise InvalidInput(f"{field} has at most {bytes_max} bytes as JSON", field=field)
    stored: JsonObject = json.loads(text)
    return stored


def _check_press(given: JsonObject, settings: Settings) -> None:
    if not isinstance(given.get("button"), str):
        raise InvalidInput("input.button is the name of a button", field="input.button")
    payload = given.get("payload")
    if not isinstance(payload, Mapping):
        raise InvalidInput("input.payload is an object", field="input.payload")
    checked_metadata(cast(JsonObject, payload), settings, field="input.payload")


def storable(text: str) -> bool:
    return "\0" not in text and clean(text) is text


def _as_json(value: JsonObject, *, field: str) -> str:
    try:
        text = to_json(value)
    except (TypeError, ValueError, RecursionError):
        raise InvalidInput(f"{field} is not JSON", field=field) from None
    if text.count("[") + text.count("{") > DEPTH_MAX and _too_deep(value):
        raise InvalidInput(f"{field} is nested more than {DEPTH_MAX} deep", field=field)
    return text


def _too_deep(value: JsonObject) -> bool:
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        level = [child for each in level for child in _children(each)]
    return bool(level)


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return cast(Mapping[str, Any], value).values()
    return cast(Iterable[Any], value) if isinstance(value, list | tuple) else ()
