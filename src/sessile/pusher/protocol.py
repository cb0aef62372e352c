"""One connection of protocol 7 as a state machine: frames and times in, actions out."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import assert_never

from sessile.core.ids import Seq
from sessile.pusher import frames
from sessile.pusher.channels import Kind, Member, kind, reserved
from sessile.pusher.frames import (
    Event,
    Fault,
    Ping,
    Pong,
    Subscribe,
    Trigger,
    Unsubscribe,
    is_event_name,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one connection may ask of the server."""

    activity_timeout_seconds: int = 120
    """After so long a silence the server pings; clients are told to do so too."""
    pong_timeout_seconds: int = 30
    frame_bytes_max: int = 102_400
    frames_per_second_max: int = 100
    frames_burst_max: int = 1_000
    channels_max: int = 100
    client_events: bool = True
    """Whether clients may trigger events at all."""
    client_events_in_sessions: bool = False
    """Whether they may in the channel of a session, beside its log."""
    client_events_per_second_max: int = 10
    client_event_bytes_max: int = 10_240


@dataclass(frozen=True, slots=True)
class Send:
    """Send this text frame."""

    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """Close the WebSocket; nothing is to be sent after it."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorize:
    """Decide whether this socket may join, then say so by `accept` or `refuse` with this very
    object. Every channel is asked for, public ones too; `auth` is empty where none came."""

    channel: str
    kind: Kind
    auth: str
    channel_data: str | None
    member: Member | None
    """The user that `channel_data` names: there in a presence channel, and in no other."""


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """A subscription that `accept` began is at its end."""

    channel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEvent:
    """Tell the others in the channel. All that a client must keep to has been checked."""

    channel: str
    event: str
    data: str
    user_id: str | None

    def told(self) -> Event:
        """The event as the others get it."""
        return frames.channel_event(self.channel, self.event, self.data, user_id=self.user_id)


Action = Send | Close | Authorize | Unsubscribed | ClientEvent


@dataclass(slots=True)
class _Subscription:
    user_id: str | None
    position: Seq | None


class Connection:
    """The server's side of one WebSocket. Times are seconds on any clock that does not go back.

    After `Close` every method returns no actions; the subscriptions are then over without
    an `Unsubscribed` for each. No method raises on what a client sent.
    """

    def __init__(self, socket_id: str, limits: Limits, *, now: float) -> None:
        self.socket_id = socket_id
        self._limits = limits
        self._heard_at = now
        self._pinged_at: float | None = None
        self._closed = False
        self._asked: dict[str, Authorize] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._frames = _Bucket(limits.frames_burst_max, limits.frames_per_second_max, now)
        per_second = limits.client_events_per_second_max
        self._client_events = _Bucket(per_second, per_second, now)

    @property
    def due_at(self) -> float:
        """When `tick` has to be called, unless a frame comes before; never, once closed."""
        if self._closed:
            return inf
        if self._pinged_at is None:
            return self._heard_at + self._limits.activity_timeout_seconds
        return self._pinged_at + self._limits.pong_timeout_seconds

    def greet(self) -> list[Action]:
        """The first frame, which tells the client its socket id."""
        seconds = self._limits.activity_timeout_seconds
        return [Send(frames.established(self.socket_id, activity_timeout_seconds=seconds))]

    def receive(self, frame: str | bytes, now: float) -> list[Action]:
        """What follows from a frame; bytes stand for a binary one. Any frame is a sign of life."""
        if self._closed:
            return []
        self._heard_at, self._pinged_at = now, None
        if not self._frames.take(now):
            return self.close(frames.FRAMES_TOO_MANY)
        if len(frame) > self._limits.frame_bytes_max:
            return self.close(frames.FRAME_TOO_LARGE)
        if isinstance(frame, bytes):
            return [_error(frames.FRAME_BINARY)]
        if _bytes(frame) > self._limits.frame_bytes_max:
            return self.close(frames.FRAME_TOO_LARGE)
        match frames.read(frame):
            case Ping():
                return [Send(frames.PONG)]
            case Pong():
                return []
            case Subscribe() as asked:
                return self._subscribe(asked)
            case Unsubscribe(channel):
                return self._unsubscribe(channel)
            case Trigger() as trigger:
                return self._trigger(trigger, now)
            case Fault() as fault:
                return [_error(fault)]
            case _ as never:
                assert_never(never)

    def tick(self, now: float) -> list[Action]:
        """What follows from the silence: a ping at first, then the end. Early calls do nothing."""
        if now < self.due_at:
            return []
        if self._pinged_at is not None:
            return self.close(frames.PONG_MISSING)
        self._pinged_at = now
        return [Send(frames.PING)]

    def awaits(self, asked: Authorize) -> bool:
        """Whether the decision is still wanted: the client may have left since, and come again."""
        return self._asked.get(asked.channel) is asked

    def accept(
        self, asked: Authorize, *, members: Sequence[Member] = (), position: Seq | None = None
    ) -> list[Action]:
        """Begin the subscription, if it is still wanted.

        `members` are those of a presence channel, the new one too. `position` is the last
        entry of the session's log that will not be told: the client is told it, and each
        `deliver` of a later entry passes.
        """
        if not self.awaits(asked):
            return []
        del self._asked[asked.channel]
        user_id = asked.member.user_id if asked.member else None
        self._subscriptions[asked.channel] = _Subscription(user_id, position)
        actions: list[Action] = [
            Send(frames.succeeded(asked.channel, members if asked.member else None))
        ]
        if position is not None:
            actions.append(Send(frames.position(asked.channel, position)))
        return actions

    def refuse(self, asked: Authorize, *, status: int, message: str) -> list[Action]:
        """Tell the client, if it still wants to know, why it may not join."""
        if not self.awaits(asked):
            return []
        del self._asked[asked.channel]
        return [_refused(asked.channel, "AuthError", message, status)]

    def expel(self, channel: str, *, status: int, message: str) -> list[Action]:
        """End a subscription, or one that was asked for, that may not go on; say why."""
        told = _refused(channel, "AuthError", message, status)
        if self._asked.pop(channel, None) is not None:
            return [told]
        if self._subscriptions.pop(channel, None) is not None:
            return [told, Unsubscribed(channel)]
        return []

    def deliver(self, event: Event) -> list[Action]:
        """Tell the client, if it is in the channel and was not told that entry before."""
        subscription = self._subscriptions.get(event.channel)
        if subscription is None:
            return []
        if event.seq is not None:
            if subscription.position is not None and event.seq <= subscription.position:
                return []
            subscription.position = event.seq
        return [Send(event.text), *map(Send, event.more)]

    def close(self, fault: Fault) -> list[Action]:
        """Say why, and close: DRAINING at shutdown, UNAUTHORIZED for one that was thrown out."""
        if self._closed:
            return []
        self._closed = True
        self._asked.clear()
        self._subscriptions.clear()
        return [_error(fault), Close(fault.code, fault.message)]

    def _subscribe(self, wanted: Subscribe) -> list[Action]:
        channel = wanted.channel
        if channel in self._subscriptions or channel in self._asked:
            return [_error(frames.SUBSCRIBED_ALREADY)]
        kind_of = kind(channel)
        if kind_of is None:
            return [_refused(channel, "InvalidChannel", "There is no such channel.", 400)]
        if len(self._subscriptions) + len(self._asked) >= self._limits.channels_max:
            said = f"A connection has {self._limits.channels_max} channels at most."
            return [_refused(channel, "LimitReached", said, 403)]
        if kind_of is not Kind.PUBLIC and not wanted.auth:
            return [_refused(channel, "AuthError", "This channel needs a signature.", 401)]
        member = None
        if kind_of is Kind.PRESENCE:
            member = frames.read_member(wanted.channel_data or "")
            if member is None:
                return [_refused(channel, "AuthError", "channel_data names no user.", 400)]
        asked = Authorize(
            channel=channel,
            kind=kind_of,
            auth=wanted.auth,
            channel_data=wanted.channel_data,
            member=member,
        )
        self._asked[channel] = asked
        return [asked]

    def _unsubscribe(self, channel: str) -> list[Action]:
        if self._subscriptions.pop(channel, None) is not None:
            return [Unsubscribed(channel)]
        self._asked.pop(channel, None)
        return []

    def _trigger(self, trigger: Trigger, now: float) -> list[Action]:
        subscription = self._subscriptions.get(trigger.channel)
        why = None
        if not self._limits.client_events:
            why = "Clients may not trigger events here."
        elif not is_event_name(trigger.event, client=True):
            why = "A client's event has a name that begins with client-, of 200 characters at most."
        elif kind(trigger.channel) not in (Kind.PRIVATE, Kind.PRESENCE):
            why = "Clients may trigger events in private and presence channels only."
        elif reserved(trigger.channel) and not self._limits.client_events_in_sessions:
            why = "Clients may not trigger events in a session's channel."
        elif subscription is None:
            why = "Subscribe to the channel first."
        elif _bytes(trigger.data) > self._limits.client_event_bytes_max:
            why = f"A client's event has {self._limits.client_event_bytes_max} bytes at most."
        elif not self._client_events.take(now):
            why = f"{self._limits.client_events_per_second_max} events a second at most."
        else:
            return [
                ClientEvent(
                    channel=trigger.channel,
                    event=trigger.event,
                    data=trigger.data,
                    user_id=subscription.user_id,
                )
            ]
        return [_error(Fault(4301, why))]


class _Bucket:
    """Takes so many at once, and so many a second in the long run."""

    def __init__(self, burst: int, per_second: int, now: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._left = float(burst)
        self._filled_at = now

    def take(self, now: float) -> bool:
        gained = max(0.0, now - self._filled_at) * self._per_second
        self._left = min(float(self._burst), self._left + gained)
        self._filled_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _error(fault: Fault) -> Send:
    return Send(frames.error(fault))


def _refused(channel: str, kind_of: str, message: str, status: int) -> Send:
    return Send(frames.refused(channel, kind=kind_of, message=message, status=status))


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
