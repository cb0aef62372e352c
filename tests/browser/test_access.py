"""The console for everyone: by keyboard alone, by screen reader, on a narrow screen, in French."""

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Route, expect
from tests.browser.conftest import Enter
from tests.browser.person import Person
from tests.browser.site import Site
from tests.pusher.browser import install

SERIOUS = ("serious", "critical")
VIEWS = ("list", "chat", "timeline", "tools", "health", "form")
READY = {
    "list": "nav a[href*=ses_]",
    "chat": "[role=log] [data-call-id]",
    "timeline": "[role=grid] [role=row][data-seq]",
    "tools": "table",
    "health": "figure",
    "form": "form",
}
TAB_STOPS_MAX = 60
STROKES = """
window.strokes = new Set();
const canvas = CanvasRenderingContext2D.prototype;
const {set, get} = Object.getOwnPropertyDescriptor(canvas, 'strokeStyle');
Object.defineProperty(canvas, 'strokeStyle', {get, set(value) {
  strokes.add(value);
  set.call(this, value);
}});
"""


@pytest.fixture(scope="session")
def axe() -> str:
    modules: Path = install(Path(__file__).parent)
    return (modules / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


async def shown(person: Person, view: str) -> None:
    """A view, with as much in it as it may have."""
    if view == "form":
        await person.page.goto(f"{person.url}/")
    elif view in ("list", "health"):
        await person.login.opened(title="A session of a name")
        await person.sign_in("#/" if view == "list" else "#/health")
    else:
        session_id = await person.login.opened(title="A session of a name")
        await person.login.said(session_id, "offer")
        await person.login.said(session_id, "call stock.count")
        await person.login.said(session_id, "call asks.first")
        await person.login.said(session_id, "say this one waits", wait=False)
        await person.enter(session_id, "" if view == "chat" else view)
    await expect(person.page.locator(READY[view]).first).to_be_visible()


def told(faults: list[dict[str, Any]]) -> list[str]:
    return [
        f"{each['impact']} {each['id']}: {node['html'][:160]} ({node['failureSummary'][:200]})"
        for each in faults
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(
    entering: Enter, site: Site, axe: str, view: str, scheme: str
) -> None:
    person = await entering(site, color_scheme=scheme, reduced_motion="reduce")
    await shown(person, view)

    await person.page.evaluate(axe)
    found = await person.page.evaluate("axe.run(document, {resultTypes: ['violations']})")

    assert len(found["passes"]) > 5, "it has looked at something"
    faults = [each for each in found["violations"] if each["impact"] in SERIOUS]
    assert told(faults) == []


async def test_axe_finds_what_is_planted(person: Person, axe: str) -> None:
    await person.sign_in()
    await person.page.evaluate(
        "() => { const image = document.createElement('img'); image.src = '/console/icon.svg';"
        " document.body.append(image); }"
    )

    await person.page.evaluate(axe)
    found = await person.page.evaluate("axe.run(document, {resultTypes: ['violations']})")

    assert "image-alt" in [each["id"] for each in found["violations"]]


async def reach(person: Person, name: str) -> None:
    """By the tabulator key, from wherever one is."""
    for _ in range(TAB_STOPS_MAX):
        await person.page.keyboard.press("Tab")
        focused = person.page.locator(":focus")
        if await focused.count():
            said = await focused.evaluate(
                "each => each.ariaLabel || each.labels?.[0]?.innerText || each.innerText"
            )
            if str(said).strip() == name:
                outline = await focused.evaluate(
                    "each => { const style = getComputedStyle(each);"
                    " return style.outlineStyle + style.boxShadow; }"
                )
                assert outline != "nonenone", f"{name} does not show that it has the focus"
                return
    raise AssertionError(f"no tab stop is named {name}")


async def test_the_keyboard_alone_opens_a_session_sends_and_approves(person: Person) -> None:
    await person.sign_in()
    keyboard = person.page.keyboard

    await reach(person, "New session")
    await keyboard.press("Enter")
    await expect(person.page.get_by_role("combobox", name="Assistant")).to_be_focused()
    await keyboard.type("player")
    await reach(person, "Open")
    await keyboard.press("Enter")
    await person.connected()
    await expect(person.box).to_be_focused()
    await keyboard.type("call asks.first")
    await keyboard.press("Enter")
    await expect(person.button("Approve")).to_be_visible()
    await reach(person, "Approve")
    await keyboard.press("Enter")

    await expect(person.reply).to_contain_text("it was allowed")


@pytest.mark.parametrize("view", VIEWS)
async def test_a_narrow_screen_scrolls_in_one_direction(
    entering: Enter, site: Site, view: str
) -> None:
    person = await entering(site, viewport={"width": 360, "height": 640})
    await shown(person, view)

    width = await person.page.evaluate("document.scrollingElement.scrollWidth")

    assert width <= 360


async def test_a_narrow_screen_shows_its_sessions_when_asked(entering: Enter, site: Site) -> None:
    person = await entering(site, viewport={"width": 360, "height": 640})
    session_id = await person.login.opened(title="Behind the menu")
    await person.chat(await person.login.opened())

    await person.button("Show sessions").click()
    await person.sessions.get_by_role("link", name="Behind the menu").click()

    await expect(person.box).to_be_in_viewport(ratio=1)
    await expect(person.page).to_have_url(re.compile(session_id))
    await expect(person.sessions).not_to_be_in_viewport()


async def test_a_narrow_screen_has_room_to_chat(entering: Enter, site: Site) -> None:
    person = await entering(site, viewport={"width": 360, "height": 640})
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.say("say a long word: " + "Donaudampfschifffahrt" * 8)

    await expect(person.reply).to_contain_text("Donaudampf")
    await expect(person.reply).to_be_in_viewport()
    await expect(person.box).to_be_in_viewport(ratio=1)
    assert await person.page.evaluate("document.scrollingElement.scrollWidth") <= 360
    assert await person.conversation.evaluate("each => each.scrollWidth - each.clientWidth") == 0


async def test_a_wide_table_scrolls_in_itself_on_a_narrow_screen(
    entering: Enter, site: Site, axe: str
) -> None:
    person = await entering(site, viewport={"width": 360, "height": 640})
    session_id = await person.login.opened()
    columns = [f"a-column-with-a-long-name-{number}" for number in range(12)]
    wide = "\n".join(f"|{'|'.join(cells)}|" for cells in (columns, ["---"] * 12, columns))
    await person.login.said(session_id, f"say {wide}")
    await person.chat(session_id)
    table = person.reply.get_by_role("table")

    await table.focus()
    await person.page.keyboard.press("ArrowRight")

    await person.page.wait_for_function("() => document.querySelector('table').scrollLeft > 0")
    assert await person.conversation.evaluate("each => each.scrollWidth - each.clientWidth") == 0
    assert await person.page.evaluate("document.scrollingElement.scrollWidth") <= 360
    await person.page.evaluate(axe)
    found = await person.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert told([each for each in found["violations"] if each["impact"] in SERIOUS]) == []


async def test_the_buttons_of_a_narrow_composer_stay_together(entering: Enter, site: Site) -> None:
    person = await entering(site, viewport={"width": 360, "height": 640})
    session_id = await person.login.opened()
    await person.chat(session_id)
    await person.say("hold on")

    stop = await person.button("Stop").bounding_box()
    send = await person.button("Send").bounding_box()
    await person.login.go(session_id)

    assert stop
    assert send
    assert stop["y"] == send["y"]
    assert send["x"] > stop["x"]


async def test_the_language_is_chosen_and_kept(person: Person) -> None:
    session_id = await person.login.opened()
    await person.chat(session_id)

    await person.choose("Language", "fr")
    await expect(person.page.get_by_role("button", name="Envoyer")).to_be_visible()
    await expect(person.page.locator("html")).to_have_attribute("lang", "fr")
    await person.page.reload()

    await expect(person.page.get_by_role("button", name="Envoyer")).to_be_visible()


@pytest.mark.parametrize("view", ["chat", "timeline", "tools", "health"])
async def test_no_view_has_words_left_in_english(entering: Enter, site: Site, view: str) -> None:
    """A French browser is answered in French; what is left as a key or in English is found by the
    names that the English page has."""
    english = await entering(site)
    await shown(english, view)
    french = await entering(site, locale="fr-FR")
    await shown_in_french(french, view)

    names = await labels(english) & await labels(french)

    left = {name for name in names if re.fullmatch(r"[a-z]+(\.[a-z_]+)+", name)}
    assert {name for name in left if name.split(".")[0] in ("chat", *VIEWS, "app")} == set()
    assert not names & {
        "Send",
        "Stop",
        "Rename",
        "Close session",
        "Follow",
        "Grant stock",
        "Export",
    }


async def shown_in_french(person: Person, view: str) -> None:
    session_id = await person.login.opened()
    await person.login.said(session_id, "call asks.first")
    await person.page.goto(f"{person.url}/#token={person.login.token}")
    await expect(person.page.get_by_role("navigation").first).to_be_visible()
    route = "#/health" if view == "health" else f"#/s/{session_id}/{view}".removesuffix("/chat")
    await person.visit(route)
    await expect(person.page.locator(READY[view]).first).to_be_visible()


async def labels(person: Person) -> set[str]:
    """What the page's parts are called."""
    names: list[str] = await person.page.evaluate(
        "() => [...document.querySelectorAll('button, a, label, th, legend, h1, h2, h3,"
        " figcaption, option, [aria-label]')].flatMap(each =>"
        " [each.innerText?.trim(), each.ariaLabel]).filter(Boolean)"
    )
    return set(names)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_theme_follows_the_system_until_it_is_chosen(
    entering: Enter, site: Site, scheme: str
) -> None:
    person = await entering(site, color_scheme=scheme)
    await person.sign_in()
    background = "getComputedStyle(document.body).backgroundColor"
    as_system = await person.page.evaluate(background)

    for _ in range(2):  # from the system's to light, to dark, and back
        if await person.page.evaluate(background) == as_system:
            await person.button(re.compile("^Theme")).click()
    chosen = await person.page.evaluate(background)
    await person.page.reload()

    assert chosen != as_system
    assert lightness(as_system) > 128 if scheme == "light" else lightness(as_system) < 128
    await person.page.wait_for_function(f"chosen => {background} === chosen", arg=chosen)


def lightness(colour: str) -> float:
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return (red + green + blue) / 3


@pytest.mark.parametrize(("system", "chosen"), [("light", "dark"), ("dark", "light")])
async def test_no_other_theme_than_the_chosen_one_is_ever_seen(
    entering: Enter, site: Site, system: str, chosen: str
) -> None:
    """Not even before the page's modules have come: they are held here."""
    person = await entering(site, color_scheme=system)
    await person.page.add_init_script(f"localStorage.setItem('sessile.theme', '{chosen}')")
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    await person.page.route("**/console/app.js", hold)

    await person.page.goto(f"{person.url}/", wait_until="commit")
    await person.page.wait_for_function("() => document.body && document.styleSheets.length")
    seen = await person.page.evaluate("getComputedStyle(document.body).backgroundColor")
    for route in held:
        await route.fallback()

    assert lightness(seen) > 128 if chosen == "light" else lightness(seen) < 128
    await expect(person.page.get_by_role("textbox", name="Token")).to_be_visible()


async def test_the_charts_have_the_theme_s_colours(entering: Enter, site: Site) -> None:
    """A canvas knows none of the style sheet's variables."""
    person = await entering(site, color_scheme="dark")
    await person.page.add_init_script(STROKES)
    await person.sign_in("#/health")
    await expect(person.page.locator("figure canvas").first).to_be_visible()

    await person.page.wait_for_function(
        "() => strokes.has(getComputedStyle(document.querySelector('.health-in-accent')).color)"
    )
