"""What a person sees on a bad night: the server is lost, new, full or far away."""

import asyncio
import re

from playwright.async_api import Page, Route, expect
from tests.browser.conftest import Enter
from tests.browser.person import Person, counted
from tests.browser.site import Login, Site, asking
from tests.browser.test_refusals import failing
from tests.browser.test_resume import port_of
from tests.servers.proxy import Proxy

A_DAY = 86_400_000
SHIFTED = """
(() => {
  const Real = Date;
  globalThis.Date = class extends Real {
    constructor(...given) { given.length ? super(...given) : super(Real.now() + SHIFT); }
    static now() { return Real.now() + SHIFT; }
  };
})();
"""


async def test_a_server_that_came_back_without_its_data_says_so(
    entering: Enter, own_site: Site
) -> None:
    empty = own_site.directory / "empty.db"
    own_site.back_up(empty)
    person = await entering(own_site)
    session_id = await person.login.opened(title="Lost")
    await person.login.said(session_id, "say before")
    await person.chat(session_id)
    person.losses_expected = True

    await own_site.kill()
    await expect(person.status).to_have_attribute("data-state", "lost")
    own_site.restore(empty)
    await own_site.start()
    await expect(person.status).to_have_attribute("data-state", "ended")
    await person.say("say again")
    await expect(person.alert).to_contain_text("There is no such session")

    await expect(person.box).to_have_value("say again")


async def test_an_answer_comes_whole_through_a_proxy_that_cuts_each_connection(
    entering: Enter, site: Site
) -> None:
    async with Proxy(port_of(site)) as proxy:
        person = await entering(site, url=f"http://127.0.0.1:{proxy.port}")
        async with asking(site.url) as http:
            login = Login(http, person.login.token)
            session_id = await login.opened()
            cursors: list[str] = []
            person.page.on(
                "request",
                lambda each: cursors.append(each.headers.get("last-event-id", "")),
            )
            await person.chat(session_id)
            person.losses_expected = True
            for last in range(60, 160, 20):
                proxy.cut()
                await login.said(session_id, f"write 20 {last}", wait=False)
                await expect(person.reply).to_contain_text("w20")
                proxy.cut()
                await login.go(session_id)
                await expect(person.reply).to_contain_text(f"w{last}")

            await expect(person.messages("assistant")).to_have_count(5)
            await expect(person.reply).to_contain_text("w140")
            assert await person.heard() == counted(range(1, 141))
            await expect(person.messages("user")).to_have_count(5)
            asked = [each for each in cursors if each]
            assert len(set(asked)) > 5, "what it has is not asked for again"


async def test_a_slow_link_is_enough_to_chat(person: Person) -> None:
    session = await person.page.context.new_cdp_session(person.page)
    await session.send("Network.enable")
    slow = {"offline": False, "latency": 400, "downloadThroughput": 50_000}
    await session.send("Network.emulateNetworkConditions", {**slow, "uploadThroughput": 50_000})
    session_id = await person.login.opened()

    await person.chat(session_id)
    await person.say("say slowly")

    await expect(person.reply).to_contain_text("slowly")
    await expect(person.messages("user")).to_have_count(1)


async def test_a_clock_that_is_a_day_off_changes_no_more_than_how_times_are_written(
    entering: Enter, site: Site
) -> None:
    for shift in (A_DAY, -A_DAY):
        person = await entering(site)
        await person.page.add_init_script(SHIFTED.replace("SHIFT", str(shift)))
        session_id = await person.login.opened()
        await person.chat(session_id)

        await person.say("call asks.first")
        card = person.card("asks.first")
        await person.button("Approve", card).click()
        await expect(card).to_have_attribute("data-status", "completed")

        await expect(person.reply).to_contain_text("it was allowed")
        assert not re.search(r"-\d", await card.locator(".card-took").inner_text())


async def test_five_hundred_sessions_are_listed_piece_by_piece(person: Person) -> None:
    for _each in range(10):
        await asyncio.gather(*(person.login.opened(title=f"of {at}") for at in range(50)))
    await person.sign_in()
    links = person.sessions.get_by_role("link")
    await expect(links).to_have_count(50)

    more = person.button("More sessions", person.sessions)
    for shown in range(100, 550, 50):
        await more.click()
        await expect(links).to_have_count(shown)
    if await more.count():  # the last page was full: nothing comes behind it
        await more.click()
    await expect(more).to_have_count(0)

    addresses = await links.evaluate_all("links => links.map((each) => each.href)")
    assert len(set(addresses)) == 500


async def refusing(page: Page, status: int, code: str, detail: str) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(**failing(status, code, detail))

    await page.route("**/v1/sessions/*/turns", refuse)


async def test_a_message_that_a_full_disk_did_not_take_is_kept_and_sent_again(
    person: Person,
) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)
    person.losses_expected = True
    await refusing(person.page, 507, "storage_full", "The disk is full; nothing was stored.")

    await person.say("say kept")
    await expect(person.alert).to_contain_text("The disk is full")
    await person.page.unroute_all()
    await person.button("Try again").click()

    await expect(person.reply).to_contain_text("kept")
    assert await person.login.replies(session_id) == ["kept"]


async def test_an_assistant_that_is_no_longer_served_leaves_its_session_readable(
    entering: Enter, own_site: Site
) -> None:
    person = await entering(own_site)
    session_id = await person.login.opened()
    await person.login.said(session_id, "say before")
    await own_site.stop()
    own_site._arguments = ()
    await own_site.start()
    person.losses_expected = True

    await person.chat(session_id)
    await expect(person.reply).to_contain_text("before")
    await person.say("say anyone")

    await expect(person.queue.or_(person.alert).first).to_contain_text(re.compile("anyone|player"))
