"""Who is signed in changes by somebody's word alone, and what was not sent is theirs."""

import re

from playwright.async_api import Locator, expect
from tests.browser.conftest import Enter
from tests.browser.person import Person
from tests.browser.site import Site
from tests.browser.test_breaks_operator import refusing
from tests.browser.test_refusals import failing


async def unsent(person: Person) -> str:
    """A session with a message that the server did not take, and a draft."""
    session_id = await person.login.opened()
    await person.chat(session_id)
    person.losses_expected = True
    await refusing(person.page, 500, "internal", "It broke.")
    await person.say("say kept")
    await expect(person.alert).to_contain_text("It is kept here")
    await person.box.fill("a draft")
    await person.page.unroute_all()
    return session_id


async def expire(person: Person) -> Locator:
    """The form for another token."""
    await person.page.route(
        "**/v1/sessions?*",
        lambda route: route.fulfill(**failing(401, "unauthenticated", "expired")),
    )
    await person.page.evaluate("dispatchEvent(new Event('focus'))")
    form = person.page.get_by_role("form", name="Use a token")
    await expect(form).to_be_visible()
    await person.page.unroute_all()
    return form


async def test_what_was_not_sent_is_sent_by_its_owner_who_is_back(person: Person) -> None:
    session_id = await unsent(person)
    form = await expire(person)

    await form.get_by_label("Token").fill(person.login.token)
    await form.get_by_role("button").click()
    await expect(person.conversation).to_contain_text("say kept")
    await expect(person.box).to_have_value("a draft")
    await person.button("Try again").click()

    await expect(person.reply).to_contain_text("kept")
    assert await person.login.replies(session_id) == ["kept"]


async def test_what_was_not_sent_is_nobody_elses(person: Person, site: Site) -> None:
    session_id = await unsent(person)
    form = await expire(person)
    second = site.token("admin")

    await form.get_by_label("Token").fill(second)
    await form.get_by_role("button").click()
    await expect(person.page.locator(".who")).to_contain_text(second)
    await expect(person.box).to_be_enabled()

    await expect(person.box).to_have_value("")
    await expect(person.conversation).not_to_contain_text("say kept")
    form = await expire(person)
    await form.get_by_label("Token").fill(person.login.token)
    await form.get_by_role("button").click()
    await person.chat(session_id)
    await expect(person.conversation).not_to_contain_text("say kept")


async def test_to_sign_out_is_asked_while_something_is_not_sent(person: Person) -> None:
    await unsent(person)
    asked = person.page.get_by_role("dialog", name="Sign out")

    await person.button("Sign out").click()
    await expect(asked).to_contain_text("would be lost")
    await person.button("Stay signed in", asked).click()
    await expect(asked).to_have_count(0)
    await expect(person.conversation).to_contain_text("say kept")
    await person.button("Sign out").click()
    await person.button("Sign out", asked).click()

    await expect(person.page.get_by_role("form", name="Use a token")).to_be_visible()
    assert await person.page.evaluate("sessionStorage.getItem('sessile.token')") is None


async def follow(person: Person, token: str) -> Locator:
    """A link with a token, where somebody is signed in. What it asks."""
    await person.page.evaluate("to => { location.hash = `#token=${to}`; }", token)
    return person.page.get_by_role("dialog", name="Sign in as somebody else")


async def test_a_link_asks_before_it_takes_another_users_place(person: Person, site: Site) -> None:
    await person.sign_in()
    who = person.page.locator(".who")
    other = site.token()

    asked = await follow(person, other)
    await expect(asked).to_contain_text(f"signs you in as {other}")
    assert other not in await person.page.evaluate("location.href")
    await person.button("Stay signed in", asked).click()
    await expect(asked).to_have_count(0)
    await expect(who).to_contain_text(person.login.token)
    await person.page.goto(f"{person.url}/?again#token={other}")
    await person.button(f"Sign in as {other}", asked).click()

    await expect(who).to_contain_text(other)
    assert await person.page.evaluate("sessionStorage.getItem('sessile.token')") == other


async def test_a_link_of_ones_own_asks_nothing(entering: Enter, own_site: Site) -> None:
    tokens = own_site.directory / "sessile-data" / "dev-tokens"
    tokens.write_text(tokens.read_text() + "another demo user-1 user\n")
    await own_site.stop()
    await own_site.start()
    person = await entering(own_site, token="user-1")
    await person.sign_in()

    async with person.page.expect_request(
        lambda each: (
            "/v1/sessions?" in each.url and each.headers["authorization"].endswith("another")
        )
    ):
        asked = await follow(person, "another")

    await expect(person.page.locator(".who")).to_contain_text("user-1")
    await expect(asked).to_have_count(0)
    assert await person.page.evaluate("sessionStorage.getItem('sessile.token')") == "another"


async def test_a_link_that_no_server_knows_changes_nothing(person: Person) -> None:
    await person.sign_in()
    person.losses_expected = True

    asked = await follow(person, "nobody")

    await expect(asked).to_contain_text("does not know")
    await expect(asked.get_by_role("button")).to_have_count(1)
    await person.page.keyboard.press("Escape")
    await expect(asked).to_have_count(0)
    await expect(person.page.locator(".who")).to_contain_text(person.login.token)


async def test_an_address_that_no_session_has_is_not_asked_for(person: Person) -> None:
    await person.sign_in()
    asked: list[str] = []
    person.page.on("request", lambda each: asked.append(each.url))

    for route in ("#/s/..", "#/s/.", "#/s/%2e%2e/tools", f"#/s/{'a' * 100_000}"):
        await person.visit("#/")
        await expect(person.alert).to_have_count(0)
        await person.visit(route)
        await expect(person.alert).to_contain_text("There is no such session")

    of_the_page = re.compile(r"/console/|/v1/me$|/v1/sessions\?")
    assert [url[:200] for url in asked if not of_the_page.search(url)] == []
