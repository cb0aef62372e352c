"""Health: what the server does, live."""

import re

from playwright.async_api import expect
from tests.browser.person import Person

ZEROS = (
    "sessile_session_mismatches_must_stay_zero_total",
    "sessile_orphaned_calls_must_stay_zero_total",
)
FIGURES = (
    "Turns ended, a second",
    "Turns running, and the queue",
    "Latency of turns, from accepted to ended",
    "Latency of requests, without streams",
    "Connections",
    "Take-overs and write refusals",
    "Entries and requests, a second",
)


async def test_each_figure_has_its_chart(person: Person) -> None:
    await person.sign_in()

    await person.page.get_by_role("banner").get_by_role("link", name="Health").click()

    figures = person.page.get_by_role("figure")
    for name in FIGURES:
        caption = figures.locator("figcaption").get_by_text(name, exact=True)
        await expect(caption).to_be_visible()
    await expect(figures).to_have_count(len(FIGURES))


async def test_the_counters_that_must_stay_0_are_0(person: Person) -> None:
    await person.sign_in("#/health")

    region = person.page.get_by_role("region", name="Must stay 0")
    for name in ZEROS:
        counter = region.locator(f"[data-counter^='{name.removesuffix('_total')}']")
        await expect(counter).to_have_attribute("data-value", "0")


async def test_the_charts_are_live(person: Person) -> None:
    session_id = await person.login.opened()
    await person.sign_in("#/health")
    await expect(person.page.get_by_role("figure").first).to_be_visible()

    streams = person.page.get_by_role("figure").filter(has_text=re.compile("turns", re.IGNORECASE))
    before = await streams.first.inner_text()
    await person.login.said(session_id, "hold on", wait=False)

    await expect(streams.first).not_to_have_text(before)
    await person.login.go(session_id)


async def test_a_server_that_does_not_answer_is_told(person: Person) -> None:
    await person.sign_in()
    person.losses_expected = True
    await person.page.route("**/metrics", lambda route: route.abort())

    await person.visit("#/health")

    await expect(person.alert).to_be_visible()
