"""What the signed HTTP API is asked, read from a body or a query."""

from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, Field, ValidationError

from sessile.core.errors import SessileError
from sessile.pusher.channels import is_socket_id, kind, reserved
from sessile.pusher.frames import is_event_name

Model = TypeVar("Model", bound=BaseModel)
CHANNELS_MAX = 100
BATCH_MAX = 10
DATA_BYTES_MAX = 10_240
QUERY_FIELDS_MAX = 20
INFOS = frozenset({"subscription_count", "user_count"})


class RequestInvalid(SessileError):
    """The request does not have the form that the Pusher HTTP API has."""

    code = "pusher_request_invalid"
    status = 400


class SessionChannel(SessileError):
    """What is told in a session's channel comes from its log, and from nowhere else."""

    code = "pusher_session_channel"
    status = 403


class EventTooLarge(SessileError):
    """An event's data are larger than this server takes."""

    code = "pusher_event_too_large"
    status = 413


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """One event for one channel or for several."""

    name: str
    channels: tuple[str, ...]
    data: str
    excepting: str | None
    infos: frozenset[str]


def pairs(text: bytes) -> list[tuple[str, str]]:
    """A query or a form, decoded. Raises RequestInvalid."""
    try:
        return parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )
    except ValueError:
        raise RequestInvalid("The query or the form is not well formed.") from None


def form(body: bytes) -> dict[str, str]:
    """A form, each field of which may stand once. Raises RequestInvalid."""
    given = pairs(body)
    fields = dict(given)
    if len(fields) < len(given):
        raise RequestInvalid("A field stands twice.")
    return fields


class _Event(BaseModel):
    name: str
    data: str
    channels: list[str] = []
    channel: str | None = None
    socket_id: str | None = None
    info: str | None = None


class _Batch(BaseModel):
    batch: list[_Event] = Field(max_length=BATCH_MAX)


def read_events(body: bytes) -> tuple[Publish, ...]:
    """The event that is to be published. Raises RequestInvalid, SessionChannel, EventTooLarge."""
    return (_publish(_read(_Event, body)),)


def read_batch(body: bytes) -> tuple[Publish, ...]:
    """The events that are to be published, or none of them. Raises as `read_events` does."""
    return tuple(_publish(each) for each in _read(_Batch, body).batch)


def infos(text: str | None) -> frozenset[str]:
    """What is to be told of a channel. Raises RequestInvalid."""
    wanted = frozenset(text.split(",")) if text else frozenset[str]()
    if not wanted <= INFOS:
        raise RequestInvalid(f"info is some of {', '.join(sorted(INFOS))}.")
    return wanted


def _read(model: type[Model], body: bytes) -> Model:
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "The body"
        raise RequestInvalid(f"{place}: {first['msg']}.") from None


def _publish(event: _Event) -> Publish:
    channels = (*event.channels, *([] if event.channel is None else [event.channel]))
    if not is_event_name(event.name):
        raise RequestInvalid("name: This is no name of an event.")
    if event.socket_id is not None and not is_socket_id(event.socket_id):
        raise RequestInvalid("socket_id: This is no socket id.")
    if not 1 <= len(channels) <= CHANNELS_MAX:
        raise RequestInvalid(f"channels: An event has 1 to {CHANNELS_MAX}.")
    if any(kind(channel) is None for channel in channels):
        raise RequestInvalid("channels: There is no such channel.")
    if any(map(reserved, channels)):
        raise SessionChannel()
    if len(event.data.encode()) > DATA_BYTES_MAX:
        raise EventTooLarge(bytes_max=DATA_BYTES_MAX)
    return Publish(
        name=event.name,
        channels=channels,
        data=event.data,
        excepting=event.socket_id,
        infos=infos(event.info),
    )
