"""Channels: their names, and who is subscribed to which on this node."""

import re
from dataclasses import dataclass, field
from enum import StrEnum

from sessile.core.ids import SessionId, well_formed

CHANNEL_CHARS_MAX = 164
MEMBERS_MAX = 100
"""Users of one presence channel; each newcomer is told all of them in one frame."""
USER_ID_CHARS_MAX = 128

_NAME = re.compile(rf"[A-Za-z0-9_=@,.;-]{{1,{CHANNEL_CHARS_MAX}}}")
_SOCKET_ID = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")
_ENCRYPTED = "private-encrypted-"
_PRIVATE_SESSION = "private-sb-"
_PRESENCE_SESSION = "presence-sb-"
_PUBLIC_SESSION = "sb-"


class Kind(StrEnum):
    """What a channel's name says of who may join it."""

    PUBLIC = "public"
    PRIVATE = "private"
    PRESENCE = "presence"


def kind(channel: str) -> Kind | None:
    """The kind that the name stands for; None if it names no channel that this server has.

    End-to-end encrypted channels are among those that it does not have.
    """
    if not _NAME.fullmatch(channel) or channel.startswith(_ENCRYPTED):
        return None
    if channel.startswith("private-"):
        return Kind.PRIVATE
    return Kind.PRESENCE if channel.startswith("presence-") else Kind.PUBLIC


def is_socket_id(text: str) -> bool:
    """Whether `text` has the form of a socket id: two decimal numbers and a dot."""
    return _SOCKET_ID.fullmatch(text) is not None


def session_channel(session_id: SessionId) -> str:
    """The private channel of a session."""
    return f"{_PRIVATE_SESSION}{session_id}"


def session_of(channel: str, *, public: bool) -> SessionId | None:
    """The session whose channel this is; says nothing of whether it exists, or whose it is.

    `public` takes `sb-…` as well as `private-sb-…` and `presence-sb-…`. No other channel belongs
    to a session.
    """
    prefix = next((each for each in _prefixes(public=public) if channel.startswith(each)), None)
    if prefix is None:
        return None
    session_id = channel.removeprefix(prefix)
    return SessionId(session_id) if well_formed(session_id, prefix="ses") else None


def reserved(channel: str) -> bool:
    """Whether the name is one that sessions alone may have, allowed or not: what is told there
    comes from a log, and from nowhere else."""
    return channel.startswith(_prefixes(public=True))


def _prefixes(*, public: bool) -> tuple[str, ...]:
    private = (_PRIVATE_SESSION, _PRESENCE_SESSION)
    return (*private, _PUBLIC_SESSION) if public else private


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A user in a presence channel. `info` is any JSON value, told to the other members as is."""

    user_id: str
    info: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What a subscription changed."""

    occupied: bool
    """The channel had no socket before."""
    member_added: Member | None
    """The user who had no socket in the channel before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What the end of a subscription changed."""

    channel: str
    vacated: bool
    """The channel has no socket any more."""
    member_removed: Member | None
    """The user who has no socket in the channel any more."""


@dataclass(slots=True)
class _Presence:
    member: Member
    sockets: int


@dataclass(slots=True)
class _Channel:
    sockets: dict[str, str | None] = field(default_factory=dict[str, str | None])
    """Socket id to the id of its user, in the order of their coming."""
    users: dict[str, _Presence] = field(default_factory=dict[str, _Presence])


class Registry:
    """The subscriptions of one node. Each call costs what it touches: a socket that leaves
    costs as much as it had channels, however many sockets and channels there are."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._sockets: dict[str, dict[str, None]] = {}

    def subscribe(self, socket_id: str, channel: str, member: Member | None = None) -> Joined:
        """Add a subscription that is not there yet; `member` is for presence channels.

        A user's first socket in a channel decides what the others are told of the user.
        """
        assert channel not in self._sockets.get(socket_id, {}), f"{socket_id} is in {channel}"
        here = self._channels.setdefault(channel, _Channel())
        occupied = not here.sockets
        self._sockets.setdefault(socket_id, {})[channel] = None
        here.sockets[socket_id] = member.user_id if member else None
        if member is None:
            return Joined(occupied=occupied, member_added=None)
        presence = here.users.setdefault(member.user_id, _Presence(member, 0))
        presence.sockets += 1
        return Joined(occupied=occupied, member_added=member if presence.sockets == 1 else None)

    def unsubscribe(self, socket_id: str, channel: str) -> Left:
        """End a subscription that is there."""
        theirs = self._sockets[socket_id]
        del theirs[channel]
        if not theirs:
            del self._sockets[socket_id]
        here = self._channels[channel]
        user_id = here.sockets.pop(socket_id)
        if not here.sockets:
            del self._channels[channel]
        removed = None if user_id is None else self._step_out(here, user_id)
        return Left(channel=channel, vacated=not here.sockets, member_removed=removed)

    def leave(self, socket_id: str) -> list[Left]:
        """End every subscription of a socket, in the order in which they began."""
        return [self.unsubscribe(socket_id, each) for each in self.channels_of(socket_id)]

    def channels_of(self, socket_id: str) -> tuple[str, ...]:
        """The channels that this socket is subscribed to."""
        return tuple(self._sockets.get(socket_id, ()))

    def sockets_of(self, channel: str) -> tuple[str, ...]:
        """The sockets that are subscribed to this channel."""
        here = self._channels.get(channel)
        return tuple(here.sockets) if here else ()

    def subscription_count(self, channel: str) -> int:
        """How many sockets are subscribed; 0 for a channel that nobody is in."""
        here = self._channels.get(channel)
        return len(here.sockets) if here else 0

    def members(self, channel: str) -> tuple[Member, ...]:
        """The users in a presence channel, each once; none in any other channel."""
        here = self._channels.get(channel)
        return tuple(each.member for each in here.users.values()) if here else ()

    def user_count(self, channel: str) -> int:
        """How many users are in a presence channel; 0 for any other."""
        here = self._channels.get(channel)
        return len(here.users) if here else 0

    def has_room(self, channel: str, member: Member) -> bool:
        """Whether this user may still come; one that is there already may come again."""
        here = self._channels.get(channel)
        return here is None or member.user_id in here.users or len(here.users) < MEMBERS_MAX

    def occupied(self, prefix: str = "") -> tuple[str, ...]:
        """The channels that have a socket and begin with `prefix`."""
        return tuple(each for each in self._channels if each.startswith(prefix))

    @staticmethod
    def _step_out(here: _Channel, user_id: str) -> Member | None:
        presence = here.users[user_id]
        presence.sockets -= 1
        if presence.sockets:
            return None
        del here.users[user_id]
        return presence.member
