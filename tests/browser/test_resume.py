"""What a person sees when the connection, the page or the server is lost: nothing is."""

from contextlib import suppress
from pathlib import Path

from playwright.async_api import Page, expect
from playwright.async_api import TimeoutError as PlaywrightTimeout
from tests.browser.conftest import Enter
from tests.browser.person import Person, counted
from tests.browser.site import Site
from tests.servers.proxy import Proxy


def port_of(site: Site) -> int:
    return int(site.url.rpartition(":")[2])


async def whole_text(person: Person, session_id: str) -> str:
    """What the log says of the only reply."""
    [text] = await person.login.replies(session_id)
    return text.strip()


async def test_a_connection_cut_in_mid_answer_resumes_and_loses_no_character(
    entering: Enter, site: Site
) -> None:
    async with Proxy(port_of(site)) as proxy:
        person = await entering(site, url=f"http://127.0.0.1:{proxy.port}")
        session_id = await person.login.opened()
        await person.chat(session_id)
        person.losses_expected = True
        cursors: list[str] = []
        person.page.on(
            "request", lambda asked: cursors.append(asked.headers.get("last-event-id", ""))
        )

        await person.say("write 50 120")
        await expect(person.reply).to_contain_text("w50")
        proxy.refuses = True
        assert proxy.cut() > 0
        await expect(person.status).to_have_attribute("data-state", "lost")
        await expect(person.status).to_contain_text("trying again")
        assert await person.heard() == counted(range(1, 51)), "what was read stays on the page"
        read = (await person.login.ask("GET", f"/v1/sessions/{session_id}"))["head"]
        await person.login.go(session_id)
        await person.login.said(session_id, "say behind the cut")
        proxy.refuses = False
        await person.connected()

        await expect(person.reply).to_contain_text("behind the cut")
        reply = person.messages("assistant").first
        shown = " ".join((await reply.locator(".text").or_(reply).first.inner_text()).split())
        whole = (await person.login.replies(session_id))[0].strip()
        assert whole == counted(range(1, 121))
        assert whole in shown
        assert [each for each in cursors if each][-1] == str(read), "it goes on from its cursor"
        assert shown.count("w50 ") == 1


async def test_a_connection_that_falls_silent_for_a_while_loses_nothing(
    entering: Enter, site: Site
) -> None:
    async with Proxy(port_of(site)) as proxy:
        person = await entering(site, url=f"http://127.0.0.1:{proxy.port}")
        session_id = await person.login.opened()
        await person.chat(session_id)
        person.losses_expected = True

        await person.say("write 20 60")
        await expect(person.reply).to_contain_text("w20")
        proxy.stall(down=True)
        await person.login.go(session_id)
        await person.login.said(session_id, "say later")
        proxy.cut()
        proxy.pass_all()

        await expect(person.reply).to_contain_text("later")
        reply = person.messages("assistant").first
        assert (await person.login.replies(session_id))[0].strip() in " ".join(
            (await reply.inner_text()).split()
        )


async def test_a_message_whose_answer_is_lost_is_sent_again_and_said_once(
    entering: Enter, site: Site
) -> None:
    """The server has it, and its answer is lost: the retry has the same key."""
    async with Proxy(port_of(site)) as proxy:
        person = await entering(site, url=f"http://127.0.0.1:{proxy.port}")
        session_id = await person.login.opened()
        await person.chat(session_id)
        person.losses_expected = True

        proxy.strike(b"say only once", "after")
        await person.say("say only once")
        await proxy.struck()
        with suppress(PlaywrightTimeout):  # the log may tell the page first that it was taken
            await person.button("Try again").click(timeout=2_000)
        await expect(person.button("Try again")).to_have_count(0)

        await expect(person.reply).to_contain_text("only once")
        await expect(person.conversation.locator("[data-role=user]")).to_have_count(1)
        kinds = [entry["kind"] for entry in await person.login.log(session_id)]
        assert kinds.count("turn.queued") == 1


async def test_two_tabs_on_one_session_stay_equal(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)
    other = await Person.arriving(person.page.context, person.login, person.url)
    await other.chat(session_id)

    await person.say("write 5 30")
    await expect(other.reply).to_contain_text("w5")
    await other.say("say from the other tab")
    await expect(person.queue.get_by_role("listitem")).to_have_count(1)
    await person.login.go(session_id)
    for each in (person, other):
        await expect(each.reply).to_contain_text("from the other tab")
        await expect(each.reply).to_have_attribute("data-state", "whole")

    assert await shown(person.page) == await shown(other.page)
    assert len(await shown(person.page)) == 4
    other.check()


async def shown(page: Page) -> list[list[str]]:
    """Each message: its id, role, state and text."""
    messages: list[list[str]] = await page.evaluate(
        "() => [...document.querySelectorAll('[role=log] [data-message-id]')].map(each =>"
        " [each.dataset.messageId, each.dataset.role, each.dataset.state, each.textContent])"
    )
    return messages


async def test_a_reload_in_mid_answer_goes_on_where_it_was(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.say("write 20 60")
    await expect(person.reply).to_contain_text("w20")
    await person.page.reload()
    await expect(person.reply).to_contain_text("w20")
    assert await person.heard() == counted(range(1, 21))
    await person.login.go(session_id)

    await expect(person.reply).to_have_attribute("data-state", "whole")
    assert await person.heard() == counted(range(1, 61))
    assert await whole_text(person, session_id) == counted(range(1, 61))


async def test_an_approval_is_given_after_the_server_was_killed(
    entering: Enter, own_site: Site
) -> None:
    person = await entering(own_site)
    session_id = await person.login.opened()
    await person.chat(session_id)
    person.losses_expected = True
    await person.say("call asks.first")
    card = person.card("asks.first")
    await expect(card).to_have_attribute("data-status", "awaiting")

    await own_site.kill()
    await expect(person.status).not_to_have_attribute("data-state", "live")
    await own_site.start()
    await person.connected()
    await person.button("Approve", card).click()

    await expect(card).to_have_attribute("data-status", "completed")
    await expect(person.reply).to_contain_text("it was allowed")


async def test_an_answer_whose_server_was_killed_goes_on_in_place(
    entering: Enter, own_site: Site
) -> None:
    person = await entering(own_site)
    session_id = await person.login.opened()
    await person.chat(session_id)
    person.losses_expected = True
    await person.say("write 10 30")
    await expect(person.reply).to_contain_text("w10")

    await own_site.kill()
    await own_site.start()
    await person.connected()
    await person.login.go(session_id)

    await expect(person.reply).to_have_attribute("data-state", "whole")
    assert await person.heard() == counted(range(1, 31))
    await expect(person.messages("assistant")).to_have_count(1)


async def test_a_server_that_was_restored_is_shown_as_it_is_now(
    entering: Enter, own_site: Site, tmp_path: Path
) -> None:
    """The page has read what is not in the log any more: it forgets it, and says so."""
    person = await entering(own_site)
    person.losses_expected = True
    session_id = await person.login.opened()
    await person.login.said(session_id, "say kept")
    own_site.back_up(tmp_path / "kept.db")
    await person.chat(session_id)
    await person.login.said(session_id, "say forgotten")
    await expect(person.reply).to_contain_text("forgotten")
    timeline = await Person.arriving(person.page.context, person.login, person.url)
    timeline.losses_expected = True
    await timeline.sign_in(f"#/s/{session_id}/timeline")
    rows = timeline.page.get_by_role("grid")
    await expect(rows.get_by_text("say forgotten").first).to_be_visible()

    await own_site.kill()
    own_site.restore(tmp_path / "kept.db")
    await own_site.start()

    await expect(person.conversation.get_by_text("forgotten")).to_have_count(0)
    await expect(person.reply).to_contain_text("kept")
    await expect(rows.get_by_text("forgotten")).to_have_count(0)
    await expect(timeline.alert).to_contain_text("read anew")
    await person.connected()
    await person.say("say new")
    await expect(person.reply).to_contain_text("new")
    timeline.check()


async def test_a_closed_laptop_that_wakes_is_live_at_once(entering: Enter, site: Site) -> None:
    person = await entering(site)
    session_id = await person.login.opened()
    await person.chat(session_id)
    person.losses_expected = True

    await person.page.context.set_offline(True)
    await person.login.said(session_id, "say while it slept")
    await person.page.context.set_offline(False)

    await expect(person.reply).to_contain_text("while it slept")
    await person.connected()
