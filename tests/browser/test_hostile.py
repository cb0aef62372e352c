"""What others wrote is shown as text: nothing of it runs, whoever wrote it and wherever it is."""

from playwright.async_api import expect
from tests.browser.conftest import Enter
from tests.browser.hostile import DETECTOR, PAYLOADS, USER
from tests.browser.person import Person
from tests.browser.site import Site

VIEWS = ("", "timeline", "tools")
TITLE = "".join(PAYLOADS[1:3])[:200]


async def harmless(person: Person) -> None:
    """Nothing ran, nothing that could is on the page, and no policy had to stop it."""
    await person.page.evaluate("() => new Promise(requestAnimationFrame)")
    assert await person.page.evaluate("__told()") == []
    person.check()


async def attacked(entering: Enter, site: Site) -> tuple[Person, str]:
    """A person whose name is hostile, and a session in which all else is."""
    person = await entering(site, token="hostile")
    await person.page.add_init_script(DETECTOR)
    metadata = {payload: [payload] for payload in PAYLOADS}
    session_id = await person.login.opened("hostile", title=TITLE, metadata=metadata)
    await person.login.said(session_id, "\n".join(PAYLOADS))
    assert (await person.login.ask("GET", f"/v1/sessions/{session_id}"))["user_id"] == USER
    return person, session_id


async def test_hostile_messages_results_titles_and_names_are_text(
    entering: Enter, site: Site
) -> None:
    person, session_id = await attacked(entering, site)

    await person.chat(session_id)
    await expect(person.messages("user").first).to_contain_text("<script>__ran('script')</script>")
    await expect(person.card("hostile.result")).to_have_attribute("data-status", "completed")
    await expect(person.card("hostile.fail")).to_contain_text("<script>")
    await expect(person.sessions.get_by_role("link").first).to_contain_text("<img src=x")
    await harmless(person)
    for card in (person.card("hostile.result"), person.card("hostile.fail")):
        for summary in await card.locator("summary").all():
            await summary.click()
    await harmless(person)


async def test_hostile_links_lead_nowhere(entering: Enter, site: Site) -> None:
    person, session_id = await attacked(entering, site)
    await person.chat(session_id)
    await expect(person.messages("user").first).to_be_visible()

    links = person.conversation.locator("a")
    targets = await links.evaluate_all("links => links.map(each => each.href)")
    for link in await links.all():
        await link.click(modifiers=["Alt"], no_wait_after=True)

    assert all(target.startswith(("http:", "https:", "mailto:")) for target in targets if target)
    await harmless(person)


async def test_hostile_entries_are_text_in_the_timeline(entering: Enter, site: Site) -> None:
    person, session_id = await attacked(entering, site)

    await person.enter(session_id, "timeline")
    rows = person.page.locator("[role=row][data-seq]")
    await expect(rows.first).to_be_visible()
    for row in await rows.all():
        await row.click()
        seq = await row.get_attribute("data-seq")
        await expect(person.page.get_by_role("region", name=f"Entry {seq}")).to_be_visible()

    await harmless(person)


async def test_hostile_words_are_text_in_the_other_views(entering: Enter, site: Site) -> None:
    person, session_id = await attacked(entering, site)

    await person.enter(session_id, "tools")
    await expect(person.page.get_by_role("table", name="Tools")).to_be_visible()
    await harmless(person)
    await person.visit("#/health")
    await expect(person.page.get_by_role("figure").first).to_be_visible()
    await harmless(person)
    await person.visit(f"#/s/{PAYLOADS[1]}")
    person.losses_expected = True
    await expect(person.alert).to_be_visible()
    await harmless(person)


async def test_a_megabyte_of_text_is_shown_and_the_page_stays_usable(
    entering: Enter, site: Site
) -> None:
    person = await entering(site)
    await person.page.add_init_script(DETECTOR)
    session_id = await person.login.opened("hostile")
    await person.login.said(session_id, "long")
    [text] = await person.login.replies(session_id)
    assert len(text) > 800_000

    await person.chat(session_id)
    await expect(person.reply).to_contain_text("<b>long</b> <b>long</b>")
    await person.box.fill("still here")

    await expect(person.box).to_have_value("still here")
    await harmless(person)


async def test_direction_overrides_stay_inside_their_text(entering: Enter, site: Site) -> None:
    """What a title turns around is the title, not what stands behind it."""
    person = await entering(site)
    title = "\u202eexe.gnp"
    session_id = await person.login.opened(title=title)
    await person.login.said(session_id, f"say {title}")

    await person.chat(session_id)

    for element in (
        person.sessions.get_by_role("link").first,
        person.messages("user").first,
        person.reply,
    ):
        isolated = await element.evaluate(
            "(element, text) => { const walk = document.createTreeWalker(element, 4);"
            " while (walk.nextNode()) if (walk.currentNode.data.includes(text)) {"
            "  for (let each = walk.currentNode.parentElement; each; each = each.parentElement) {"
            "   if (/isolate|plaintext/.test(getComputedStyle(each).unicodeBidi)) return true;"
            "   if (each === element) return false; } } return false; }",
            title,
        )
        assert isolated, await element.evaluate("element => element.outerHTML")
