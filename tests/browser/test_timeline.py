"""Timeline: every entry of a session's log as one row."""

import asyncio
import json
from datetime import datetime

from playwright.async_api import Locator, Route, expect
from tests.browser.conftest import Enter
from tests.browser.person import Person
from tests.browser.site import Site

LONG_ENTRIES = 10_000
ROWS_MAX = 200
FRAME_MS = 16.7
SCROLL = """
async (grid) => {
  const gaps = [];
  let last = performance.now();
  const top = grid.scrollHeight - grid.clientHeight;
  for (let frame = 0; frame <= 120; frame += 1) {
    grid.scrollTop = top * frame / 120;
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    gaps.push(now - last);
    last = now;
  }
  return gaps.sort((one, other) => one - other);
}
"""
SCROLLED = """
(grid) => {
  const all = [grid, ...grid.querySelectorAll('*')];
  for (let each = grid.parentElement; each; each = each.parentElement) all.push(each);
  return all.find((each) => each.scrollHeight > each.clientHeight + 1
    && /auto|scroll/.test(getComputedStyle(each).overflowY)) ?? document.scrollingElement;
}
"""


def grid(person: Person) -> Locator:
    return person.page.get_by_role("grid", name="Timeline")


def rows(person: Person) -> Locator:
    return grid(person).locator("[role=row][data-seq]")


def row(person: Person, seq: int) -> Locator:
    return grid(person).locator(f"[role=row][data-seq='{seq}']")


async def test_each_entry_of_the_log_is_a_row_that_says_what_happened(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "call quick")
    log = await person.login.log(session_id)

    await person.enter(session_id, "timeline")

    await expect(rows(person)).to_have_count(len(log))
    for entry in log:
        await expect(row(person, entry["seq"])).to_contain_text(entry["kind"])
        await expect(row(person, entry["seq"])).to_contain_text(str(entry["seq"]))
    started = next(entry for entry in log if entry["kind"] == "turn.started")
    await expect(row(person, started["seq"])).to_contain_text(started["body"]["node"])
    await expect(row(person, started["seq"])).to_contain_text(str(started["body"]["fence"]))


async def test_times_are_written_as_in_the_reader_s_country(entering: Enter, site: Site) -> None:
    for locale, order in (("en-GB", "%d/%m"), ("en-US", "%m/%d")):
        person = await entering(site, locale=locale, timezone_id="UTC")
        session_id = await person.login.opened()
        [opened] = await person.login.log(session_id)
        await person.enter(session_id, "timeline")
        day = datetime.fromisoformat(opened["at"]).strftime(order)
        await expect(row(person, 1)).to_contain_text(day)


async def test_the_raw_json_of_an_entry_is_a_click_away(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "say hello")
    log = await person.login.log(session_id)
    await person.enter(session_id, "timeline")

    await row(person, 2).click()

    raw = person.page.get_by_role("region", name="Entry 2")
    await expect(raw).to_be_visible()
    assert json.loads(await raw.locator("pre").inner_text()) == log[1]


async def test_rows_are_filtered_by_turn_and_by_kind(person: Person) -> None:
    session_id = await person.login.opened()
    first = await person.login.said(session_id, "say one")
    await person.login.said(session_id, "say two")
    log = await person.login.log(session_id)
    await person.enter(session_id, "timeline")
    await expect(rows(person)).to_have_count(len(log))

    await person.choose("Turn", first["turn_id"])
    of_turn = [entry for entry in log if entry["turn_id"] == first["turn_id"]]
    await expect(rows(person)).to_have_count(len(of_turn))
    await person.choose("Kind", "message.added")
    both = [entry for entry in of_turn if entry["kind"] == "message.added"]
    await expect(rows(person)).to_have_count(len(both))

    assert len(both) == 2
    await expect(rows(person).first).to_contain_text("message.added")


async def test_the_tail_is_live(person: Person) -> None:
    session_id = await person.login.opened()
    await person.enter(session_id, "timeline")
    await expect(rows(person)).to_have_count(1)
    await expect(person.page.get_by_role("checkbox", name="Follow")).to_be_checked()

    await person.login.said(session_id, "fill 60")

    head = (await person.login.log(session_id))[-1]["seq"]
    await expect(row(person, head)).to_be_in_viewport()
    await expect(row(person, head)).to_contain_text("turn.completed")


async def test_a_take_over_is_seen(entering: Enter, own_site: Site) -> None:
    person = await entering(own_site)
    session_id = await person.login.opened()
    await person.enter(session_id, "timeline")
    person.losses_expected = True
    await person.login.said(session_id, "write 5 9", wait=False)
    await expect(grid(person).get_by_text("message.delta").first).to_be_visible()

    await own_site.kill()
    await own_site.start()
    await person.login.go(session_id)
    await expect(grid(person).get_by_text("turn.completed").first).to_be_visible()

    starts = [e for e in await person.login.log(session_id) if e["kind"] == "turn.started"]
    assert [entry["body"]["attempt"] for entry in starts] == [1, 2]
    again = row(person, starts[1]["seq"])
    await expect(again).to_contain_text(starts[1]["body"]["node"])
    await expect(again).to_contain_text(str(starts[1]["body"]["fence"]))


async def without(person: Person, session_id: str, missing: range, *, folded: bool) -> None:
    """The session's log without some entries, whose last a `log.compacted` replaces if `folded`."""
    body = {"from_seq": missing[0], "to_seq": missing[-1]}

    async def cut(route: Route) -> None:
        reply = await route.fetch()
        page = await reply.json()
        kept = []
        for entry in page["items"]:
            if folded and entry["seq"] == missing[-1]:
                kept.append({**entry, "kind": "log.compacted", "turn_id": None, "body": body})
            elif entry["seq"] not in missing:
                kept.append(entry)
        await route.fulfill(response=reply, json={**page, "items": kept})

    await person.page.route(f"**/v1/sessions/{session_id}/events?*", cut)


async def test_entries_that_retention_folded_are_rows_that_name_the_entry(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "fill 8")
    head = len(await person.login.log(session_id))
    await without(person, session_id, range(4, 8), folded=True)

    await person.enter(session_id, "timeline")

    await expect(rows(person)).to_have_count(head)
    for seq in (4, 5, 6):
        await expect(row(person, seq)).to_contain_text("Folded into entry 7")
        await expect(row(person, seq).get_by_role("img", name="Fault")).to_have_count(0)
    await expect(row(person, 7)).to_contain_text("log.compacted")
    await expect(row(person, 7)).to_contain_text("4\u20137")
    await person.choose("Kind", "log.compacted")
    await expect(rows(person)).to_have_count(1)


async def test_a_gap_that_nothing_stands_for_is_a_fault(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "fill 8")
    await without(person, session_id, range(4, 6), folded=False)

    await person.enter(session_id, "timeline")

    for seq in (4, 5):
        await expect(row(person, seq)).to_contain_text(f"the log has no entry {seq}")
        await expect(row(person, seq).get_by_role("img", name="Fault")).to_be_visible()
    await expect(row(person, 6)).not_to_contain_text("Gap")
    await person.choose("Kind", "!")
    await expect(rows(person)).to_have_count(2)


async def test_what_is_copied_as_curl_reads_the_same(entering: Enter, site: Site) -> None:
    person = await entering(site, permissions=["clipboard-read", "clipboard-write"])
    session_id = await person.login.opened()
    await person.login.said(session_id, "say hello")
    await person.enter(session_id, "timeline")
    await expect(rows(person).first).to_be_visible()

    await person.button("Copy as curl").first.click()
    await expect(person.page.get_by_text("Copied").first).to_be_visible()
    command = await person.page.evaluate("navigator.clipboard.readText()")

    assert person.login.token not in command, "a token that is copied is a token that is shared"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        env={"PATH": "/usr/bin:/bin", "TOKEN": person.login.token, "no_proxy": "*"},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, command
    assert json.loads(out)["items"][0]["kind"]


async def test_the_keyboard_moves_through_the_rows(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "say hello")
    await person.enter(session_id, "timeline")
    await expect(rows(person).first).to_be_visible()

    await row(person, 1).focus()
    await person.page.keyboard.press("ArrowDown")
    await person.page.keyboard.press("Enter")

    await expect(person.page.get_by_role("region", name="Entry 2")).to_be_visible()


async def test_ten_thousand_entries_scroll_smoothly(person: Person) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, f"fill {LONG_ENTRIES // 2}")
    head = (await person.login.ask("GET", f"/v1/sessions/{session_id}"))["head"]
    assert head >= LONG_ENTRIES

    await person.enter(session_id, "timeline")
    await expect(grid(person)).to_have_attribute("aria-rowcount", str(head))
    follow = person.page.get_by_role("checkbox", name="Follow")
    await follow.uncheck()
    scrolled = await grid(person).evaluate_handle(SCROLLED)
    gaps = await scrolled.evaluate(SCROLL)

    await expect(row(person, head)).to_be_in_viewport()
    await expect(row(person, head)).to_contain_text("turn.completed")
    assert await rows(person).count() < ROWS_MAX
    assert gaps[int(len(gaps) * 0.95)] < 10 * FRAME_MS
    await scrolled.evaluate("grid => { grid.scrollTop = 0; }")
    await expect(row(person, 1)).to_be_in_viewport()
    await expect(row(person, 1)).to_contain_text("session.opened")
    assert await rows(person).count() < ROWS_MAX
