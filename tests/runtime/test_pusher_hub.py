"""The sockets of a node on virtual time: silence, slowness, lost databases, access that ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from math import inf
from typing import Any

from tests.runtime.agents import echo
from tests.runtime.rig import ACME, ANN, BOB, House, Rig, virtual

from sessile.core.errors import StorageBusy
from sessile.core.ids import SessionId, SessionKey, TenantId
from sessile.http.reply import ABORT as LISTENER_S_ABORT
from sessile.http.websocket import SEND_NOW as LISTENER_S_SEND_NOW
from sessile.pusher.admission import GOOD_SECONDS, Admission
from sessile.pusher.hub import Hub
from sessile.pusher.projections import Projections
from sessile.pusher.protocol import Authorize
from sessile.pusher.socket import ABORT, GOODBYE_SECONDS_MAX, SEND_NOW, Socket
from sessile.runtime.places import Places
from sessile.settings import Settings


class Wire:
    """The other end of a socket, which may stop taking."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.closed: tuple[int, float] | None = None
        self.aborted = False
        self.takes = asyncio.Event()
        self.takes.set()
        self.at_once = False

    def send_now(self, text: str) -> bool:
        if self.at_once:
            self.frames.append(json.loads(text))
        return self.at_once

    async def send(self, message: Any) -> None:
        await self.takes.wait()
        if message["type"] == "websocket.close":
            self.closed = (message["code"], asyncio.get_running_loop().time())
        else:
            self.frames.append(json.loads(message["text"]))

    def abort(self) -> None:
        self.aborted = True

    def events(self) -> list[str]:
        return [frame["event"] for frame in self.frames]


class Node:
    """A hub on a node of the house."""

    def __init__(self, rig: Rig, hub: Hub) -> None:
        self.rig = rig
        self.hub = hub
        self._made = 0

    def connect(self) -> tuple[Socket, Wire]:
        wire = Wire()
        self._made += 1
        scope = {"extensions": {ABORT: wire.abort, SEND_NOW: wire.send_now}}
        return self.hub.enter(f"1.{self._made}", scope, wire.send), wire

    async def join(
        self,
        socket: Socket,
        session_id: SessionId,
        *,
        known: Callable[[], Awaitable[bool]] | None = None,
        until_ms: float = inf,
        principal: Any = ANN,
    ) -> str:
        channel = f"private-sb-{session_id}"
        asked = self.ask(socket, channel)
        found = await self.rig.reads.found(ANN, session_id)
        admission = Admission(
            principal=principal,
            key=SessionKey(ACME, session_id),
            known=known or _yes,
            until_ms=until_ms,
        )
        self.hub.accept_in_session(socket, asked, admission, found)
        return channel

    def leave(self, socket: Socket, channel: str) -> None:
        left = {"event": "pusher:unsubscribe", "data": {"channel": channel}}
        self.hub.received(socket.socket_id, json.dumps(left))

    def ask(self, socket: Socket, channel: str, **more: str) -> Authorize:
        data = {"channel": channel, "auth": "k:1", **more}
        said = json.dumps({"event": "pusher:subscribe", "data": data})
        (asked,) = self.hub.received(socket.socket_id, said)
        return asked


async def _yes() -> bool:
    return True


async def _no() -> bool:
    return False


@asynccontextmanager
async def hubbed(house: House, **settings: Any) -> AsyncIterator[Node]:
    rig = await house.node(echo(), **settings)
    hub = Hub(
        feed=rig.feed,
        reads=rig.reads,
        clock=house.clock,
        settings=Settings(**settings),
        telemetry=rig.telemetry,
        projections=Projections(),
        places=Places(Settings(**settings)),
    )
    async with hub:
        yield Node(rig, hub)


@virtual
async def test_a_silent_client_is_pinged_and_a_deaf_one_let_go(house: House) -> None:
    async with hubbed(house) as node:
        _, deaf = node.connect()
        alive, answers = node.connect()

        await house.later(121.5)
        assert deaf.events() == answers.events() == ["pusher:connection_established", "pusher:ping"]
        node.hub.received(alive.socket_id, '{"event":"pusher:pong","data":{}}')
        await house.later(31)

        assert deaf.closed is not None
        assert deaf.closed[0] == 4201
        assert answers.closed is None


@virtual
async def test_a_client_that_takes_nothing_is_cut_off(house: House) -> None:
    async with hubbed(house, slow_reader_seconds_max=5.0) as node:
        _, wire = node.connect()
        wire.takes.clear()
        await house.later(4)
        assert node.hub.switchboard.socket_count() == 1

        await house.later(3)
        assert node.hub.switchboard.socket_count() == 0
        assert not wire.aborted
        await house.later(GOODBYE_SECONDS_MAX + 1.5)

        assert wire.aborted
        assert wire.closed is None


def test_the_extensions_are_called_as_the_listener_calls_them() -> None:
    assert (ABORT, SEND_NOW) == (LISTENER_S_ABORT, LISTENER_S_SEND_NOW)


@virtual
async def test_what_is_sent_at_once_never_overtakes_what_waits(house: House) -> None:
    async with hubbed(house) as node:
        socket, wire = node.connect()
        await house.later(1)
        wire.takes.clear()
        socket.put('{"event":"first"}')
        await house.later(1)

        wire.at_once = True
        socket.put('{"event":"second"}')
        wire.takes.set()
        await house.later(1)
        socket.put('{"event":"third"}')

        assert wire.events()[1:] == ["first", "second", "third"]


@virtual
async def test_access_that_ends_puts_out_the_one_who_had_it(house: House) -> None:
    async with hubbed(house) as node:
        session = await house.open(node.rig)
        (mine, wire), (other, others) = node.connect(), node.connect()
        channel = await node.join(mine, session)
        await node.join(other, session, principal=BOB)

        await house.later(5)

        assert node.hub.switchboard.registry.sockets_of(channel) == (mine.socket_id,)
        assert others.frames[-1]["data"]["status"] == 404
        await house.submit(node.rig, session)
        await house.later(1)
        assert "turn.completed" in wire.events()
        assert "turn.queued" not in others.events()


@virtual
async def test_a_token_that_is_not_known_any_more_closes_its_connection(house: House) -> None:
    async with hubbed(house) as node:
        session = await house.open(node.rig)
        socket, wire = node.connect()
        await node.join(socket, session, known=_no)

        await house.later(5)

        assert wire.closed is not None
        assert wire.closed[0] == 4009


@virtual
async def test_a_subscription_that_another_node_signed_for_has_an_end(house: House) -> None:
    async with hubbed(house) as node:
        session = await house.open(node.rig)
        socket, wire = node.connect()
        until_ms = house.clock.now_ms() + GOOD_SECONDS * 1000
        await node.join(socket, session, until_ms=until_ms)

        for _ in range(GOOD_SECONDS - 1):
            await house.later(1)
            node.hub.received(socket.socket_id, '{"event":"pusher:ping","data":{}}')
        assert wire.closed is None
        await house.later(6)

        assert wire.closed is not None
        assert wire.closed[0] == 4200


@virtual
async def test_a_check_that_cannot_be_made_lets_nobody_stay(house: House) -> None:
    async def broken() -> bool:
        raise LookupError("the user's authenticator")

    async with hubbed(house) as node:
        session = await house.open(node.rig)
        (socket, wire), (witness, others) = node.connect(), node.connect()
        await node.join(socket, session, known=broken)
        await node.join(witness, session)

        await house.later(5)

        assert wire.closed is not None
        assert wire.closed[0] == 4100
        assert others.closed is None
        assert witness.admitted


@virtual
async def test_a_channel_that_is_joined_during_a_check_is_checked_from_then_on(
    house: House,
) -> None:
    """A client that comes and goes all the time would else be in for ever."""
    checking, go = asyncio.Event(), asyncio.Event()

    async def slow() -> bool:
        checking.set()
        await go.wait()
        return True

    async with hubbed(house) as node:
        one, other = await house.open(node.rig), await house.open(node.rig)
        socket, wire = node.connect()
        await node.join(socket, one, known=slow)
        channel = await node.join(socket, other)
        node.leave(socket, channel)
        await checking.wait()

        await node.join(socket, other, principal=BOB)
        go.set()
        await house.later(5)

        assert node.hub.switchboard.registry.sockets_of(channel) == ()
        assert wire.frames[-1]["data"]["status"] == 404


@virtual
async def test_a_check_that_does_not_end_keeps_no_other_from_being_made(house: House) -> None:
    async def never() -> bool:
        await asyncio.Event().wait()
        return True

    async with hubbed(house) as node:
        session = await house.open(node.rig)
        (stuck, wire), (other, _) = node.connect(), node.connect()
        await node.join(stuck, session, known=never)
        channel = await node.join(other, session, principal=BOB)

        await house.later(5)
        assert node.hub.switchboard.registry.sockets_of(channel) == (stuck.socket_id,)
        await house.later(5)

        assert wire.closed is not None
        assert wire.closed[0] == 4100


@virtual
async def test_very_many_slow_clients_of_rooms_that_overlap_are_let_go_together(
    house: House,
) -> None:
    """Each that goes is told to the others, who have no room for that either."""
    async with hubbed(house, pusher_buffer_chars_max=10_000) as node:
        sockets: list[Socket] = []
        for number in range(300):
            socket, wire = node.connect()
            sockets.append(socket)
            for room in (number, number + 1):
                user = json.dumps({"user_id": f"u{number}"})
                node.hub.accept(socket, node.ask(socket, f"presence-{room}", channel_data=user))
            await house.later(0.001)
            wire.takes.clear()
        for _ in range(2):
            for socket in sockets:
                socket.put("a" * 10_000)
            await house.later(0.001)

        node.hub.received(sockets[0].socket_id, '{"event":"pusher:ping"}')

        assert node.hub.switchboard.socket_count() == 0


@virtual
async def test_a_database_that_does_not_answer_sends_readers_away_for_a_while(
    house: House,
) -> None:
    async with hubbed(house) as node:
        session = await house.open(node.rig)
        socket, wire = node.connect()
        hold = house.gate.hold("find", where="before")
        joined = asyncio.get_running_loop().create_task(node.join(socket, session))
        (await hold.reached()).go()
        hold = house.gate.hold("find", where="before")
        await joined

        (await hold.reached()).fail(StorageBusy())
        await house.later(1)

        assert wire.closed is not None
        assert wire.closed[0] == 4100


@virtual
async def test_a_channel_stays_with_the_tenant_whose_log_feeds_it(house: House) -> None:
    """Ids are the server's own; but a log that was imported may have one that is there already."""
    async with hubbed(house) as node:
        session = await house.open(node.rig)
        (mine, _), (theirs, wire) = node.connect(), node.connect()
        channel = await node.join(mine, session)
        found = await node.rig.reads.found(ANN, session)
        elsewhere = SessionKey(TenantId("other"), session)
        admission = Admission(principal=ANN, key=elsewhere, known=_yes, until_ms=inf)

        same_name = replace(found, head=replace(found.head, key=elsewhere))
        node.hub.accept_in_session(theirs, node.ask(theirs, channel), admission, same_name)
        await house.later(1)

        assert wire.frames[-1]["data"]["status"] == 404
        assert node.hub.switchboard.registry.sockets_of(channel) == (mine.socket_id,)


@virtual
async def test_a_hub_ends_while_connections_are_open(house: House) -> None:
    async with hubbed(house) as node:
        session = await house.open(node.rig)
        socket, _ = node.connect()
        await node.join(socket, session)

    assert node.hub.draining
    node.hub.leave(socket.socket_id)


@virtual
async def test_a_channel_that_is_left_and_joined_again_is_fed_once(house: House) -> None:
    async with hubbed(house) as node:
        session = await house.open(node.rig)
        socket, wire = node.connect()
        for _ in range(3):
            channel = await node.join(socket, session)
            node.leave(socket, channel)
        await node.join(socket, session)

        await house.submit(node.rig, session)
        await house.later(1)

        assert wire.events().count("turn.completed") == 1
        assert node.rig.feed.readers == 1


@virtual
async def test_a_user_has_so_many_sockets_in_sessions_at_most(house: House) -> None:
    async with hubbed(house, streams_user_max=1) as node:
        one, two = await house.open(node.rig), await house.open(node.rig)
        first, heard = node.connect()
        second, refused = node.connect()

        for session_id in (one, two):
            await node.join(first, session_id)
        await node.join(second, one)
        await house.later(0.1)
        assert heard.events().count("pusher_internal:subscription_succeeded") == 2
        (error,) = (each for each in refused.frames if "subscription_error" in each["event"])
        assert error["data"]["status"] == 429
        assert "streams_user_max" in error["data"]["error"]

        node.hub.leave(first.socket_id)
        await node.join(second, two)
        await house.later(0.1)
        assert "pusher_internal:subscription_succeeded" in refused.events()
