"""Tools and context: what the session may use, and why not the rest."""

from playwright.async_api import Locator, expect
from tests.browser.conftest import Enter
from tests.browser.person import Person
from tests.browser.site import Site


def tool(person: Person, name: str) -> Locator:
    table = person.page.get_by_role("table", name="Tools")
    return table.get_by_role("row").filter(has=person.page.get_by_text(name, exact=True))


async def test_each_tool_has_its_verdict_and_the_reason(person: Person) -> None:
    session_id = await person.login.opened()
    verdicts = (await person.login.ask("GET", f"/v1/sessions/{session_id}/tools"))["items"]

    await person.enter(session_id, "tools")

    assert {each["status"] for each in verdicts} >= {"allowed", "needs_grant", "needs_approval"}
    for each in verdicts:
        await expect(tool(person, each["tool"])).to_be_visible()
        await expect(tool(person, each["tool"])).to_contain_text(each["reason"])


async def test_a_grant_is_given_and_revoked(entering: Enter, site: Site) -> None:
    person = await entering(site, role="operator")
    session_id = await person.login.opened()
    await person.enter(session_id, "tools")

    await person.button("Grant stock").click()
    await expect(person.button("Revoke stock")).to_be_visible()
    granted = await person.login.ask("GET", f"/v1/sessions/{session_id}")
    turn = await person.login.said(session_id, "call stock.count")
    await person.button("Revoke stock").click()
    await expect(person.button("Grant stock")).to_be_visible()

    assert granted["grants"] == ["stock"]
    assert turn["output"] == "stock.count completed: 12"
    assert (await person.login.ask("GET", f"/v1/sessions/{session_id}"))["grants"] == []


async def test_a_grant_that_another_has_to_give_is_told(person: Person) -> None:
    session_id = await person.login.opened("workspace")
    await person.enter(session_id, "tools")
    person.losses_expected = True

    await person.button("Grant manage_sessions").first.click()

    await expect(person.alert).to_contain_text("operator or admin")


async def test_the_context_s_size_and_last_summary_are_shown(entering: Enter, site: Site) -> None:
    person = await entering(site, role="operator")
    session_id = await person.login.opened("workspace")
    grants = {"grants": ["manage_sessions"]}
    await person.login.ask("PUT", f"/v1/sessions/{session_id}/grants", grants)
    await person.login.said(session_id, "hello")
    await person.login.said(session_id, "summarize: we have greeted")
    context = await person.login.ask("GET", f"/v1/sessions/{session_id}/context")

    await person.enter(session_id, "tools")

    region = person.page.get_by_role("region", name="Context")
    await expect(region).to_contain_text(str(context["messages"]))
    await expect(region).to_contain_text(f"{context['tokens_estimated']:,}")
    await expect(region).to_contain_text("we have greeted")
