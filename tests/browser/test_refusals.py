"""What a person is told when the server fails, refuses or is not heard, and what is kept."""

import json
import re
from typing import Any

import pytest
from playwright.async_api import Request, Route, expect
from tests.browser.conftest import Enter
from tests.browser.person import Person
from tests.browser.site import Site


def failing(status: int, code: str, detail: str, **headers: str) -> dict[str, Any]:
    """A problem document, as `route.fulfill` takes it."""
    body = {"status": status, "code": code, "title": "Title", "detail": detail, "errors": []}
    return {
        "status": status,
        "content_type": "application/problem+json",
        "headers": headers,
        "body": json.dumps(body),
    }


async def test_a_failure_of_the_server_is_told_as_what_it_is(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)
    person.losses_expected = True
    keys: list[str] = []

    async def fail(route: Route, request: Request) -> None:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            await route.fulfill(**failing(500, "internal_error", "a disk is full"))
        else:
            await route.fallback()

    await person.page.route("**/turns", fail)
    await person.say("say it once")
    await expect(person.alert).to_contain_text("internal_error")
    await expect(person.alert).to_contain_text("a disk is full")
    await expect(person.alert).to_contain_text("if it fails again, look into")
    await expect(person.alert).not_to_contain_text("cannot be reached")
    await person.button("Try again").click()

    await expect(person.reply).to_contain_text("it once")
    await expect(person.alert).to_have_count(0)
    assert keys == [keys[0]] * 2
    assert await person.login.replies(session_id) == ["it once"]


async def test_what_a_server_that_is_busy_did_not_take_is_sent_when_it_says(
    person: Person,
) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)
    person.losses_expected = True
    keys: list[str] = []

    async def refuse(route: Route, request: Request) -> None:
        keys.append(request.headers["idempotency-key"])
        if len(keys) == 1:
            busy = failing(503, "overloaded", "the pool is full", **{"retry-after": "2"})
            await route.fulfill(**busy)
        else:
            await route.fallback()

    await person.page.route("**/turns", refuse)
    await person.say("say it later")
    await expect(person.alert).to_contain_text("the pool is full")
    await expect(person.alert).to_contain_text(re.compile(r"tried again at \d+:\d\d:\d\d"))

    await expect(person.reply).to_contain_text("it later")
    await expect(person.alert).to_have_count(0)
    assert keys == [keys[0]] * 2


async def test_what_is_refused_when_it_is_tried_again_is_kept(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)
    person.losses_expected = True
    answers = [failing(500, "internal_error", "first"), failing(409, "session_closed", "second")]
    await person.page.route("**/turns", lambda route: route.fulfill(**answers.pop(0)))

    await person.say("say what was written")
    await expect(person.alert).to_contain_text("first")
    await person.button("Try again").click()

    await expect(person.alert).to_contain_text("second")
    await expect(person.messages().or_(person.conversation)).to_contain_text("say what was written")
    await expect(person.button("Discard")).to_be_visible()


async def test_a_failure_that_comes_after_the_session_was_left_is_told(person: Person) -> None:
    """To a page that was elsewhere meanwhile, and is back."""
    session_id, other = await person.login.opened(), await person.login.opened()
    await person.chat(session_id)
    person.losses_expected = True
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    await person.page.route("**/turns", hold)
    await person.say("say one thing")
    await expect(person.conversation.locator("[data-state=sending]")).to_have_count(1)
    await person.chat(other)
    await person.chat(session_id)
    await expect(person.conversation.locator("[data-state=sending]")).to_have_count(1)
    await held[0].fulfill(**failing(500, "internal_error", "a disk is full"))

    await expect(person.alert).to_contain_text("a disk is full")


@pytest.mark.parametrize("name", ["The first", "Fork from here"])
async def test_a_double_click_asks_once(person: Person, name: str) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "offer")
    await person.chat(session_id)
    asked: list[str] = []

    async def slow(route: Route, request: Request) -> None:
        if request.method == "POST":
            asked.append(request.url)
        await person.page.evaluate("() => new Promise(requestAnimationFrame)")
        await route.fallback()

    await person.page.route(re.compile(r"/(turns|fork)$"), slow)
    await person.reply.hover()
    await person.button(name, person.reply).dblclick()

    if name == "The first":
        await expect(person.reply).to_contain_text("You picked 1.")
    else:
        await expect(person.page).not_to_have_url(re.compile(session_id))
        await person.connected()
    assert len(asked) == 1


async def test_a_late_refusal_of_who_was_here_before_leaves_who_is_here_now(
    entering: Enter, site: Site
) -> None:
    person = await entering(site)
    other = site.token()
    held: list[Route] = []

    async def hold(route: Route, request: Request) -> None:
        if request.headers["authorization"].endswith(other):
            await route.fallback()
        else:
            held.append(route)

    await person.page.route("**/v1/sessions?*", hold)
    await person.sign_in()
    await expect(person.page.get_by_text("Loading").first).to_be_visible()
    person.losses_expected = True

    await person.button("Sign out").click()
    await person.page.get_by_role("textbox", name="Token").fill(other)
    await person.button("Use a token").click()
    await expect(person.sessions).to_be_visible()
    assert held
    for route in held:
        async with person.page.expect_response("**/v1/sessions?*"):
            await route.fulfill(**failing(401, "unauthenticated", "not known"))

    await person.page.evaluate("() => new Promise(requestAnimationFrame)")
    await expect(person.sessions).to_be_visible()
    assert await person.page.evaluate("sessionStorage.getItem('sessile.token')") == other


@pytest.mark.parametrize("route", ["#/s/%", "#/s/%E0%A4", "#/s/%/timeline"])
async def test_an_address_that_is_none_is_told(person: Person, route: str) -> None:
    await person.sign_in()
    person.losses_expected = True

    await person.visit(route)

    await expect(person.alert).to_contain_text("There is no such session")


async def test_where_the_browser_lets_nobody_copy_it_is_told(person: Person) -> None:
    """As in a page that came over plain HTTP from another machine."""
    session_id = await person.login.opened()
    await person.login.said(session_id, "say hello")
    await person.page.add_init_script(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined})"
    )
    await person.chat(session_id)

    await person.reply.hover()
    await person.button("Copy", person.reply).click()

    await expect(person.button("The browser does not allow it", person.reply)).to_be_visible()


async def test_a_session_whose_server_fails_at_first_is_shown_when_it_does_not(
    person: Person,
) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "say hello")
    await person.sign_in()
    person.losses_expected = True
    failures = [failing(502, "", ""), failing(503, "draining", "it stops", **{"retry-after": "1"})]

    async def fail(route: Route) -> None:
        if failures:
            await route.fulfill(**failures.pop(0))
        else:
            await route.fallback()

    await person.page.route(f"**/v1/sessions/{session_id}", fail)
    await person.visit(f"#/s/{session_id}")

    await expect(person.reply).to_contain_text("hello")
    assert failures == []
