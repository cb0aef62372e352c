"""Chat: what a person sees of a session, and does in it."""

import json
import re

from playwright.async_api import expect
from tests.browser.conftest import Enter
from tests.browser.person import Person, counted
from tests.browser.site import Site

DEMOS = ("demo", "support", "sites", "banking", "tasks.researcher.full", "workspace")

MARKDOWN = """# Top

**bold** and `code` and [a page](https://example.org/)

- one
- two

| a | b |
|---|---|
| 1 | 2 |

```
x = 1
```
"""


async def test_who_comes_without_a_session_is_told_how_to_begin(person: Person) -> None:
    await person.sign_in()

    await expect(person.button("New session").first).to_be_visible()
    await expect(person.sessions.get_by_role("link")).to_have_count(0)
    await expect(person.page).to_have_url(f"{person.url}/#/")


async def test_a_session_is_opened_with_one_of_the_assistants(person: Person) -> None:
    await person.sign_in()

    await person.button("New session").first.click()
    options = person.page.get_by_role("combobox", name="Assistant").get_by_role("option")
    await person.choose("Assistant", "player")  # it waits until they are there
    names = await options.evaluate_all("options => options.map(each => each.value)")
    await person.button("Open").click()
    await person.connected()
    await person.say("say hello there")

    await expect(person.messages("user").last).to_contain_text("say hello there")
    await expect(person.reply).to_contain_text("hello there")
    assert set(DEMOS) - set(names) == set()
    [opened] = (await person.login.ask("GET", "/v1/sessions"))["items"]
    assert opened["assistant"] == "player"
    current = person.sessions.locator("[aria-current=page]")
    await expect(current).to_have_attribute("href", re.compile(opened["session_id"]))


async def test_text_streams_and_is_whole_when_its_turn_ends(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.say("write 5 9")
    await expect(person.reply).to_contain_text("w5")
    await expect(person.reply).to_have_attribute("data-state", "partial")
    seen = await person.heard()
    await person.login.go(session_id)
    await expect(person.reply).to_have_attribute("data-state", "whole")

    assert seen == counted(range(1, 6))
    assert await person.heard() == counted(range(1, 10))
    await expect(person.messages("assistant")).to_have_count(1)


async def test_markdown_is_rendered(person: Person) -> None:
    session_id = await person.login.opened()
    text = f"say {MARKDOWN}"
    await person.login.said(session_id, text)

    await person.chat(session_id)

    await expect(person.reply.get_by_role("heading", name="Top")).to_be_visible()
    await expect(person.reply.locator("strong")).to_have_text("bold")
    await expect(person.reply.get_by_role("listitem")).to_have_count(2)
    await expect(person.reply.get_by_role("cell", name="2")).to_be_visible()
    await expect(person.reply.locator("pre")).to_contain_text("x = 1")
    link = person.reply.get_by_role("link", name="a page")
    await expect(link).to_have_attribute("href", "https://example.org/")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")
    await expect(link).to_have_attribute("target", "_blank")


async def test_lists_go_on_counting_and_tables_keep_their_alignment(person: Person) -> None:
    session_id = await person.login.opened()
    table = "| a | b | c |\n|:--|:-:|--:|\n| one | two | three |"
    await person.login.said(session_id, f"say 4. four\n5. five\n\n{table}")

    await person.chat(session_id)

    assert await person.reply.locator("ol").evaluate("each => each.start") == 4
    for name, side in (("one", "left"), ("two", "center"), ("three", "right")):
        cell = person.reply.get_by_role("cell", name=name)
        assert await cell.evaluate("each => getComputedStyle(each).textAlign") in (
            side,
            f"-webkit-{side}",
        )


async def test_a_tool_card_goes_from_started_to_completed_in_place(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.say("call held.work")
    card = person.card("held.work")
    await expect(card).to_have_attribute("data-status", "started")
    call_id = await card.get_attribute("data-call-id")
    await card.evaluate("card => { card.kept = true; }")
    await person.login.go(session_id)
    await expect(card).to_have_attribute("data-status", "completed")

    await expect(card).to_have_count(1)
    assert await card.get_attribute("data-call-id") == call_id
    assert await card.evaluate("card => card.kept"), "another card stands in its place"
    await expect(person.reply).to_contain_text("held.work completed: the work is done")


async def test_a_tool_card_that_fails_says_why(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.say("call held.fail")
    card = person.card("held.fail")
    await expect(card).to_have_attribute("data-status", "started")
    await person.login.go(session_id)

    await expect(card).to_have_attribute("data-status", "failed")
    await expect(card).to_contain_text("it went wrong")


async def test_a_refused_tool_says_why(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.say("call stock.count")

    card = person.card("stock.count")
    await expect(card).to_have_attribute("data-status", "refused")
    await expect(card).to_contain_text("grant")


async def test_a_button_is_offered_and_pressed(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.say("offer")
    await expect(person.button("The first")).to_be_visible()
    await person.button("The second").click()

    await expect(person.reply).to_contain_text("You picked 2.")


async def test_an_approval_is_given(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.say("call asks.first")
    card = person.card("asks.first")
    await expect(card).to_have_attribute("data-status", "awaiting")
    await person.button("Approve", card).click()

    await expect(card).to_have_attribute("data-status", "completed")
    await expect(person.reply).to_contain_text("it was allowed")
    await expect(person.button("Approve")).to_have_count(0)


async def test_an_approval_is_denied(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.say("call asks.first")
    card = person.card("asks.first")
    await person.button("Deny", card).click()

    await expect(card).to_have_attribute("data-status", "refused")
    await expect(person.reply).to_contain_text("asks.first refused")


async def test_a_task_shows_its_iterations_and_tokens(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.page.get_by_role("checkbox", name="As a task").check()
    await person.say("progress")
    bar = person.page.get_by_role("progressbar")
    await expect(bar).to_be_visible()
    await expect(bar).to_have_attribute("aria-valuenow", "3")
    await expect(bar).to_have_attribute("aria-valuemax", "12")
    await expect(person.page.get_by_text("iteration 3 of 12")).to_be_visible()
    await expect(person.page.get_by_text("1,234 of 5,000 tokens")).to_be_visible()
    await person.login.go(session_id)

    await expect(person.reply).to_contain_text("all of it")
    [queued] = [e for e in await person.login.log(session_id) if e["kind"] == "turn.queued"]
    assert queued["body"]["input"] == {"type": "task", "text": "progress"}


async def test_a_running_turn_is_stopped_and_keeps_what_it_wrote(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.say("write 5 9")
    await expect(person.reply).to_contain_text("w5")
    await person.button("Stop").click()

    await expect(person.button("Stop")).to_have_count(0)
    await expect(person.reply).to_have_attribute("data-state", "cancelled")
    assert await person.heard() == counted(range(1, 6))


async def test_what_waits_is_shown_edited_and_withdrawn(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.say("hold first")
    await expect(person.button("Stop")).to_be_visible()
    await person.say("say second")
    await person.say("say third")
    items = person.queue.get_by_role("listitem")
    await expect(items).to_have_count(2)
    await person.button("Withdraw", items.filter(has_text="third")).click()
    await expect(items).to_have_count(1)
    await person.button("Edit", items).click()
    edited = person.queue.get_by_role("textbox")
    await expect(edited).to_be_focused()
    await edited.fill("say otherwise")
    await edited.press("Enter")
    await expect(items).to_contain_text("say otherwise")
    await person.login.go(session_id)

    await expect(person.reply).to_contain_text("otherwise")
    await expect(person.queue.get_by_role("listitem")).to_have_count(0)
    assert await person.login.replies(session_id) == ["held: first", "otherwise"]


async def test_the_busy_policy_is_chosen(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)
    await person.say("hold first")
    await expect(person.button("Stop")).to_be_visible()
    person.losses_expected = True  # a refusal is told by the browser too

    await person.choose("When busy", "reject")
    await person.say("say refused")
    await expect(person.alert).to_be_visible()
    await expect(person.box).to_have_value("say refused")
    await person.choose("When busy", "interrupt")
    await person.say("say instead")

    await expect(person.reply).to_contain_text("instead")
    kinds = [entry["kind"] for entry in await person.login.log(session_id)]
    assert kinds.count("turn.cancelled") == 1
    assert kinds.count("turn.queued") == 2


async def test_a_session_is_forked_from_a_message(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "say one")
    await person.login.said(session_id, "say two")
    await person.chat(session_id)

    first = person.messages("assistant").first
    await first.hover()
    await person.button("Fork from here", first).click()
    await expect(person.page).not_to_have_url(re.compile(session_id))
    await expect(person.messages("assistant")).to_have_count(1)

    await expect(person.reply).to_contain_text("one")
    await expect(person.sessions.get_by_role("link")).to_have_count(2)


async def test_a_session_is_renamed(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.button("Rename").click()
    title = person.page.get_by_role("textbox", name="Title")
    await title.fill("A better name")
    await title.press("Enter")

    await expect(person.sessions.get_by_role("link", name="A better name")).to_be_visible()
    session = await person.login.ask("GET", f"/v1/sessions/{session_id}")
    assert session["title"] == "A better name"


async def test_a_session_is_closed_for_good(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.button("Close session").click()
    dialog = person.page.get_by_role("dialog", name="Close session")
    await person.button("Close session", dialog).click()

    await expect(person.status).to_have_attribute("data-state", "ended")
    await expect(person.status).to_have_text("Closed")
    await expect(person.box).to_have_count(0)
    session = await person.login.ask("GET", f"/v1/sessions/{session_id}")
    assert session["status"] == "closed"


async def test_a_session_is_exported(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "say one")
    await person.chat(session_id)

    async with person.page.expect_download() as started:
        await person.button("Export").click()
    file = await (await started.value).path()

    exported = [json.loads(line) for line in file.read_text().splitlines()]
    assert exported == await person.login.log(session_id)


async def test_enter_sends_and_shift_enter_is_a_new_line(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.box.press_sequentially("say one")
    await person.box.press("Shift+Enter")
    await person.box.press_sequentially("two")
    await person.box.press("Enter")

    await expect(person.reply).to_contain_text("two")
    await expect(person.box).to_have_value("")
    assert await person.login.replies(session_id) == ["one\ntwo"]


async def test_a_long_conversation_begins_at_its_end_and_goes_back(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "fill 700")

    await person.chat(session_id)
    await expect(person.reply).to_contain_text("filled")
    await expect(person.reply).to_be_in_viewport()
    while await person.button("Load earlier").count():
        shown = await person.messages().count()
        await person.button("Load earlier").click()
        await expect(person.messages().nth(shown)).to_be_attached()

    await expect(person.messages("user").first).to_contain_text("fill 700")
    await expect(person.messages("assistant")).to_have_count(701)


async def test_a_session_that_is_not_there_is_told(person: Person) -> None:
    await person.sign_in()
    person.losses_expected = True

    await person.visit("#/s/ses_none")

    await expect(person.alert).to_be_visible()
    await expect(person.alert).to_contain_text(re.compile(r"\w+"))


async def test_a_wrong_token_brings_the_form_that_says_where_to_find_one(
    entering: Enter, site: Site
) -> None:
    person = await entering(site, token="no-token")
    person.losses_expected = True

    await person.page.goto(f"{person.url}/#token=no-token")
    field = person.page.get_by_role("textbox", name=re.compile("token", re.IGNORECASE)).first
    await expect(field).to_be_visible()
    await expect(person.page.get_by_text("dev-tokens").first).to_be_visible()
    await field.fill(site.token())
    await field.press("Enter")

    await expect(person.sessions).to_be_visible()
    assert "token" not in await person.page.evaluate("location.href")
