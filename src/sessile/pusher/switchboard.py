"""Every connection of one node: what a frame of one socket means to all the others."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import assert_never

from sessile.core.ids import Seq
from sessile.pusher.channels import Left, Registry
from sessile.pusher.frames import Event, Fault, member_added, member_removed
from sessile.pusher.protocol import (
    Action,
    Authorize,
    ClientEvent,
    Close,
    Connection,
    Limits,
    Send,
    Unsubscribed,
)


@dataclass(frozen=True, slots=True)
class To:
    """An action for one socket. A ClientEvent, told to the others here already, is for whoever
    else is to know: other nodes, a webhook."""

    socket_id: str
    action: Send | Close | Authorize | ClientEvent


@dataclass(frozen=True, slots=True)
class Occupied:
    """A channel has its first socket on this node: begin to feed it, after `position`."""

    channel: str
    position: Seq | None


@dataclass(frozen=True, slots=True)
class Vacated:
    """A channel has no socket on this node any more: its feed may end."""

    channel: str


Outcome = To | Occupied | Vacated


class Switchboard:
    """Call it from one thread, and do what it returns in the order in which it stands.

    A socket id that it does not know, or not any more, is no error: what was decided about
    a socket that is gone has no outcome. `Occupied` and `Vacated` take turns for a channel.
    """

    def __init__(self, limits: Limits) -> None:
        self.registry = Registry()
        """To be read only: it is kept here."""
        self._limits = limits
        self._connections: dict[str, Connection] = {}
        self._positions: dict[str, Seq] = {}

    def socket_count(self) -> int:
        """How many sockets are open."""
        return len(self._connections)

    def due_at(self, socket_id: str) -> float:
        """When `tick` has to be called for this socket, unless a frame comes before."""
        connection = self._connections.get(socket_id)
        return inf if connection is None else connection.due_at

    def open(self, socket_id: str, now: float) -> list[Outcome]:
        """Begin a connection; no other has this id, nor will."""
        assert socket_id not in self._connections, f"{socket_id} is open"
        connection = self._connections[socket_id] = Connection(socket_id, self._limits, now=now)
        return self._done(socket_id, connection.greet())

    def receive(self, socket_id: str, frame: str | bytes, now: float) -> list[Outcome]:
        """Take a frame; bytes stand for a binary one."""
        connection = self._connections.get(socket_id)
        return self._done(socket_id, connection.receive(frame, now) if connection else ())

    def tick(self, socket_id: str, now: float) -> list[Outcome]:
        """Take note of the time."""
        connection = self._connections.get(socket_id)
        return self._done(socket_id, connection.tick(now) if connection else ())

    def accept(
        self, socket_id: str, asked: Authorize, *, position: Seq | None = None
    ) -> list[Outcome]:
        """The socket may join. `position` is where the session's log ended when that was
        decided; a socket that comes to a channel that is fed already begins where its feed is.
        """
        connection = self._connections.get(socket_id)
        if connection is None or not connection.awaits(asked):
            return []
        channel, member = asked.channel, asked.member
        if member is not None and not self.registry.has_room(channel, member):
            return self.refuse(socket_id, asked, status=403, message="The channel is full.")

        outcomes: list[Outcome] = []
        joined = self.registry.subscribe(socket_id, channel, member)
        if joined.occupied:
            if position is not None:
                self._positions[channel] = position
            outcomes.append(Occupied(channel, position))
        begun = connection.accept(
            asked,
            members=self.registry.members(channel),
            position=self._positions.get(channel),
        )
        outcomes += self._done(socket_id, begun)
        if joined.member_added is not None:
            told = member_added(channel, joined.member_added)
            outcomes += self.publish(told, excepting=socket_id)
        return outcomes

    def refuse(
        self, socket_id: str, asked: Authorize, *, status: int, message: str
    ) -> list[Outcome]:
        """The socket may not join; 401, 403 and 404 say why as they do over HTTP."""
        connection = self._connections.get(socket_id)
        if connection is None:
            return []
        return self._done(socket_id, connection.refuse(asked, status=status, message=message))

    def publish(self, event: Event, *, excepting: str | None = None) -> list[Outcome]:
        """Tell every socket in the event's channel, but the one that it came from.

        Entries of a log come in the order of their seq; one that comes again is told to nobody.
        """
        if event.seq is not None and event.channel in self._positions:
            self._positions[event.channel] = max(event.seq, self._positions[event.channel])
        outcomes: list[Outcome] = []
        for socket_id in self.registry.sockets_of(event.channel):
            if socket_id != excepting:
                outcomes += self._done(socket_id, self._connections[socket_id].deliver(event))
        return outcomes

    def expel(
        self, channel: str, *, status: int, message: str, only: Iterable[str] | None = None
    ) -> list[Outcome]:
        """End the subscriptions to a channel of all sockets, or of some: access was revoked, or
        the session is no more. Those who have asked to join are told the same."""
        # All are out before the first is told: nobody hears of the others who are put out too.
        ended = [
            (socket_id, connection.expel(channel, status=status, message=message))
            for socket_id in (self._connections if only is None else only)
            if (connection := self._connections.get(socket_id)) is not None
        ]
        return [outcome for each in ended for outcome in self._done(*each)]

    def close(self, socket_id: str, fault: Fault) -> list[Outcome]:
        """End a connection from our side: at shutdown with DRAINING, a socket at a time, for
        each comes back at once."""
        connection = self._connections.get(socket_id)
        return self._done(socket_id, connection.close(fault) if connection else ())

    def gone(self, socket_id: str) -> list[Outcome]:
        """The WebSocket has ended, whoever ended it; calling this once more does nothing."""
        if self._connections.pop(socket_id, None) is None:
            return []
        outcomes: list[Outcome] = []
        for left in self.registry.leave(socket_id):
            outcomes += self._left(left)
        return outcomes

    def _done(self, socket_id: str, actions: Iterable[Action]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for action in actions:
            match action:
                case Send() | Authorize():
                    outcomes.append(To(socket_id, action))
                case Close():
                    outcomes.append(To(socket_id, action))
                    outcomes += self.gone(socket_id)
                case Unsubscribed(channel):
                    outcomes += self._left(self.registry.unsubscribe(socket_id, channel))
                case ClientEvent():
                    outcomes.append(To(socket_id, action))
                    outcomes += self.publish(action.told(), excepting=socket_id)
                case _ as never:
                    assert_never(never)
        return outcomes

    def _left(self, left: Left) -> list[Outcome]:
        outcomes: list[Outcome] = []
        if left.member_removed is not None:
            outcomes += self.publish(member_removed(left.channel, left.member_removed))
        if left.vacated:
            self._positions.pop(left.channel, None)
            outcomes.append(Vacated(left.channel))
        return outcomes
