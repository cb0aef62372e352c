"""Text that is made to break the page: it costs next to nothing, and what it says is text."""

import json
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect
from tests.browser.conftest import Enter
from tests.browser.hostile import DETECTOR, PAYLOADS
from tests.browser.person import Person
from tests.browser.site import Record, Site
from tests.browser.test_hostile import harmless
from tests.browser.test_refusals import failing

MS_MAX = 1_000
DEPTH_MAX = 130
COSTLY = {
    "blanks": "a" + " " * 99_000 + "b",
    "an address without an end": ("a." * 4_900 + "@ ") * 10,
    "words without an end": ("a" * 9_900 + " ") * 10,
    "stars in words": ("**a*" * 1_900 + " ") * 10,
    "stars in a paragraph": "*a **b " * 1_600 + "c** d* " * 800,
    "stars in lines": ("_a*" * 100 + "\n") * 330,
    "ticks": " ".join("`" * number for number in range(440)),
    "a row of lists": "- " * 300 + "x",
    "a row of numbers": "1. " * 10_000 + "x",
    "quotes": "> " * 10_000 + "x",
    "quotes and lists": "> - " * 10_000 + "x",
    "lists in lists": "\n".join(" " * (2 * depth) + "- a" for depth in range(59)),
    "links without an end": "[a](b " * 16_000,
    "tags without an end": "<a b='" * 16_000,
    "comments without an end": "<!-- " * 19_000,
    "definitions": "[a]: " * 19_000,
    "a wide table": "|a" * 4_900 + "|\n" + "|-" * 4_900 + "|\n" + "|b" * 4_900 + "|",
    "a table of short rows": "|a" * 1_000 + "|\n" + "|-" * 1_000 + "|\n" + "|x\n" * 2_000,
    "many tables": ("|a" * 60 + "|\n" + "|-" * 60 + "|\n" + "|x\n" * 60 + "\n") * 180,
}
"""What costs a parser more time than it has characters, or gives a page of any depth."""
READ = """
async (text) => {
  const { markdown } = await import('/console/text.js');
  markdown('warm');
  const begun = performance.now();
  const safe = markdown(text);
  const ms = performance.now() - begun;
  if (safe === null) return { ms, depth: 0 };
  const root = document.createElement('div');
  root.innerHTML = safe;
  let depth = 0;
  for (let level = [root]; level.length; level = level.flatMap((each) => [...each.children])) depth += 1;
  return { ms, depth };
}
"""  # noqa: E501


@pytest.mark.parametrize("name", COSTLY)
async def test_no_text_is_dear_to_read(person: Person, name: str) -> None:
    await person.page.goto(person.url)

    cost = await person.page.evaluate(READ, COSTLY[name])

    assert cost["ms"] < MS_MAX, cost
    assert cost["depth"] < DEPTH_MAX, cost


MARKS = {
    "**bold**": "strong",
    "*leaning*": "em",
    "~~gone~~": "del",
    "`code`": "code",
    "# Heading": "h1",
    "###### Heading": "h6",
    "> quoted": "blockquote",
    "- one\n- two": "ul > li:nth-child(2)",
    "3. three\n4. four": "ol[start='3'] > li:nth-child(2)",
    "- outer\n  - inner": "ul ul > li",
    "```py\nx = 1\n```": "pre > code",
    "one\ntwo": "p > br",
    "---": "hr",
    "| a |\n|---|\n| b |": "table td",
    "[a](https://example.com/)": "a[href='https://example.com/'][rel~='noopener'][target='_blank']",
    "<https://example.com/>": "a[href='https://example.com/']",
    "https://example.com/": "a[href='https://example.com/']",
    "![seen](https://example.com/x.png)": "a[href='https://example.com/x.png']",
    "[m](mailto:ana@example.com)": "a[href='mailto:ana@example.com']",
}


@pytest.mark.parametrize("text", MARKS)
async def test_each_construct_of_markdown_is_drawn(person: Person, text: str) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, f"say {text}")

    await person.chat(session_id)

    await expect(person.reply.locator(f".prose {MARKS[text]}")).to_have_count(1)
    await expect(person.reply.locator("img")).to_have_count(0)


async def test_a_fence_that_is_not_closed_yet_is_code_from_its_beginning(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)
    tail = "x" * 2_500

    await person.say(f"say before\n\n```\n<b>code</b>\n\n# no heading {tail}")

    await expect(person.reply.locator("pre > code")).to_contain_text("# no heading")
    await expect(person.reply.locator("h1, b")).to_have_count(0)


NAMES = ("__proto__", "constructor", "toString", "__defineGetter__", "later.kind", PAYLOADS[1])


async def written(person: Person, session_id: str, more: list[Record]) -> None:
    """The session's stream has these entries behind its own."""
    entries = await person.login.log(session_id)
    head = entries[-1]["seq"]
    added: list[dict[str, Any]] = [
        {**entries[-1], "seq": head + at, **entry} for at, entry in enumerate(more, 1)
    ]
    told = "".join(
        f"id: {each['seq']}\nevent: entry\ndata: {json.dumps(each)}\n\n"
        for each in [*entries, *added]
    )
    answered: list[str] = []

    async def answer(route: Route) -> None:
        """Once: what comes back for more waits for ever."""
        if not answered:
            answered.append(route.request.url)
            await route.fulfill(status=200, content_type="text/event-stream", body=told)

    await person.page.route(f"**/v1/sessions/{session_id}/events", answer)


@pytest.mark.parametrize("name", NAMES)
async def test_an_entry_of_a_kind_that_is_not_known_changes_nothing(
    entering: Enter, site: Site, name: str
) -> None:
    person = await entering(site)
    await person.page.add_init_script(DETECTOR)
    session_id = await person.login.opened()
    await person.login.said(session_id, "say before")
    last = {"message_id": "msg_last", "channel": "text", "offset": 0, "text": "behind them"}
    strange: Record = {"kind": name, "body": {name: name}}
    await written(person, session_id, [strange, {"kind": "message.delta", "body": last}])

    await person.enter(session_id)

    await expect(person.reply).to_contain_text("behind them")
    await expect(person.messages("assistant")).to_have_count(2)
    await harmless(person)


async def hostile_routes(page: Page) -> None:
    names = [{"name": each, "is_default": False, "description": each} for each in PAYLOADS]
    tools = [
        {"tool": each, "status": "refused", "reason": each, "grant": each} for each in PAYLOADS
    ]

    async def assistants(route: Route) -> None:
        await route.fulfill(json={"items": names})

    async def verdicts(route: Route) -> None:
        await route.fulfill(json={"items": tools})

    async def refuse(route: Route) -> None:
        await route.fulfill(**failing(409, PAYLOADS[0], "\n".join(PAYLOADS)))

    await page.route("**/v1/assistants", assistants)
    await page.route("**/v1/sessions/*/tools", verdicts)
    await page.route("**/v1/sessions/*/turns", refuse)
    await page.route("**/v1/sessions/*/grants", refuse)


async def test_hostile_assistants_verdicts_and_refusals_are_text(
    entering: Enter, site: Site
) -> None:
    person = await entering(site)
    await person.page.add_init_script(DETECTOR)
    await hostile_routes(person.page)
    session_id = await person.login.opened()
    await person.chat(session_id)
    person.losses_expected = True

    await person.say("refused")
    await expect(person.alert).to_contain_text("<script>__ran('script')</script>")
    await harmless(person)
    await person.button("New session").click()
    await expect(person.page.get_by_role("combobox", name="Assistant")).to_be_enabled()
    await harmless(person)
    await person.enter(session_id, "tools")
    await expect(person.page.get_by_role("table", name="Tools")).to_contain_text("<script>")
    await person.page.get_by_role("button", name="Grant").first.click()
    await expect(person.alert).to_contain_text("<script>__ran('script')</script>")

    await harmless(person)
