"""Hands that type, paste, zoom and go back, as people's do."""

import asyncio
import json
import re

from playwright.async_api import expect
from tests.browser.conftest import Enter
from tests.browser.person import Person
from tests.browser.site import Site

PAGES = "0123456789abcdef" * 80_000


async def test_enter_while_composing_does_not_send(person: Person) -> None:
    """It takes the word that an input method proposes."""
    session_id = await person.login.opened()
    await person.chat(session_id)
    session = await person.page.context.new_cdp_session(person.page)
    await person.box.focus()

    await session.send(
        "Input.imeSetComposition", {"text": "say nihon", "selectionStart": 9, "selectionEnd": 9}
    )
    await person.page.keyboard.press("Enter")
    await session.send("Input.insertText", {"text": "say 日本"})
    assert await person.messages().count() == 0
    await person.box.press("Enter")

    await expect(person.reply).to_contain_text("日本")
    await expect(person.messages("user")).to_have_count(1)


async def test_a_text_that_is_too_long_is_refused_and_given_back(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)
    person.losses_expected = True

    await person.box.fill(PAGES)
    await person.button("Send").click()
    await expect(person.alert).to_be_visible()

    assert await person.box.input_value() == PAGES
    await person.say("say still here")
    await expect(person.reply).to_contain_text("still here")


async def test_back_and_forward_go_between_sessions_and_views(person: Person) -> None:
    first = await person.login.opened(title="The first")
    second = await person.login.opened(title="The second")
    await person.chat(first)
    await person.box.fill("a draft")
    await person.enter(second)
    await expect(person.page).to_have_title("The second · Sessile")
    await person.enter(second, "tools")
    await expect(person.page.get_by_role("table", name="Tools")).to_be_visible()

    await person.page.go_back()
    await expect(person.box).to_have_value("")
    await person.page.go_back()
    await expect(person.page).to_have_title("The first · Sessile")
    await expect(person.box).to_have_value("a draft")
    await person.page.go_forward()

    await expect(person.page).to_have_title("The second · Sessile")
    await expect(person.box).to_have_value("")


async def test_at_twice_the_size_all_of_the_chat_is_there(entering: Enter, site: Site) -> None:
    """200 % on a small laptop leaves 640 by 360."""
    person = await entering(site, viewport={"width": 640, "height": 360}, device_scale_factor=2)
    session_id = await person.login.opened()
    await person.login.said(session_id, "offer")

    await person.chat(session_id)

    for part in (person.box, person.button("Send"), person.button("Export"), person.button("Stop")):
        if await part.count():
            await expect(part).to_be_in_viewport(ratio=1)
    box = await person.conversation.bounding_box()
    assert box is not None
    assert box["height"] >= 80
    await person.button("The second").click()
    await expect(person.reply).to_contain_text("You picked 2.")


async def test_a_button_of_yesterday_is_refused_and_says_so(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "offer")
    await person.chat(session_id)
    await person.button("The first").click()
    await expect(person.reply).to_contain_text("You picked 1.")
    await expect(person.button("The first")).to_have_attribute("aria-pressed", "true")
    await person.login.ask("POST", f"/v1/sessions/{session_id}/close", {})

    await expect(person.button("The second")).to_be_disabled()
    await expect(person.box).to_have_count(0)


async def test_a_steered_message_is_shown_as_one(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)
    await person.say("hold first")
    await expect(person.button("Stop")).to_be_visible()

    await person.choose("When busy", "steer")
    await person.say("say steered")

    await expect(person.messages("user").last).to_contain_text("say steered")
    await expect(person.queue).to_have_count(0)
    kinds = [entry["kind"] for entry in await person.login.log(session_id)]
    assert kinds.count("turn.steered") == 1
    for _step in range(2):
        await person.login.go(session_id)
    await expect(person.button("Stop")).to_have_count(0)


async def test_a_message_is_copied_as_it_was_written(entering: Enter, site: Site) -> None:
    person = await entering(site, permissions=["clipboard-read", "clipboard-write"])
    session_id = await person.login.opened()
    await person.login.said(session_id, "say **bold** <b>")
    await person.chat(session_id)

    await person.reply.hover()
    await person.button("Copy", person.reply).click()

    await expect(person.button("Copied", person.reply)).to_be_visible()
    assert await person.page.evaluate("navigator.clipboard.readText()") == "**bold** <b>"


async def test_what_is_copied_as_curl_reads_the_entry_that_is_open(
    entering: Enter, site: Site
) -> None:
    person = await entering(site, permissions=["clipboard-read", "clipboard-write"])
    session_id = await person.login.opened()
    await person.login.said(session_id, "say hello")
    await person.enter(session_id, "timeline")
    await person.page.locator("[role=row][data-seq='3']").click()
    await expect(person.page.get_by_role("region", name="Entry 3")).to_be_visible()

    await person.button("Copy as curl").click()
    await expect(person.page.get_by_text("Copied").first).to_be_visible()
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", await person.page.evaluate("navigator.clipboard.readText()")),
        env={"PATH": "/usr/bin:/bin", "TOKEN": person.login.token, "no_proxy": "*"},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()

    assert [entry["seq"] for entry in json.loads(out)["items"]] == [3]


async def test_a_session_that_is_deleted_under_the_page_says_so(person: Person) -> None:
    session_id = await person.login.opened(title="Deleted")
    await person.login.said(session_id, "say gone")
    await person.chat(session_id)
    person.losses_expected = True

    await person.login.ask("DELETE", f"/v1/sessions/{session_id}")

    await expect(person.status).to_have_attribute("data-state", "ended")
    await expect(person.status).not_to_have_text(re.compile("Closed"))
    await person.say("say nobody hears it")
    await expect(person.alert).to_contain_text("There is no such session")
    await expect(person.box).to_have_value("say nobody hears it")


async def test_the_enter_that_ends_a_composition_does_not_send(person: Person) -> None:
    """Safari ends it before it tells the key, whose code is then an input method's."""
    session_id = await person.login.opened()
    await person.chat(session_id)
    await person.box.fill("say nihon")

    prevented = await person.box.evaluate(
        "(box) => [229, 13].map((keyCode) => !box.dispatchEvent(new KeyboardEvent('keydown',"
        " {key: 'Enter', keyCode, bubbles: true, cancelable: true})))"
    )

    assert prevented == [False, True]
    await expect(person.reply).to_contain_text("nihon")


async def test_a_long_text_has_the_direction_of_its_first_letter(person: Person) -> None:
    """A browser that finds it by itself takes seconds, at each key."""
    session_id = await person.login.opened()
    await person.chat(session_id)

    for text, direction in (
        ("a", "auto"),
        ("1 \u05e9 " * 2_000, "rtl"),
        (PAGES, "ltr"),
        ("", "auto"),
    ):
        await person.box.fill(text)
        await expect(person.box).to_have_attribute("dir", direction)
