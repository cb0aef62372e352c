"""Health while the page is open, and figures that no server of a test can be brought to have."""

import re

from playwright.async_api import Route, expect
from tests.browser.person import Person

REFUSALS = "sessile_fence_refusals_total"


async def counting(person: Person, name: str, value: int) -> None:
    """The server's own figures, one of them changed."""

    async def changed(route: Route) -> None:
        reply = await route.fetch()
        text, count = re.subn(rf"(?m)^{name} .*$", f"{name} {value}", await reply.text())
        assert count == 1
        await route.fulfill(response=reply, body=text)

    await person.page.route("**/metrics", changed)


async def test_writes_that_were_refused_are_counted_in_the_timeline(person: Person) -> None:
    session_id = await person.login.opened()
    await counting(person, REFUSALS, 3)

    await person.enter(session_id, "timeline")

    told = person.page.get_by_text("Writes refused by this node since its start: 3")
    await expect(told).to_have_class("tl-warning")


async def test_writes_that_were_refused_are_counted_in_health(person: Person) -> None:
    await counting(person, REFUSALS, 3)

    await person.sign_in("#/health")

    line = person.page.locator("[data-chart=fences] [data-line=refusals]")
    await expect(line).to_contain_text("3 since the start")


async def test_a_counter_that_did_not_stay_0_is_a_fault(person: Person) -> None:
    name = "sessile_orphaned_calls_must_stay_zero_total"
    await counting(person, name, 2)

    await person.sign_in("#/health")

    region = person.page.get_by_role("region", name="Must stay 0")
    await expect(region.get_by_role("alert")).to_contain_text("a fault of Sessile itself")
    counter = region.locator(f"[data-counter={name.removesuffix('_total')}]")
    await expect(counter).to_have_attribute("data-value", "2")


async def test_health_is_read_on_while_another_view_is_looked_at(person: Person) -> None:
    session_id = await person.login.opened()
    await person.sign_in("#/health")
    await expect(person.page.get_by_role("figure").first).to_be_visible()

    await person.chat(session_id)
    for _ in range(2):
        async with person.page.expect_response("**/metrics"):
            pass
    await person.visit("#/health")

    await expect(person.page.get_by_text("figures of up to 10 minutes")).to_be_visible()
    await expect(person.page.get_by_text("Reading the figures")).to_have_count(0)


async def test_who_signs_out_leaves_nothing_that_goes_on_asking(person: Person) -> None:
    await person.page.clock.install()
    await person.sign_in("#/health")
    await expect(person.page.get_by_role("figure").first).to_be_visible()
    asked: list[str] = []

    await person.button("Sign out").click()
    await expect(person.page.get_by_role("textbox", name="Token")).to_be_visible()
    person.page.on("request", lambda request: asked.append(request.url))
    await person.page.clock.run_for(30_000)

    assert asked == []
