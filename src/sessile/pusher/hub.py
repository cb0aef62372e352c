"""The open WebSockets of this node, and the logs that they are fed from."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self, assert_never

from prometheus_client import Gauge
from starlette.types import Scope
from starlette.types import Send as Sender

from sessile.core.context import Principal
from sessile.core.errors import NotFound, SessileError, SessionNotFound
from sessile.core.ids import Seq, SessionKey, UserId
from sessile.ports.clock import Clock
from sessile.ports.store import Found
from sessile.pusher import frames
from sessile.pusher.access import ENDS, Checks
from sessile.pusher.admission import Admission
from sessile.pusher.channels import Kind
from sessile.pusher.frames import Fault
from sessile.pusher.projections import Projections
from sessile.pusher.protocol import Authorize, ClientEvent, Close, Limits, Send
from sessile.pusher.socket import Socket
from sessile.pusher.switchboard import Occupied, Outcome, Switchboard, To, Vacated
from sessile.runtime.asking import Asking
from sessile.runtime.feed import Ended, Feed, Grown, Reset
from sessile.runtime.places import Places
from sessile.runtime.reads import Reads
from sessile.runtime.telemetry import Telemetry
from sessile.settings import Settings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often it is looked which sockets are silent, slow or past their end."""
GOODBYES_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class _Followed:
    key: SessionKey
    task: asyncio.Task[None]


class Hub:
    """`async with Hub(…)`: what it follows and looks after ends on leaving."""

    def __init__(
        self,
        *,
        feed: Feed,
        reads: Reads,
        clock: Clock,
        settings: Settings,
        telemetry: Telemetry,
        projections: Projections,
        places: Places,
    ) -> None:
        self._feed = feed
        self._places = places
        self._settings = settings
        self._projections = projections
        self.switchboard = Switchboard(_limits(settings))
        self._checks = Checks(
            reads=reads,
            clock=clock,
            seconds=settings.access_check_seconds,
            switchboard=self.switchboard,
            perform=self.perform,
        )
        self.draining = False
        self._sockets: dict[str, Socket] = {}
        self._writers: dict[str, asyncio.Task[None]] = {}
        self._followed: dict[str, _Followed] = {}
        self._emptied = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []
        gauge = Gauge("sessile_pusher_sockets_open", "Open WebSockets", registry=telemetry.registry)
        gauge.set_function(lambda: len(self._sockets))

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._loops = [
            self._tasks.create_task(self._look_for_ever(), name="pusher look"),
            self._tasks.create_task(self._check_for_ever(), name="pusher access"),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Connections that are open still are told nothing more, and no new one begins."""
        self.draining = True
        following = [each.task for each in self._followed.values()]
        for task in (*self._loops, *self._writers.values(), *following):
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def full(self) -> bool:
        """Whether it takes no more sockets."""
        return len(self._sockets) >= self._settings.pusher_sockets_max

    def enter(self, socket_id: str, scope: Scope, send: Sender) -> Socket:
        """A connection begins: it is greeted. `leave` is owed for it."""
        socket = Socket(
            socket_id,
            chars_max=self._settings.pusher_buffer_chars_max,
            extensions=scope.get("extensions", {}),
        )
        self._sockets[socket_id] = socket
        self._writers[socket_id] = self._tasks.create_task(socket.write(send))
        self.perform(self.switchboard.open(socket_id, self._now()))
        return socket

    def leave(self, socket_id: str) -> None:
        """The connection has ended, whoever ended it."""
        self.perform(self.switchboard.gone(socket_id))
        self._writers.pop(socket_id).cancel()
        for principal in self._sockets.pop(socket_id).places.values():
            self._places.leave(principal)
        if not self._sockets:
            self._emptied.set()

    def received(self, socket_id: str, frame: str | bytes) -> Sequence[Authorize]:
        """Do what follows from a frame; who may join is for the caller to decide."""
        outcomes = self.switchboard.receive(socket_id, frame, self._now())
        self.perform(outcomes)
        return [
            outcome.action
            for outcome in outcomes
            if isinstance(outcome, To) and isinstance(outcome.action, Authorize)
        ]

    def remember(self, socket_id: str, channel: str, asking: Asking) -> None:
        """Who asked for a signature; forgotten with the socket, if it is here, or when as many
        others were asked for since as it may have channels."""
        if (socket := self._sockets.get(socket_id)) is not None:
            socket.asking.pop(channel, None)
            if len(socket.asking) >= self._settings.pusher_channels_max:
                del socket.asking[next(iter(socket.asking))]
            socket.asking[channel] = asking

    def accept(self, socket: Socket, asked: Authorize) -> None:
        """The socket may join a channel that no log feeds."""
        self.perform(self.switchboard.accept(socket.socket_id, asked))

    def accept_in_session(
        self, socket: Socket, asked: Authorize, admission: Admission, found: Found
    ) -> None:
        """The socket may join the channel of a session that was found for it."""
        followed = self._followed.get(asked.channel)
        if followed is not None and followed.key != found.head.key:
            # Another tenant has a session of this name; who was first has the channel.
            self.refuse(socket, asked, SessionNotFound.status, "There is no such session.")
            return
        # Who follows what is public is not known.
        if asked.kind is not Kind.PUBLIC:
            if (limit := self._without_place(socket, admission.principal)) is not None:
                self.refuse(socket, asked, HTTPStatus.TOO_MANY_REQUESTS, f"limit_reached {limit}")
                return
        socket.admitted[asked.channel] = admission
        outcomes = self.switchboard.accept(socket.socket_id, asked, position=found.head.head)
        for outcome in outcomes:
            if isinstance(outcome, Occupied):
                self._follow(outcome, found)
        self.perform(outcomes)

    def _without_place(self, socket: Socket, who: Principal) -> str | None:
        """The limit that is reached; a socket needs one place of each of its users, for as long as
        it is open."""
        name = (who.tenant_id, who.user_id)
        limit = None if name in socket.places else self._places.enter(who)
        if limit is None:
            socket.places.setdefault(name, who)
        return limit

    def refuse(self, socket: Socket, asked: Authorize, status: int, message: str) -> None:
        """The socket may not join."""
        told = self.switchboard.refuse(socket.socket_id, asked, status=status, message=message)
        self.perform(told)

    def close(self, socket_id: str, fault: Fault) -> None:
        """End a connection from our side."""
        self.perform(self.switchboard.close(socket_id, fault))

    def perform(self, outcomes: Sequence[Outcome]) -> None:
        """Do what was decided, in this order. A socket that has no room left is closed; which
        may be told to others that have none either."""
        while outcomes:
            slow: dict[str, Socket] = {}
            for outcome in outcomes:
                match outcome:
                    case To(socket_id, action):
                        socket = self._sockets.get(socket_id)
                        if socket is not None and not _done(socket, action):
                            slow[socket_id] = socket
                    case Vacated(channel):
                        if (followed := self._followed.pop(channel, None)) is not None:
                            followed.task.cancel()
                    case Occupied():
                        pass  # whoever accepted it begins to follow
                    case _ as never:
                        assert_never(never)
            outcomes = [each for socket in slow.values() for each in self._given_up(socket)]

    async def drain(self) -> None:
        """Send every client away, to come back elsewhere at once; some are let go at a time."""
        self.draining = True
        for number, socket_id in enumerate(tuple(self._sockets)):
            self.close(socket_id, frames.DRAINING)
            if number % GOODBYES_AT_ONCE == 0:
                await asyncio.sleep(0)
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(self._wait_until_empty())
            await asyncio.wait({gone}, timeout=LOOK_SECONDS)
            gone.cancel()

    async def _wait_until_empty(self) -> None:
        while self._sockets:
            self._emptied.clear()
            await self._emptied.wait()

    def _given_up(self, socket: Socket) -> Sequence[Outcome]:
        socket.forget()
        return self.switchboard.close(socket.socket_id, frames.TOO_SLOW)

    def _follow(self, occupied: Occupied, found: Found) -> None:
        task = self._tasks.create_task(
            self._fed(occupied.channel, found, occupied.position or Seq(0)),
            name=f"pusher {occupied.channel}",
        )
        self._followed[occupied.channel] = _Followed(found.head.key, task)

    async def _fed(self, channel: str, found: Found, after: Seq) -> None:
        """The channel is told the log behind `after` for as long as somebody is in it."""
        try:
            end = await self._tell(channel, found, after)
        except NotFound:
            end = Ended("gone")
        except SessileError:
            self._close_all(channel, frames.UNREADABLE)
            return
        except Exception:
            # One session's trouble would else be that of all the others of this node.
            about = {"session_id": found.head.key.session_id}
            logger.exception("a channel failed", extra=about)
            self._close_all(channel, frames.UNREADABLE)
            return
        match end:
            case Reset():
                self._close_all(channel, frames.START_AGAIN)
            case Ended(reason):
                status, message = ENDS[reason]
                self.perform(self.switchboard.expel(channel, status=status, message=message))

    async def _tell(self, channel: str, found: Found, after: Seq) -> Ended | Reset:
        key, assistant = found.head.key, found.session.assistant
        async with self._feed.subscribe(_reader_of(key), key.session_id, after=after) as reader:
            while True:
                item = await reader.read()
                assert item is not None, "without a time-out it waits"
                if not isinstance(item, Grown):
                    return item
                for entry in item.entries:
                    more = self._projections.of(key.session_id, assistant, entry)
                    event = frames.entry_event(channel, entry, more)
                    self.perform(self.switchboard.publish(event))
                    # So that what was put is sent before more is put behind it.
                    await asyncio.sleep(0)

    def _close_all(self, channel: str, fault: Fault) -> None:
        for socket_id in self.switchboard.registry.sockets_of(channel):
            self.close(socket_id, fault)

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now, most = self._now(), self._settings.slow_reader_seconds_max
            for socket_id, socket in tuple(self._sockets.items()):
                if socket.cut_at is not None:
                    if socket.cut_at <= now:
                        socket.abort()
                elif socket.sending_since is not None and now - socket.sending_since >= most:
                    self.perform(self._given_up(socket))
                elif self.switchboard.due_at(socket_id) <= now:
                    self.perform(self.switchboard.tick(socket_id, now))

    async def _check_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._settings.access_check_seconds)
            await self._checks.make(tuple(self._sockets.values()))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _done(socket: Socket, action: Send | Close | Authorize | ClientEvent) -> bool:
    """Whether there was room for it. What clients may do is decided elsewhere, and what they tell
    each other stays on this node."""
    match action:
        case Send(text):
            return socket.put(text)
        case Close(code, reason):
            socket.close(code, reason)
        case Authorize() | ClientEvent():
            pass
        case _ as never:
            assert_never(never)
    return True


def _limits(settings: Settings) -> Limits:
    return Limits(
        channels_max=settings.pusher_channels_max,
        client_events=settings.pusher_client_events != "off",
        client_events_in_sessions=settings.pusher_client_events == "everywhere",
    )


def _reader_of(key: SessionKey) -> Principal:
    """The channel's own reader: whether each socket may be in the channel is asked apart."""
    return Principal(tenant_id=key.tenant_id, user_id=UserId("pusher"), roles=frozenset({"admin"}))
