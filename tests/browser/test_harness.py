"""What the other tests rely on: that a fault in a page is told, and what happens without a
browser."""

import pytest
from playwright.async_api import Browser
from tests.browser.chromium import MISSING, executable, required
from tests.browser.conftest import Enter
from tests.browser.hostile import DETECTOR, HTML, MARKDOWN
from tests.browser.site import ROOT, Site

CONSOLE = ROOT / "src/sessile/console/static"
MARKED = next((CONSOLE / "vendor").glob("marked-*.mjs")).name
RENDERED = f"""
async (text) => (await import('/console/vendor/{MARKED}')).marked.parse(text)
"""


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("() => void setTimeout(() => { throw new Error('planted'); })", "uncaught: planted"),
        ("() => console.error('planted')", "console: planted"),
        ("() => void setTimeout(() => alert('planted'))", "a dialog: planted"),
        ("() => void fetch('https://elsewhere.invalid/').catch(() => {})", "console: "),
        ("() => document.body.setAttribute('style', 'color: red')", "console: "),
        ("() => void setTimeout(() => { document.body.innerHTML = 'planted'; })", "console: "),
    ],
)
async def test_a_fault_of_a_page_is_told(
    entering: Enter, site: Site, script: str, told: str
) -> None:
    person = await entering(site)
    await person.sign_in()

    await person.page.evaluate(script)

    assert (await person.fault()).startswith(told)


@pytest.mark.parametrize("payload", [*HTML, *MARKDOWN])
async def test_what_is_hostile_is_detected_where_nothing_stops_it(
    browser: Browser, site: Site, payload: str
) -> None:
    """A page without a policy that takes text for HTML, and Markdown as it comes."""
    async with await browser.new_context(bypass_csp=True) as context:
        page = await context.new_page()
        await page.add_init_script(DETECTOR)
        await page.goto(f"{site.url}/openapi.json")
        html = await page.evaluate(RENDERED, payload) if payload in MARKDOWN else payload

        assert await page.evaluate("__told()") == []
        await page.evaluate(
            "html => document.body.append(document.createRange().createContextualFragment(html))",
            html,
        )
        await page.wait_for_function("__told().length > 0")


def test_without_a_browser_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SESSILE_TEST_CHROMIUM", raising=False)
    monkeypatch.setattr("tests.browser.chromium.NAMES", ("no-such-program",))

    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        required(ci=False)
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        required(ci=True)
    assert "SESSILE_TEST_CHROMIUM" in MISSING


def test_a_browser_that_is_named_and_not_there_is_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESSILE_TEST_CHROMIUM", "/no/such/program")

    with pytest.raises(AssertionError, match="is no program"):
        executable()
