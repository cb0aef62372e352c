"""The real pusher-js against a whole server: what a browser's page sees."""

import asyncio
from pathlib import Path
from typing import Any

from tests.walk.pusher import Channels, channels, with_browser

from sessile.core.ids import SessionId
from sessile.pusher import frames


def channel_of(session_id: str, prefix: str = "private-sb-") -> str:
    return f"{prefix}{session_id}"


async def test_a_client_is_told_its_session_s_log_and_no_other_s(tmp_path: Path) -> None:
    async with with_browser(tmp_path) as (served, browser):
        walk = served.walk
        mine, other = await walk.opened(), await walk.opened()
        client = await served.joined(browser, "a")
        await client.subscribed(channel_of(mine))
        position = await client.event("sessile.position", channel_of(mine))

        await asyncio.gather(walk.said(other, "not for you"), walk.said(mine, "hello"))
        await client.event("turn.completed")

        log = await walk.log(mine)
        assert client.entries(channel_of(mine)) == log[position["data"]["seq"] :]
        assert [each["seq"] for each in log] == list(range(1, len(log) + 1))
        assert not [each for each in client.heard if "not for you" in str(each)]


async def test_a_client_that_comes_late_fills_the_gap_over_http(tmp_path: Path) -> None:
    async with with_browser(tmp_path) as (served, browser):
        walk = served.walk
        session_id = await walk.opened()
        await walk.said(session_id, "before anyone listens")
        client = await served.joined(browser, "a")

        await client.subscribed(channel_of(session_id))
        position = (await client.event("sessile.position"))["data"]["seq"]
        missed = (await walk.log(session_id))[:position]
        await walk.said(session_id, "after")
        await client.event("turn.completed")

        whole = [*missed, *client.entries(channel_of(session_id))]
        assert whole == await walk.log(session_id)


async def test_another_s_session_is_refused_as_one_that_is_not(tmp_path: Path) -> None:
    async with with_browser(tmp_path) as (served, browser):
        session_id = await served.walk.opened()
        bob = await served.joined(browser, "b", user="bob")
        nobody = browser.client("n")
        nobody.do("connect", key=served.keys.key, port=served.port, token="no-token")
        await nobody.state("connected")

        for channel, client, status in (
            (channel_of(session_id), bob, 404),
            (channel_of("ses_none"), bob, 404),
            (channel_of(session_id), nobody, 401),
            ("private-orders", bob, 403),
            (channel_of(session_id, "sb-"), bob, 404),
        ):
            heard = await client.subscribed(channel)
            assert heard["event"] == "pusher:subscription_error", channel
            assert heard["data"]["status"] == status


async def test_a_presence_channel_tells_who_is_there(tmp_path: Path) -> None:
    async with with_browser(tmp_path) as (served, browser):
        session_id = await served.walk.opened()
        room = channel_of(session_id, "presence-sb-")
        alice = await served.joined(browser, "a")
        admin = await served.joined(browser, "b", user="admin")

        first = await alice.subscribed(room)
        second = await admin.subscribed(room)
        came = await alice.event("pusher:member_added")
        await served.walk.said(session_id, "hello")
        await admin.event("turn.completed")
        admin.do("disconnect")
        left = await alice.event("pusher:member_removed")

        assert first["members"] == {"alice": None}
        assert second["members"] == {"alice": None, "admin": None}
        assert second["me"]["id"] == "admin"
        assert came["data"]["id"] == left["data"]["id"] == "admin"
        assert "tenant" not in str(alice.heard) + str(admin.heard)


async def test_a_drain_sends_clients_away_and_they_come_back_at_once(tmp_path: Path) -> None:
    async with with_browser(tmp_path, store_url="sqlite") as (served, browser):
        session_id = await served.walk.opened()
        client = await served.joined(browser, "a")
        await client.subscribed(channel_of(session_id))
        begun = len(client.heard)
        told = asyncio.get_running_loop().create_task(client.error(after=begun))

        served.listener.should_exit = True

        assert (await told)["data"]["code"] == 4200
        await client.state("connecting", after=begun)


async def test_after_a_restart_a_client_is_in_its_channel_again(tmp_path: Path) -> None:
    async with with_browser(tmp_path, store_url="sqlite") as (served, browser):
        session_id = await served.walk.opened()
        client = await served.joined(browser, "a")
        await client.subscribed(channel_of(session_id))
        first = (await client.event("sessile.position"))["data"]["seq"]
        begun = len(client.heard)

        served.walk.server.hub.close(_only_socket(served), frames.DRAINING)
        await client.error(after=begun)
        await served.walk.said(session_id, "while it was away, or not")
        await client.state("connected", after=begun)
        again = await client.event("sessile.position", after=begun)
        await served.walk.said(session_id, "hello")
        log = await served.walk.log(session_id)
        await client.until(
            lambda heard: (
                heard["on"] == "event"
                and isinstance(heard["data"], dict)
                and heard["data"].get("seq") == len(log)
            )
        )

        told = [each["seq"] for each in client.entries(channel_of(session_id))]
        missed = range(first + 1, again["data"]["seq"] + 1)
        assert sorted({*told, *missed}) == list(range(first + 1, len(log) + 1))
        assert told == sorted(set(told))


def _only_socket(served: Channels) -> str:
    (socket_id,) = {
        socket_id
        for channel in served.walk.server.hub.switchboard.registry.occupied()
        for socket_id in served.walk.server.hub.switchboard.registry.sockets_of(channel)
    }
    return socket_id


async def test_a_wrong_key_is_told_to_give_up(tmp_path: Path) -> None:
    async with with_browser(tmp_path) as (served, browser):
        client = browser.client("a")

        client.do("connect", key="no-such-key", port=served.port, token="")

        assert (await client.error())["data"]["code"] == 4001
        await client.state("disconnected")


async def test_client_events_stay_out_of_sessions_and_public_channels(tmp_path: Path) -> None:
    async with with_browser(tmp_path) as (served, browser):
        session_id = await served.walk.opened()
        alice = await served.joined(browser, "a")
        admin = await served.joined(browser, "b", user="admin")
        for client in (alice, admin):
            await client.subscribed(channel_of(session_id))
            await client.subscribed("news")

        for channel in (channel_of(session_id), "news", "private-else"):
            begun = len(alice.heard)
            alice.do("send", event="client-typing", data={"forged": True}, channel=channel)
            assert (await alice.error(after=begun))["data"]["code"] == 4301
        await served.walk.said(session_id, "hello")
        await admin.event("turn.completed")

        assert "forged" not in str(admin.heard)


async def test_client_events_reach_the_others_of_a_session_where_they_may(tmp_path: Path) -> None:
    async with with_browser(tmp_path, pusher_client_events="everywhere") as (served, browser):
        session_id = await served.walk.opened()
        room = channel_of(session_id, "presence-sb-")
        alice = await served.joined(browser, "a")
        admin = await served.joined(browser, "b", user="admin")
        for client in (alice, admin):
            await client.subscribed(room)

        alice.do("trigger", channel=room, event="client-typing", data={"on": True})
        heard = await admin.event("client-typing")

        assert heard["data"] == {"on": True}
        assert heard["metadata"] == {"user_id": "alice"}
        assert not [each for each in alice.heard if each.get("event") == "client-typing"]


async def test_a_public_channel_of_a_session_is_there_where_its_tenant_allows(
    tmp_path: Path,
) -> None:
    async with with_browser(tmp_path, pusher_public_tenants="demo, x") as (served, browser):
        session_id = await served.walk.opened()
        reply = await served.walk.bob.post("/v1/sessions", json={})
        others = reply.json()["session_id"]
        client = await served.joined(browser, "a", user="bob")

        refused = await client.subscribed(channel_of(others, "sb-"))
        await client.subscribed(channel_of(session_id, "sb-"))
        await served.walk.said(session_id, "hello")
        await client.event("turn.completed", channel_of(session_id, "sb-"))

        assert refused["data"]["status"] == 404


async def test_what_a_projection_makes_of_an_entry_follows_it(tmp_path: Path) -> None:
    def cards(session_id: SessionId, entry: Any) -> Any:
        if entry["kind"] == "turn.started":
            yield "card", {"sessionId": session_id, "status": "started"}
        if entry["kind"] == "turn.completed":
            raise LookupError("a fault of the guest")

    async with with_browser(tmp_path) as (served, browser):
        served.walk.server.project(cards, assistant="echo")
        served.walk.server.project(cards, assistant="only")
        session_id = await served.walk.opened()
        client = await served.joined(browser, "a")
        await client.subscribed(channel_of(session_id))

        await served.walk.said(session_id, "hello")
        await client.event("turn.completed")

        told = [each["event"] for each in client.heard if each["on"] == "event"]
        card = await client.event("card")
        assert card["data"] == {"sessionId": session_id, "status": "started", "seq": 3}
        assert told.index("card") == told.index("turn.started") + 1
        assert told.count("card") == 1


async def test_a_session_that_ends_puts_its_readers_out(tmp_path: Path) -> None:
    async with with_browser(tmp_path) as (served, browser):
        closed, deleted = await served.walk.opened(), await served.walk.opened()
        client = await served.joined(browser, "a")
        for session_id in (closed, deleted):
            await client.subscribed(channel_of(session_id))

        await served.walk.alice.post(f"/v1/sessions/{closed}/close")
        await served.walk.alice.delete(f"/v1/sessions/{deleted}")

        for session_id, status in ((closed, 410), (deleted, 404)):
            told = await client.event("pusher:subscription_error", channel_of(session_id))
            assert told["data"]["status"] == status
        assert client.entries(channel_of(closed))[-1]["kind"] == "session.closed"
        assert not served.walk.server.hub.switchboard.registry.occupied()


async def test_no_client_is_left_behind_when_the_server_ends(tmp_path: Path) -> None:
    async with channels(tmp_path) as served:
        hub = served.walk.server.hub
        async with served.plain(), served.plain():
            assert hub.switchboard.socket_count() == 2

    assert hub.switchboard.socket_count() == 0
