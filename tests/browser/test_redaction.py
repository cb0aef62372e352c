"""What is redacted is gone from each place where a page showed it."""

import re

from playwright.async_api import Locator, Route, expect
from tests.browser.conftest import Enter
from tests.browser.person import Person
from tests.browser.site import Site

SECRET = "the word is xylophone"


async def forgotten(person: Person) -> None:
    """Nothing that can be read in the page has it."""
    await expect(person.page.locator("body")).not_to_contain_text("xylophone")
    await expect(person.page).not_to_have_title(re.compile("xylophone"))


def dialog(person: Person) -> Locator:
    return person.page.get_by_role("dialog", name="Redact the message")


async def redact(person: Person, message: Locator, reason: str = "") -> None:
    await message.hover()
    await person.button("Redact…", message).click()
    await dialog(person).get_by_role("textbox", name="Reason").fill(reason)
    await person.button("Redact", dialog(person)).click()


async def test_a_redacted_message_is_gone_from_all_that_shows_it(
    entering: Enter, site: Site
) -> None:
    person = await entering(site)
    session_id = await person.login.opened(title=f"say {SECRET}")
    await person.login.said(session_id, f"say {SECRET}")
    await person.chat(session_id)
    other = await entering(site, token=person.login.token)
    await other.chat(session_id)
    log = await entering(site, token=person.login.token)
    await log.enter(session_id, "timeline")
    await log.page.locator("[role=row][data-kind='turn.queued']").click()
    raw = log.page.get_by_role("region", name=re.compile("Entry"))
    await expect(raw).to_contain_text(SECRET)

    await redact(person, person.messages("user").last, "personal_data")
    await expect(dialog(person)).to_have_count(0)
    await expect(person.messages("user")).to_contain_text("This message was redacted.")
    await redact(person, person.reply)

    for page in (person, other, log):
        await forgotten(page)
    await expect(other.reply).to_contain_text("This message was redacted.")
    await expect(raw).to_contain_text('"redacted": true')
    await expect(log.page.locator("[role=row][data-kind='session.redacted']")).to_have_count(2)
    told = [it["body"] for it in await person.login.log(session_id) if "redacted" in it["kind"]]
    assert [each["reason"] for each in told] == ["personal_data", ""]


async def test_a_redacted_call_has_neither_arguments_nor_result(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)
    await person.say("call asks.first")
    card = person.card("asks.first")
    await expect(person.button("Redact…", card)).to_have_count(0)
    await person.button("Approve", card).click()
    await expect(card).to_contain_text("it was allowed")

    await redact(person, card)

    await expect(card).to_contain_text("This message was redacted.")
    await expect(card).not_to_contain_text("it was allowed")
    await person.page.reload()
    await expect(card).to_contain_text("This message was redacted.")


async def test_what_a_turn_that_runs_has_read_is_refused_in_words(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, f"say {SECRET}")
    await person.chat(session_id)
    await person.say("hold on")
    await expect(person.button("Stop")).to_be_visible()
    person.losses_expected = True

    await redact(person, person.messages("assistant").first)
    await expect(dialog(person).get_by_role("alert")).to_contain_text("Stop the turn")
    await expect(person.messages("assistant").first).to_contain_text(SECRET)
    await person.login.go(session_id)
    await expect(person.reply).to_contain_text("held: on")
    await person.button("Redact", dialog(person)).click()

    await expect(dialog(person)).to_have_count(0)
    await expect(person.messages("assistant").first).not_to_contain_text(SECRET)


async def test_earlier_messages_that_are_loaded_later_are_redacted_too(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, f"say {SECRET}")
    await person.login.said(
        session_id, "fill 270"
    )  # 540 to 810 entries: more than a window, less than two
    await person.chat(session_id)
    first = next(it for it in await person.login.log(session_id) if it["kind"] == "message.added")
    path = f"/v1/sessions/{session_id}/messages/{first['body']['message_id']}/redact"

    await person.login.ask("POST", path, {})
    await person.button("Load earlier").click()

    await expect(person.messages("user").first).to_contain_text("This message was redacted.")


async def test_earlier_messages_come_though_one_is_redacted_while_they_are_loaded(
    person: Person,
) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "say first")
    await person.login.said(session_id, "fill 270")
    await person.login.said(session_id, f"say {SECRET}")
    await person.chat(session_id)
    added = [it for it in await person.login.log(session_id) if it["kind"] == "message.added"]
    last = next(it["body"] for it in reversed(added) if it["body"]["role"] == "user")
    path = f"/v1/sessions/{session_id}/messages/{last['message_id']}/redact"

    async def meanwhile(route: Route) -> None:
        """The page reads its window anew, and one entry more, before it has the earlier ones."""
        async with person.page.expect_response(lambda it: it.url.endswith("&limit=1")):
            await person.login.ask("POST", path, {})
        await expect(person.page.get_by_text("This message was redacted.")).to_have_count(1)
        await route.continue_()

    await person.page.route("**/events?after=0&*", meanwhile, times=1)
    await person.button("Load earlier").click()

    await expect(person.messages("user").first).to_contain_text("say first")
    await expect(person.button("Load earlier")).to_have_count(0)


async def as_an_operator(route: Route) -> None:
    reply = await route.fetch()
    await route.fulfill(response=reply, json={**await reply.json(), "roles": ["operator"]})


async def test_who_may_not_redact_is_not_offered_it(entering: Enter, site: Site) -> None:
    person = await entering(site)
    session_id = await person.login.opened()
    await person.login.said(session_id, f"say {SECRET}")
    admin = await entering(site, role="admin")
    await admin.chat(session_id)
    await expect(admin.button("Redact…")).to_have_count(2)

    await admin.page.route("**/v1/me", as_an_operator)
    await admin.page.reload()

    await expect(admin.page.get_by_title("(operator)")).to_be_visible()
    await expect(admin.reply).to_contain_text(SECRET)
    await expect(admin.button("Redact…")).to_have_count(0)


async def test_a_reason_is_a_code(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, f"say {SECRET}")
    await person.chat(session_id)

    await redact(person, person.reply, "Because of Ana")
    await expect(dialog(person)).to_be_visible()
    field = dialog(person).get_by_role("textbox")
    assert await field.evaluate("(each) => each.validity.patternMismatch")
    await person.page.keyboard.press("Escape")

    await expect(dialog(person)).to_have_count(0)
    await expect(person.reply).to_contain_text(SECRET)
