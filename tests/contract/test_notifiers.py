"""Every notifier keeps the same promises: what is said on a node is heard there at once, and on the
others soon; what is lost on the way costs a read and nothing else."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest
from prometheus_client import generate_latest
from tests.contract.buses import (
    AGAIN_SECONDS,
    PATIENCE_SECONDS,
    Bus,
    Ear,
    Heard,
    LocalBus,
    NatsBus,
    Passage,
    PostgresBus,
    over_nats,
    refusing,
)
from tests.contract.buses import (
    KEY as SIGNING_KEY,
)
from tests.contract.desk import ACME, ANN, Desk
from tests.doubles import CountingIds, ManualClock
from tests.servers.nats import Nats
from tests.servers.postgres import Postgres, free_port

from sessile.adapters import hints
from sessile.adapters.cursor_file import open_cursors
from sessile.adapters.memory import MemoryStore
from sessile.adapters.nats import CANCEL_SECONDS
from sessile.adapters.postgres.notifier import SHARED_SECONDS
from sessile.adapters.system import SystemClock
from sessile.core.commands import Runner
from sessile.core.events import Entry, MessageDelta
from sessile.core.ids import MessageId, NodeId, Seq, SessionId, SessionKey, TenantId, TurnId
from sessile.ports.notifier import Hint, Notifier
from sessile.ports.store import Committed, Identity
from sessile.pusher.projections import Projections
from sessile.pusher.relay import PusherRelay
from sessile.runtime import trail
from sessile.runtime.announce import Announcer
from sessile.runtime.feed import Feed, Grown
from sessile.runtime.limits import Limits
from sessile.runtime.node import Node
from sessile.runtime.outages import WatchedStore
from sessile.runtime.reads import Reads
from sessile.runtime.telemetry import Telemetry
from sessile.runtime.threads import Threads
from sessile.runtime.workers import Workers
from sessile.settings import Settings

KEY = SessionKey(ACME, SessionId("ses_1"))
OTHER_KEY = SessionKey(ACME, SessionId("ses_2"))
PROBE = SessionKey(ACME, SessionId("ses_probe"))
ODD_KEYS = [
    SessionKey(TenantId(tenant), SessionId("ses_1"))
    for tenant in ("", " ", "a.b", "*", ">", "ünï", 'q"\\', "\r\n", "x" * 3000)
]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres({"fsync": "off"}) as server:
        yield server


@pytest.fixture(scope="module")
def nats() -> Iterator[Nats]:
    with Nats() as server:
        yield server


@pytest.fixture(params=["local", "postgres", "nats"])
def every_bus(request: pytest.FixtureRequest) -> Any:
    if request.param == "local":
        return LocalBus()
    return request.getfixturevalue(f"{request.param}_bus")


@pytest.fixture(params=["postgres", "nats"])
def bus(request: pytest.FixtureRequest) -> Bus:
    bus: Bus = request.getfixturevalue(f"{request.param}_bus")
    return bus


@pytest.fixture
def postgres_bus(postgres: Postgres) -> Bus:
    return PostgresBus(postgres)


@pytest.fixture
def nats_bus(nats: Nats) -> Bus:
    return NatsBus(nats)


def entries(*seqs: int, body: str = '{"text":"ü"}') -> tuple[Entry, ...]:
    return tuple(Entry(Seq(s), "message.delta", TurnId("trn_1"), 1_000_000, body) for s in seqs)


def grown(*seqs: int, key: SessionKey = KEY, body: str = "{}", **more: Any) -> Hint:
    return Hint(key=key, head=Seq(seqs[-1]), entries=entries(*seqs, body=body), **more)


async def connected(sender: Notifier, receiver: Notifier) -> None:
    """Until hints of sessions that the receiver follows reach it."""
    stop = receiver.follow(*PROBE)
    await followed(sender, receiver, PROBE)
    stop()


async def followed(sender: Notifier, receiver: Notifier, key: SessionKey) -> None:
    ear = Ear(receiver)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(hint.key == key for hint in ear.all):
            sender.publish(Hint(key=key, head=Seq(0)))
            await ear.something(within=AGAIN_SECONDS)
    ear.stop()


@asynccontextmanager
async def two(bus: Any, *keys: SessionKey) -> AsyncIterator[tuple[Notifier, Notifier, Ear]]:
    """Nodes of which the second follows the sessions and listens."""
    async with bus.node("a") as a, bus.node("b") as b:
        for key in keys or (KEY,):
            b.follow(*key)
            await followed(a, b, key)
        yield a, b, Ear(b)


# -- what is heard


HINTS = [
    grown(1, 2, 3),
    Hint(key=KEY, head=Seq(4)),
    Hint(key=KEY, head=Seq(5), due=True),
    grown(6, control=True, body='{"text":"\\u0000 ü \\"quoted\\""}'),
    Hint(key=KEY, head=Seq(0), deleted=True),
]


@pytest.mark.parametrize("hint", HINTS)
async def test_a_hint_reaches_the_other_nodes_with_what_it_said(every_bus: Any, hint: Hint) -> None:
    async with two(every_bus, KEY) as (a, _, ear):
        a.publish(hint)

        await ear.until(lambda: hint in ear.all)


async def test_its_own_node_hears_a_hint_at_once_and_only_once(every_bus: Any) -> None:
    async with two(every_bus, KEY) as (a, b, there):
        a.follow(*KEY)
        await followed(b, a, KEY)
        here = Ear(a)
        hint = grown(1, due=True)

        a.publish(hint)
        assert here.all == [hint]

        await there.until(lambda: hint in there.all)
        b.publish(grown(9))  # what came back of the first would have come before
        await here.until(lambda: grown(9) in here.all)
        assert [heard for heard in here.all if heard.head == 1] == [hint]


async def test_who_has_stopped_listening_hears_nothing_more(every_bus: Any) -> None:
    async with two(every_bus, KEY) as (a, b, ear):
        ear.stop()
        ear.all.clear()
        later = Ear(b)

        a.publish(grown(1))

        await later.until(lambda: later.all)
        assert ear.all == []


async def test_every_node_hears_what_may_concern_it_whatever_it_follows(bus: Bus) -> None:
    said = {
        flag: Hint(key=KEY, head=Seq(7), **{flag: True}) for flag in ("due", "control", "deleted")
    }
    async with bus.node("a") as a, bus.node("b") as b, bus.node("c") as c:
        await connected(a, b)
        await connected(a, c)
        ears = Ear(b), Ear(c)
        for flag, hint in said.items():
            a.publish(hint)
            for ear in ears:
                await ear.until(lambda ear=ear, flag=flag: any(getattr(h, flag) for h in ear.all))


@pytest.mark.parametrize("key", ODD_KEYS, ids=range(len(ODD_KEYS)))
async def test_a_tenant_may_have_any_name(bus: Bus, key: SessionKey) -> None:
    async with two(bus, key) as (a, _, ear):
        a.publish(grown(1, key=key))

        await ear.until(lambda: grown(1, key=key) in ear.all)


async def test_all_sessions_of_a_tenant_may_be_followed(bus: Bus) -> None:
    async with bus.node("a") as a, bus.node("b") as b:
        b.follow(ACME)
        await followed(a, b, OTHER_KEY)
        ear = Ear(b)

        a.publish(grown(1))

        await ear.until(lambda: grown(1) in ear.all)


async def test_over_nats_a_node_hears_only_the_sessions_that_it_follows(nats_bus: Bus) -> None:
    """Each of them until it was let go as often as it was followed."""
    async with nats_bus.node("a") as a, nats_bus.node("b") as b:
        stops = [b.follow(*KEY), b.follow(*KEY)]
        b.follow(*OTHER_KEY)
        await followed(a, b, KEY)
        ear = Ear(b)

        stops.pop()()
        await connected(a, b)  # what was let go is let go by now
        a.publish(grown(1))
        await ear.until(lambda: grown(1) in ear.all)

        stops.pop()()
        await connected(a, b)
        a.publish(grown(2))
        a.publish(grown(1, key=OTHER_KEY))
        await ear.until(lambda: grown(1, key=OTHER_KEY) in ear.all)
        assert grown(2) not in ear.all


# -- how it is carried


async def test_a_burst_shares_notifications_and_says_what_each_hint_said(bus: Bus) -> None:
    async with two(bus, KEY, OTHER_KEY) as (a, _, ear), bus.wire() as wire:
        for seq in range(1, 91):
            a.publish(grown(seq, due=seq == 50))
            a.publish(grown(seq, key=OTHER_KEY))

        await ear.until(lambda: {(h.key, h.head) for h in ear.all} >= {(KEY, 90), (OTHER_KEY, 90)})
        await wire.until(lambda: len(wire.all) >= 1)
        for key in (KEY, OTHER_KEY):
            told = [hint for hint in ear.all if hint.key == key]
            assert [e.seq for hint in told for e in hint.entries] == list(range(1, 91))
            assert any(hint.due for hint in told) == (key == KEY)
        payloads = sum(len(payload) for payload in wire.all)
        assert len(wire.all) <= 2 + payloads // bus.payload_bytes_max


async def test_many_hints_make_payloads_that_the_server_takes(postgres_bus: Bus) -> None:
    """Each below 8,000 bytes, which PostgreSQL would refuse with all others of its statement."""
    keys = [SessionKey(ACME, SessionId(f"ses_{n}")) for n in range(500)]
    async with two(postgres_bus, KEY) as (a, _, ear), postgres_bus.wire() as wire:
        a.publish(grown(1))
        for n, key in enumerate(keys):
            a.publish(grown(1, key=key, body=json.dumps("ü" * n)))

        await ear.until(lambda: {hint.key for hint in ear.all} >= set(keys))
        assert all(hint.entries for hint in ear.all if hint.key in keys)
        assert max(len(payload.encode()) for payload in wire.all) <= 7999
        assert len(wire.all) < 250


async def test_a_first_hint_is_sent_at_once_and_those_soon_after_it_share_the_next(
    postgres_bus: Bus,
) -> None:
    async with two(postgres_bus, KEY) as (a, _, ear), postgres_bus.wire() as wire:
        loop = asyncio.get_running_loop()
        began, hint = loop.time(), 0
        while loop.time() < began + 20 * SHARED_SECONDS:
            hint += 1
            a.publish(grown(hint))
            await ear.something(within=SHARED_SECONDS / 10)

        await ear.until(lambda: any(each.head == hint for each in ear.all))
        assert len(wire.all) <= (loop.time() - began) / SHARED_SECONDS + 1


@pytest.mark.parametrize("share", [0.7, 1.5], ids=["as characters they would", "neither"])
async def test_entries_that_do_not_fit_are_left_out(bus: Bus, share: float) -> None:
    body = json.dumps("ü" * int(share * bus.payload_bytes_max), ensure_ascii=False)
    async with two(bus, KEY) as (a, _, ear):
        a.publish(grown(2, body=body, control=True))

        await ear.until(lambda: Hint(key=KEY, head=Seq(2), control=True) in ear.all)
        assert not any(hint.entries for hint in ear.all)


async def test_what_waits_is_no_more_than_a_payload_could_hold() -> None:
    outbox = hints.Outbox(payload_bytes_max=1_000)
    for seq in range(1, 1_000):
        outbox.put(grown(seq))

    [hint] = outbox.take()
    assert hint.head == 999
    assert len(json.dumps(hint.entries)) < 1_000


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (grown(1, 2), grown(3), grown(1, 2, 3)),
        (grown(3), grown(1, 2), grown(1, 2, 3)),
        # What is in none of the entries that are left has to be looked for.
        (grown(1), grown(3), Hint(key=KEY, head=Seq(3))),
        (Hint(key=KEY, head=Seq(1)), grown(2), Hint(key=KEY, head=Seq(2))),
        (grown(1), grown(1), grown(1)),
        (grown(1), Hint(key=KEY, head=Seq(2)), Hint(key=KEY, head=Seq(2))),
        (grown(1, due=True), grown(2, deleted=True), grown(1, 2, due=True, deleted=True)),
        (grown(1, control=True), grown(2), grown(1, 2, control=True)),
        (grown(1, control=True), grown(3), Hint(key=KEY, head=Seq(3), control=True)),
        (
            Hint(key=KEY, head=Seq(1), control=True),
            grown(2),
            Hint(key=KEY, head=Seq(2), control=True),
        ),
    ],
)
def test_two_hints_of_a_session_that_wait_are_one(one: Hint, other: Hint, both: Hint) -> None:
    assert hints.merged(one, other) == both


async def test_a_full_queue_leaves_out_entries_first_and_then_hints(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hints, "HINTS_WAITING_MAX", 20)
    monkeypatch.setattr(hints, "CHARS_WAITING_MAX", 10 * (hints.ENTRY_CHARS + 2))
    keys = [SessionKey(ACME, SessionId(f"ses_full_{n}")) for n in range(30)]
    async with two(bus, KEY, *keys) as (a, _, ear):
        for key in keys:
            a.publish(grown(1, key=key))

        await ear.until(lambda: len(ear.all) >= 20)
        assert [hint.key for hint in ear.all] == keys[:20]
        assert [len(hint.entries) for hint in ear.all] == [1] * 10 + [0] * 10
        assert len([r for r in caplog.records if "too many hints" in r.message]) == 1

        a.publish(grown(2, key=keys[29]))
        await ear.until(lambda: grown(2, key=keys[29]) in ear.all)


async def test_what_is_said_last_is_sent_before_the_node_leaves(bus: Bus) -> None:
    async with bus.node("b") as b:
        b.follow(*KEY)
        async with bus.node("a") as a:
            await followed(a, b, KEY)
            ear = Ear(b)
            a.publish(grown(1))
            a.publish(grown(2))

        await ear.until(lambda: any(hint.head == 2 for hint in ear.all))


# -- trouble


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_server_that_comes_back_is_connected_to_again(
    bus: Bus, at_once: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With what is followed. Told once, and once again when it is over."""
    async with two(bus, KEY) as (a, b, ear):
        here = Ear(a)
        caplog.clear()
        bus.stop(at_once=at_once)
        try:
            a.publish(grown(1))
            assert here.all == [grown(1)]
            async with asyncio.timeout(PATIENCE_SECONDS):
                while "hints are not connected" not in caplog.text:
                    a.publish(grown(2))
                    await ear.something(within=AGAIN_SECONDS)
        finally:
            bus.start()

        await followed(a, b, KEY)
        b.follow(*OTHER_KEY)
        await followed(a, b, OTHER_KEY)
        await connected(b, a)
        told = [r.connection for r in caplog.records if "not connected" in r.message]
        again = [r.connection for r in caplog.records if "connected again" in r.message]
        lines = {"nats": 2} if isinstance(bus, NatsBus) else {"hints in": 2, "hints out": 2}
        assert {name: told.count(name) for name in set(told)} == lines
        assert {name: again.count(name) for name in set(again)} == lines


async def test_a_node_begins_without_its_server_and_finds_it_later(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told of once, however often it is tried."""
    bus.stop()
    try:
        async with AsyncExitStack() as stack:
            async with refusing(bus.port) as tries:
                a = await stack.enter_async_context(bus.node("a"))
                ear = Ear(a)
                a.publish(grown(1))
                assert ear.all == [grown(1)]
                begun = len(tries.all)
                await tries.until(lambda: len(tries.all) >= begun + 4)
            bus.start()
            b = await stack.enter_async_context(bus.node("b"))
            await connected(a, b)
            await connected(b, a)
            told = [r.connection for r in caplog.records if "not connected" in r.message]
            assert sorted(told) == sorted(set(told))
    finally:
        bus.stop()
        bus.start()


async def test_a_connection_that_is_cut_without_a_word_is_made_again(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessile.adapters.postgres.notifier.CHECK_SECONDS", 0.1)
    monkeypatch.setattr("sessile.adapters.nats.PING_SECONDS", 0.1)
    async with (
        Passage(bus.port) as passage,
        bus.node("a") as a,
        bus.node("b", port=passage.port) as b,
    ):
        b.follow(*KEY)
        a.follow(*KEY)
        await followed(a, b, KEY)
        await followed(b, a, KEY)

        passage.go_silent()

        await followed(a, b, KEY)
        await followed(b, a, KEY)


async def test_over_nats_what_a_server_refuses_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    forbidden = f'{{publish: {{deny: "sessile.log.acme.{OTHER_KEY.session_id}"}}}}'
    user = f"authorization {{users = [{{user: u, password: p, permissions: {forbidden}}}]}}"
    with Nats(user) as server:
        url = f"nats://u:p@127.0.0.1:{server.port}"
        async with over_nats("a", url) as a, over_nats("b", url) as b:
            b.follow(*KEY)
            for _ in range(2):
                a.publish(grown(1, key=OTHER_KEY))
                await followed(a, b, KEY)

    assert len([r for r in caplog.records if "NATS refuses" in r.message]) == 1


async def test_over_nats_a_user_and_a_password_may_have_any_letters() -> None:
    with Nats('authorization {user: "a@b", password: "p/w:%40 ü"}') as server:
        urls = [
            f"nats://{u}@127.0.0.1:{server.port}" for u in ("x:y", "a%40b:p%2Fw%3A%2540%20%C3%BC")
        ]
        async with over_nats("a", *urls) as a, over_nats("b", urls[1]) as b:
            b.follow(*KEY)

            await followed(a, b, KEY)


async def test_over_nats_a_token_is_decoded() -> None:
    with Nats('authorization {token: "t/@"}') as server:
        url = f"nats://t%2F%40@127.0.0.1:{server.port}"
        async with over_nats("a", url) as a, over_nats("b", url) as b:
            b.follow(*KEY)

            await followed(a, b, KEY)


@asynccontextmanager
async def taking_nothing() -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A server that answers as NATS does until the first hint, and from then on takes nothing."""
    full, left, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"s","version":"2.10.0","max_payload":1048576}\r\n')
        while (line := await reader.readline()) and not line.startswith(b"PUB"):
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        full.set()
        await left.wait()
        writer.transport.abort()
        gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1_024)
    try:
        yield server.sockets[0].getsockname()[1], full
    finally:
        left.set()
        server.close()
        await gone.wait()


@pytest.mark.timeout(30)
async def test_over_nats_a_node_leaves_though_its_server_takes_nothing() -> None:
    loop = asyncio.get_running_loop()
    async with taking_nothing() as (port, full):
        async with over_nats("a", f"nats://127.0.0.1:{port}") as a:
            a.publish(grown(1))
            await full.wait()
            with suppress(TimeoutError):  # the system keeps some for whoever does not take it
                for n in count():
                    key = SessionKey(ACME, SessionId(f"ses_{n}"))
                    a.publish(grown(1, key=key, body="x" * 60_000))
                    async with asyncio.timeout(0.5):
                        await a._outbox._sent.wait()
            for n in range(16):
                key = SessionKey(ACME, SessionId(f"ses_more_{n}"))
                a.publish(grown(1, key=key, body="x" * 60_000))
            began = loop.time()

        assert loop.time() - began < hints.FAREWELL_SECONDS + 6 * CANCEL_SECONDS


async def test_over_nats_an_address_that_cannot_be_read_is_told_as_such(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with over_nats("a", "nats://ann:se/cret@127.0.0.1:4222"):
        pass

    [told] = [r for r in caplog.records if "not connected" in r.message]
    assert "invalid connect url" in told.said


async def test_over_nats_what_is_followed_no_more_takes_no_room_while_there_is_no_server(
    nats_bus: Bus,
) -> None:
    async with refusing(port := free_port()), nats_bus.node("a", port=port) as a:
        for n in range(1_000):
            a.follow(ACME, SessionId(f"ses_{n}"))()

        assert not a._changed  # type: ignore[attr-defined]


async def test_over_nats_a_server_may_take_less_than_others() -> None:
    with Nats("max_payload: 2000") as server:
        async with two(NatsBus(server), KEY) as (a, _, ear):
            a.publish(grown(2, body="x" * 5_000))

            await ear.until(lambda: Hint(key=KEY, head=Seq(2)) in ear.all)


JUNK = [
    b"",
    b"\xff\xfe",
    b"hello",
    b"{}",
    b"[" * 7_000,
    b"9" * 5_000,
    b'[2,"n",[]]',
    b"[1,7,[]]",
    b'[1,"n",{}]',
    b'[1,"n",[["acme","ses_1",1,0]]]',
    b'[1,"n",[["acme","ses_1","1",0,[]]]]',
    b'[1,"n",[["acme","ses_1",1,0,[[1,"k",null,0]]]]]',
    b'[1,"n",[["acme","ses_1",1,0,[[1,"k",null,0,{}]]]]]',
    b'[1,"n",[["acme","ses_1",3,0,[[1,"k",null,0,"{}"],[3,"k",null,0,"{}"]]]]]',
    b'[1,"n",[["acme","ses_1",9,0,[[1,"k",null,0,"{}"]]]]]',
    b'[1,"n",[["acme\\u0000","ses_1",1,1,[]]]]',
    b'[1,"n",[["acme","ses_\\ud800",1,1,[]]]]',
]


async def test_what_no_node_of_this_version_says_is_counted_told_once_and_dropped(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    async with bus.wire() as wire, two(bus, KEY) as (a, b, ear):
        heard_before = len(ear.all)
        for junk in JUNK:
            await wire.send(hints.signature(junk, SIGNING_KEY) + junk)
        a.publish(grown(1, due=True))
        await ear.until(lambda: any(hint.due for hint in ear.all))

        assert [
            h for h in ear.all[heard_before:] if hints.bare(h) != hints.bare(grown(1, due=True))
        ] == []
        assert b._ears.foreign == len(JUNK)  # type: ignore[attr-defined]
        told = [r for r in caplog.records if "a hint is dropped" in r.message]
        assert len(told) == 2  # by both nodes


def forged(hint: Hint) -> list[bytes]:
    """What somebody may say who does not know the key."""
    (true,) = hints.pack(NodeId("a"), (hint,), bytes_max=7_999, key=SIGNING_KEY)
    (other,) = hints.pack(NodeId("a"), (hint,), bytes_max=7_999, key=b"of another database")
    said = true[hints.SIGNATURE_CHARS :]
    wrong = [other, said, "0" * hints.SIGNATURE_CHARS + said, true.replace("lie", "lye"), true[1:]]
    return [each.encode() for each in (*wrong, true[: hints.SIGNATURE_CHARS], true[:-1])]


async def test_what_no_node_of_this_database_has_signed_is_dropped(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    async with bus.wire() as wire, two(bus, KEY) as (a, b, ear):
        lies = forged(grown(7, body='{"text":"a lie"}', due=True))
        for lie in lies:
            await wire.send(lie)
        a.publish(grown(1, due=True))
        await ear.until(lambda: any(hint.due for hint in ear.all))

        assert not [hint for hint in ear.all if hint.head == 7]
        assert b._ears.foreign == len(lies)  # type: ignore[attr-defined]
    told = [r for r in caplog.records if "a hint is dropped" in r.message]
    assert len(told) == 2, "by both nodes, once"
    assert all("another database" in each.error for each in told)  # type: ignore[attr-defined]


def test_a_payload_is_with_its_signature_no_longer_than_it_may_be() -> None:
    sizes = set[int]()
    for size in range(7_600, 8_000):
        hint = grown(1, body="x" * size)
        (payload,) = hints.pack(NodeId("a"), (hint,), bytes_max=7_999, key=SIGNING_KEY)
        sizes.add(len(payload.encode()))

    assert max(sizes) == 7_999


def test_a_hint_is_signed_by_the_epoch_too() -> None:
    """Nodes that were left over with what was lost may be on the same bus."""
    secret = bytes(32)
    before = hints.signing_key(Identity(epoch=1, secret=secret))
    (payload,) = hints.pack(NodeId("a"), (grown(1),), bytes_max=7_999, key=before)

    assert hints.unpack(payload.encode(), key=before) == ("a", [grown(1)])
    with pytest.raises(ValueError, match="signature"):
        hints.unpack(payload.encode(), key=hints.signing_key(Identity(epoch=2, secret=secret)))


def test_what_is_dropped_is_counted_for_the_operator() -> None:
    telemetry = Telemetry()
    ears = hints.Ears(NodeId("a"), SIGNING_KEY, telemetry.hints_foreign.inc)

    for _ in range(3):
        ears.receive(b"hello")

    assert b"sessile_hints_foreign_total 3.0" in generate_latest(telemetry.registry)


# -- what a reader makes of it


class Weather:
    """What another node's hints go through here: some are lost, some repeated, some overtaken."""

    def __init__(self, notifier: Notifier, chance: Random, *, lost: float) -> None:
        self._notifier = notifier
        self._chance = chance
        self._lost = lost
        self._held: list[Hint] = []
        self.publish, self.follow = notifier.publish, notifier.follow

    def listen(self, listener: Callable[[Hint], None]) -> Callable[[], None]:
        def hear(hint: Hint) -> None:
            chance, held = self._chance, self._held
            copies = 0 if chance.random() < self._lost else 1 + (chance.random() < 0.3)
            held.extend([hint] * copies)
            chance.shuffle(held)
            while held and chance.random() < 0.7:
                told = held.pop()
                listener(hints.bare(told) if chance.random() < 0.2 else told)

        return self._notifier.listen(hear)


@pytest.mark.parametrize("lost", [0.3, 1.0])
@pytest.mark.parametrize("seed", range(3))
async def test_a_reader_on_another_node_gets_the_whole_log_whatever_becomes_of_hints(
    bus: Bus, seed: int, lost: float
) -> None:
    """The sweep stands behind them; here as the runtime makes it, at a quicker beat."""
    chance = Random(seed)
    store = MemoryStore(clock=ManualClock())
    desk = Desk(store, ManualClock(), CountingIds())
    key = await desk.open()
    holding = await desk.run(key)
    async with bus.node("a") as a, bus.node("b") as b:
        announcer = Announcer(notifier=a, telemetry=Telemetry())
        async with (
            running(store, Weather(b, chance, lost=lost)) as (_, feed),
            feed.subscribe(ANN, key.session_id, after=0) as reader,
        ):
            await followed(a, b, key)
            got: list[Entry] = []
            seen = Ear(a)

            async def write() -> None:
                for step in range(100):
                    delta = MessageDelta(
                        turn_id=holding.turn_id, message_id=MessageId("msg_x"), offset=0, text="x"
                    )
                    committed = await store.append(holding, step, [delta] * chance.randrange(1, 4))
                    announcer.publish(committed)
                    if chance.random() < 0.3:
                        await seen.something(within=chance.random() * 0.01)

            async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
                writing = tasks.create_task(write())
                log = await store.read(key, limit=10_000)
                while not writing.done() or len(got) < len(log):
                    item = await reader.read(timeout_seconds=AGAIN_SECONDS)
                    if item is not None:
                        assert isinstance(item, Grown)
                        got.extend(item.entries)
                    log = await store.read(key, limit=10_000)

            assert tuple(got) == log
            assert [entry.seq for entry in got] == list(range(1, len(log) + 1))


async def test_a_relay_is_told_of_all_sessions_of_its_tenants(bus: Bus, tmp_path: Path) -> None:
    store = MemoryStore(clock=ManualClock())
    desk = Desk(store, ManualClock(), CountingIds())
    service = Service()
    async with (
        bus.node("a") as a,
        bus.node("b") as b,
        running(store, b) as (node, _),
        open_cursors(tmp_path / "relay.db") as cursors,
        PusherRelay(
            client=service,
            tenants=[ACME],
            cursors=cursors,
            epoch=0,
            reads=Reads(node=node),
            notifier=b,
            projections=Projections(),
        ),
    ):
        await followed(a, b, PROBE)
        announcer = Announcer(notifier=a, telemetry=Telemetry())
        announcer.publish(await desk.open_as())

        await service.until(lambda: "session.opened" in service.all)


async def test_a_relay_finds_by_itself_what_no_hint_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "LOOK_SECONDS", 0.02)
    store, bus = MemoryStore(clock=ManualClock()), LocalBus()
    desk = Desk(store, ManualClock(), CountingIds())
    service = Service()
    async with (
        bus.node("a") as a,
        running(store, a) as (node, _),
        open_cursors(tmp_path / "relay.db") as cursors,
        PusherRelay(
            client=service,
            tenants=[ACME],
            cursors=cursors,
            epoch=0,
            reads=Reads(node=node),
            notifier=a,
            projections=Projections(),
        ),
    ):
        key = await desk.open()
        await service.until(lambda: "session.opened" in service.all)
        await desk.submit(key)
        await service.until(lambda: "turn.started" in service.all)


class Service(Heard):
    """A hosted service, as the client of one that a relay has."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()

    def trigger(self, channels: Any, event_name: str, data: Any) -> None:
        self._loop.call_soon_threadsafe(self.hear, event_name)


@asynccontextmanager
async def running(store: MemoryStore, notifier: Notifier) -> AsyncIterator[tuple[Node, Feed]]:
    """A node that runs nothing, with its readers and its sweep."""
    settings = Settings(store_url="memory", sweep_seconds=0.05)
    telemetry, threads = Telemetry(), Threads(threads_max=1)
    publish: Callable[[Committed], None] = Announcer(notifier=notifier, telemetry=telemetry).publish
    clock = SystemClock()
    node = Node(
        store=WatchedStore(store),
        limits=Limits(store=store, clock=clock, settings=settings, telemetry=telemetry),
        clock=clock,
        ids=CountingIds(),
        settings=settings,
        agents={},
        telemetry=telemetry,
        threads=threads,
        runner=Runner(node=NodeId("b"), lease_ms=12_000, assistants=frozenset()),
        publish=publish,
    )
    feed = Feed(store=store, notifier=notifier, settings=settings, telemetry=telemetry)
    try:
        async with Workers(node=node, notifier=notifier, feed=feed):
            yield node, feed
    finally:
        feed.close()
        threads.close()
