"""The support assistant on public channels: there where the setting allows its company, and the
same as on private ones."""

from pathlib import Path

from tests.guarantees.servers import asking, write_logins
from tests.incidents.conftest import port, served, url_of
from tests.incidents.support_walk import LogFront, cards
from tests.pusher.browser import Client, browsing

from sessile import Settings
from sessile.demo.systems import demo_server
from sessile.http.listener import Listener
from sessile.wiring import pusher_keys

ACTIONS = 2


async def actions(client: Client, channel: str) -> list[dict[str, object]]:
    """What is shown there up to the end of each action."""
    place, shown = 0, []
    while len(shown) < 2 * ACTIONS:
        heard = await client.until(lambda _: True, after=place)
        place += 1
        if (heard.get("event"), heard.get("channel")) == ("action", channel):
            shown.append(heard["data"])
    return shown


async def test_a_company_that_is_named_is_shown_its_actions_on_public_channels_too(
    tmp_path: Path,
) -> None:
    write_logins(tmp_path)
    settings = Settings(data_dir=tmp_path, drain_seconds_max=2.0, pusher_public_tenants="acme")
    server = demo_server(settings)
    with port() as listening:
        async with (
            server,
            served(Listener(server.app(), settings), listening),
            asking(url_of(listening)) as world,
            browsing() as browser,
        ):
            acme, globex = LogFront(world.ana), LogFront(world.cleo)
            mine, other, theirs = [await each.opened() for each in (acme, acme, globex)]
            stranger = browser.client("stranger")
            key = pusher_keys(settings).key
            stranger.do("connect", key=key, port=listening.getsockname()[1], token="")
            owner = browser.client("owner")
            token = world.ana.login.token
            owner.do("connect", key=key, port=listening.getsockname()[1], token=token)
            for client in (stranger, owner):
                await client.state("connected")
            public, private = f"sb-{mine}", f"private-sb-{mine}"
            joined = [await stranger.subscribed(public), await owner.subscribed(private)]
            refused = [
                await stranger.subscribed(f"sb-{theirs}"),
                await stranger.subscribed(private),
            ]

            for text in ("show debug info", "try the failing tool"):
                await acme.asks(other, text)
                await globex.asks(theirs, text)
                await acme.asks(mine, text)
            shown = await actions(stranger, public)
            shown_privately = await actions(owner, private)

    assert {each["event"] for each in joined} == {"pusher:subscription_succeeded"}
    assert [each["data"]["status"] for each in refused] == [404, 401]
    assert shown == shown_privately
    assert {each["sessionId"] for each in shown} == {mine}
    assert list(cards(shown).values()) == [["started", "completed"], ["started", "failed"]]
    assert stranger.entries(f"sb-{theirs}") == []
    assert other not in str(stranger.heard)
