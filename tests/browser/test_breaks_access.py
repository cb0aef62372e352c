"""Whoever comes after somebody else in the same browser finds nothing of them."""

import pytest
from playwright.async_api import expect
from tests.browser.conftest import Enter
from tests.browser.person import Person
from tests.browser.site import Site

REST = """
() => JSON.stringify([document.body.innerHTML, document.title, {...localStorage},
  Object.entries(sessionStorage).filter(([key]) => key !== 'sessile.token'),
  [...document.querySelectorAll('input, textarea')].map((each) => each.value), document.cookie])
"""
"""All that a page shows and keeps, but for the token."""


async def test_a_second_user_sees_nothing_of_the_first(person: Person, site: Site) -> None:
    session_id = await person.login.opened(title="the title of the first")
    await person.login.said(session_id, "say what was said to the first")
    await person.chat(session_id)
    await person.box.fill("a draft of the first")
    await person.visit("#/")
    await expect(person.box).to_have_count(0)
    await person.button("Sign out").click()
    person.losses_expected = True
    second = site.token()

    await person.page.goto(f"{person.url}/#token={second}")
    await expect(person.page.locator(".who")).to_contain_text(second)
    await person.visit(f"#/s/{session_id}")
    await expect(person.alert).to_contain_text("There is no such session")

    assert "the first" not in await person.page.evaluate(REST)


async def test_going_back_after_signing_out_shows_nothing(person: Person) -> None:
    session_id = await person.login.opened(title="the title of the first")
    await person.chat(session_id)
    await person.enter(session_id, "timeline")
    await person.button("Sign out").click()
    await expect(person.page.get_by_role("heading", name="Sessile")).to_be_visible()

    await person.page.go_back()
    await expect(person.page).to_have_url(f"{person.url}/#/s/{session_id}")

    await expect(person.page.get_by_role("heading", name="Sessile")).to_be_visible()
    assert "the first" not in await person.page.evaluate(REST)


async def test_the_link_s_token_is_in_no_entry_of_the_history(person: Person) -> None:
    await person.page.goto("about:blank")
    await person.sign_in()
    session = await person.page.context.new_cdp_session(person.page)

    history = await session.send("Page.getNavigationHistory")

    addresses = [entry["url"] for entry in history["entries"]]
    assert addresses == ["about:blank", f"{person.url}/#/"]


async def test_what_was_kept_by_hand_breaks_nothing(entering: Enter, site: Site) -> None:
    person = await entering(site)
    await person.page.add_init_script("localStorage['sessile.language'] = '__proto__'")
    await person.page.add_init_script("localStorage['sessile.theme'] ||= '\"]<img src=x>'")

    await person.sign_in()

    await expect(person.button("New session")).to_be_visible()
    await person.button("Theme").click()
    await expect(person.page.locator("html")).to_have_attribute("data-theme", "light")


@pytest.mark.parametrize("token", ["nobody", "tok\u2026en", "a b", "\u2019"])
async def test_a_token_that_no_server_gives_is_refused(person: Person, token: str) -> None:
    """Not told as a server that cannot be reached, which may be pasted as it was printed."""
    person.losses_expected = True
    await person.page.goto(person.url)
    form = person.page.get_by_role("form", name="Use a token")

    await form.get_by_label("Token").fill(token)
    await form.get_by_role("button").click()

    await expect(person.alert).to_contain_text("does not know this token")
    assert await person.page.evaluate("sessionStorage.getItem('sessile.token')") is None


async def test_a_page_in_a_frame_is_not_shown(entering: Enter, site: Site) -> None:
    person = await entering(site)
    person.losses_expected = True
    page = person.page
    await page.route(
        "http://localhost:9/",
        lambda route: route.fulfill(
            content_type="text/html", body=f"<iframe src='{site.url}/'></iframe>"
        ),
    )

    await page.goto("http://localhost:9/")
    [_, framed] = page.frames
    await framed.wait_for_load_state()

    assert framed.url != f"{site.url}/"
    assert await framed.locator("#app").count() == 0
