"""Frames of protocol 7: what a client may say, read without mercy, and what it is told."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic_core import from_json

from sessile.core.codec import entry_json, to_json
from sessile.core.events import Entry
from sessile.core.ids import Seq
from sessile.pusher.channels import USER_ID_CHARS_MAX, Member

EVENT_CHARS_MAX = 200
USER_INFO_BYTES_MAX = 1_024
PROTOCOLS = frozenset({"5", "6", "7"})
"""The versions of the protocol that differ in nothing that this server does."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a frame or a connection is refused. The code tells the client what to do next: 4000
    to 4099 give up, 4100 to 4199 come back later, 4200 to 4299 come back at once; 4300 and
    above are said of one frame, and the connection stays."""

    code: int
    message: str


APP_UNKNOWN = Fault(4001, "There is no app with this key.")
PROTOCOL_UNSUPPORTED = Fault(4007, "This server speaks protocol 7.")
PROTOCOL_MISSING = Fault(4008, "The address names no protocol version.")
UNAUTHORIZED = Fault(4009, "This connection is not authorised.")
OVER_CAPACITY = Fault(4100, "This server has as many connections as it takes.")
FRAMES_TOO_MANY = Fault(4100, "This connection sends more frames than this server takes.")
DRAINING = Fault(4200, "This server is shutting down.")
AUTHORIZE_AGAIN = Fault(4200, "The authorisation has ended; ask for a new one.")
START_AGAIN = Fault(4200, "The log is another than it was; subscribe again.")
TOO_SLOW = Fault(4100, "This connection takes what it is sent too slowly.")
UNREADABLE = Fault(4100, "The database does not answer.")
PONG_MISSING = Fault(4201, "The ping was not answered in time.")
FRAME_TOO_LARGE = Fault(1009, "The frame is larger than this server takes.")
FRAME_BINARY = Fault(4300, "Frames are text.")
SUBSCRIBED_ALREADY = Fault(4300, "There is a subscription to this channel already.")


def opening_fault(*, key: str, key_expected: str, protocol: str | None) -> Fault | None:
    """What is wrong with `/app/{key}?protocol=…`; None if the connection may begin."""
    if key != key_expected:
        return APP_UNKNOWN
    if protocol is None:
        return PROTOCOL_MISSING
    return None if protocol in PROTOCOLS else PROTOCOL_UNSUPPORTED


@dataclass(frozen=True, slots=True)
class Ping:
    """The client asks for a sign of life."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The client answers our ping."""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The client asks to join a channel."""

    channel: str
    auth: str
    channel_data: str | None


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The client leaves a channel."""

    channel: str


@dataclass(frozen=True, slots=True)
class Trigger:
    """The client has something to tell the others in a channel; `data` is text, as in JSON."""

    channel: str
    event: str
    data: str


Said = Ping | Pong | Subscribe | Unsubscribe | Trigger


def read(text: str) -> Said | Fault:
    """What the frame says, or why it says nothing; never raises, whatever the text is."""
    frame = _object(text)
    if frame is None:
        return Fault(4300, "The frame is no JSON object, or nested too deeply.")
    match frame:
        case {"event": "pusher:ping"}:
            return Ping()
        case {"event": "pusher:pong"}:
            return Pong()
        case {"event": "pusher:subscribe", "data": {"channel": str(channel), **rest}}:
            auth, channel_data = rest.get("auth"), rest.get("channel_data")
            if isinstance(auth, str | None) and isinstance(channel_data, str | None):
                return Subscribe(channel, auth or "", channel_data)
            return Fault(4300, "auth and channel_data are strings.")
        case {"event": "pusher:unsubscribe", "data": {"channel": str(channel)}}:
            return Unsubscribe(channel)
        case {"event": "pusher:subscribe" | "pusher:unsubscribe"}:
            return Fault(4300, "data.channel is a string.")
        case {"event": str(event)} if event.startswith("pusher:"):
            return Fault(4300, "This server knows no such event.")
        case {"event": str(event), "channel": str(channel)}:
            data = _data(frame.get("data"))
            return (
                Fault(4300, "data is not JSON.") if data is None else Trigger(channel, event, data)
            )
        case _:
            return Fault(4300, "event and channel are strings.")


def read_member(channel_data: str) -> Member | None:
    """The user that the authoriser signed for, or None if the text names none."""
    match _object(channel_data):
        case {"user_id": str() | int() as user_id, **rest} if not isinstance(user_id, bool):
            info = rest.get("user_info")
            text = _data(info)
            if text is None or len(text.encode()) > USER_INFO_BYTES_MAX:
                return None
            name = str(user_id)
            fits = 0 < len(name) <= USER_ID_CHARS_MAX
            return Member(user_id=name, info=info) if fits else None
        case _:
            return None


def is_event_name(name: str, *, client: bool = False) -> bool:
    """Whether an event may be called so. Clients' begin with `client-`, and nobody else's do;
    `pusher:` and `pusher_internal:` are the protocol's own."""
    if not (0 < len(name) <= EVENT_CHARS_MAX and name.isprintable()):
        return False
    if name.startswith(("pusher:", "pusher_internal:")):
        return False
    return name.startswith("client-") == client


def _object(text: str) -> dict[str, Any] | None:
    # Its parser bounds depth and digits, and takes no lone surrogate: so what was read can
    # be written again. An infinity that was spelt 1e999 is found when it is.
    try:
        value = from_json(text, allow_inf_nan=False, cache_strings="keys")
    except (ValueError, TypeError):
        return None
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def _data(value: object) -> str | None:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event for those who are in a channel, encoded once for all of them."""

    channel: str
    text: str
    seq: Seq | None = None
    """The entry of the session's log that it tells; None for what is in no log."""
    more: tuple[str, ...] = ()
    """What a projection makes of the same entry, told behind it."""


def entry_event(
    channel: str, entry: Entry, projected: Iterable[tuple[str, Mapping[str, object]]] = ()
) -> Event:
    """An entry of a log, told as its kind, and as what was made of it besides: names and data."""
    frame = {"event": entry.kind, "channel": channel, "data": entry_json(entry)}
    more = tuple(log_event(channel, *each, seq=entry.seq).text for each in projected)
    return Event(channel=channel, text=to_json(frame), seq=entry.seq, more=more)


def log_event(channel: str, event: str, body: Mapping[str, object], *, seq: Seq) -> Event:
    """An entry of a log, told as `event`. `seq` is put into its data: a client that sees a gap
    reads the entries between over HTTP. One entry is one event in a channel."""
    return Event(channel=channel, text=_event(event, {**body, "seq": seq}, channel), seq=seq)


def channel_event(channel: str, event: str, data: str, *, user_id: str | None = None) -> Event:
    """What a client or the HTTP API tells a channel, `data` as it came; `user_id` is the
    sender's in a presence channel."""
    frame = {"event": event, "channel": channel, "data": data}
    if user_id is not None:
        frame["user_id"] = user_id
    return Event(channel=channel, text=to_json(frame))


def member_added(channel: str, member: Member) -> Event:
    """Told to the others when a user's first socket has joined a presence channel."""
    data = {"user_id": member.user_id, "user_info": member.info}
    return Event(channel=channel, text=_event("pusher_internal:member_added", data, channel))


def member_removed(channel: str, member: Member) -> Event:
    """Told to the others when a user's last socket has left a presence channel."""
    data = {"user_id": member.user_id}
    return Event(channel=channel, text=_event("pusher_internal:member_removed", data, channel))


def established(socket_id: str, *, activity_timeout_seconds: int) -> str:
    """The first frame of a connection."""
    data = {"socket_id": socket_id, "activity_timeout": activity_timeout_seconds}
    return _event("pusher:connection_established", data)


def succeeded(channel: str, members: Sequence[Member] | None) -> str:
    """The end of a subscription's beginning; `members` of a presence channel, the new one too."""
    data: dict[str, object] = {}
    if members is not None:
        data["presence"] = {
            "count": len(members),
            "ids": [each.user_id for each in members],
            "hash": {each.user_id: each.info for each in members},
        }
    return _event("pusher_internal:subscription_succeeded", data, channel)


def position(channel: str, seq: Seq) -> str:
    """Where in the session's log a subscription begins: every later entry will be told."""
    return _event("sessile.position", {"seq": seq}, channel)


def refused(channel: str, *, kind: str, message: str, status: int) -> str:
    """Why a subscription does not begin, or goes no further."""
    data = {"type": kind, "error": message, "status": status}
    return to_json({"event": "pusher:subscription_error", "channel": channel, "data": data})


def error(fault: Fault) -> str:
    """A fault as a frame; its data are an object, as clients expect here and nowhere else."""
    data = {"code": fault.code, "message": fault.message}
    return to_json({"event": "pusher:error", "data": data})


def _event(event: str, data: object, channel: str | None = None) -> str:
    named = {} if channel is None else {"channel": channel}
    return to_json({"event": event, **named, "data": to_json(data)})


PING = _event("pusher:ping", {})
PONG = _event("pusher:pong", {})
