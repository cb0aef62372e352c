"""Pictures of the console for the README, from a server that did what they show:
`python -m tests.browser.shots docs/images`."""

import asyncio
import base64
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.async_api import Browser, expect
from tests.browser.chromium import MISSING, chromium, executable
from tests.browser.person import Person
from tests.browser.site import Login, Site, asking

WIDTH, HEIGHT, SCALE = 1280, 800, 2
BYTES_MAX = 250_000
QUALITY = 80
LOAD_SESSIONS = 5
LOAD_READINGS = 16
SAID = (
    ("Refunds of the week", ("Who are you?", "Compare orders 1 and 2")),
    ("Order 12 is late", ("Look up order 12",)),
    ("Ana", ("My name is Ana", "What is my name?", "How many messages?")),
)
WAITING = "Refund order 7"


async def prepared(login: Login) -> str:
    """Sessions with something in them. Answers the one to look at, which waits for a yes."""
    session_id = ""
    for title, texts in reversed(SAID):
        session_id = await login.opened("demo", title=title)
        for text in texts:
            await login.said(session_id, text)
    await login.said(session_id, "Try the failing tool")
    await login.said(session_id, WAITING)
    return session_id


async def take(browser: Browser, site: Site, directory: Path) -> None:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(asking(site.url))
        login, others = Login(http, "ana"), Login(http, site.token())
        session_id = await prepared(login)
        for scheme, views in (
            ("light", ("chat", "timeline", "tools", "health")),
            ("dark", ("chat",)),
        ):
            context = await browser.new_context(
                viewport={"width": WIDTH, "height": HEIGHT},
                device_scale_factor=SCALE,
                color_scheme=scheme,
                reduced_motion="reduce",
                locale="en-GB",
                timezone_id="UTC",
            )
            stack.push_async_callback(context.close)
            person = await Person.arriving(context, login, site.url)
            await person.sign_in()
            for view in views:
                if view == "health":
                    reader = await Person.arriving(context, login, site.url)
                    await reader.chat(session_id)
                    await person.visit("#/health")
                    await measured(person, others)
                else:
                    await shown(person, session_id, view)
                name = view if scheme == "light" else f"{view}-{scheme}"
                await keep(person, directory / f"console-{name}.webp")
            person.check()


async def shown(person: Person, session_id: str, view: str) -> None:
    """A view of the session that has come to rest."""
    if view == "chat":
        await person.chat(session_id)
        await expect(person.button("Approve")).to_be_visible()
    elif view == "timeline":
        await person.enter(session_id, view)
        await expect(person.page.locator("[role=row][data-seq]").nth(10)).to_be_visible()
    else:
        await person.enter(session_id, view)
        await expect(person.page.get_by_role("table", name="Tools")).to_be_visible()
        await expect(person.page.get_by_role("region", name="Context")).to_be_visible()
    await person.page.evaluate("document.activeElement?.blur()")
    await person.page.evaluate("() => document.fonts.ready")


async def measured(person: Person, others: Login) -> None:
    """Health has seen a load for a while: its charts have something to draw."""
    sessions = [await others.opened("demo") for _ in range(LOAD_SESSIONS)]
    for _ in range(LOAD_READINGS):
        async with person.page.expect_response("**/metrics"):
            for session_id in sessions:
                await others.said(session_id, "Write 60 words", wait=False)
            await others.said(sessions[0], "How many messages?", wait=False)


async def keep(person: Person, file: Path) -> None:
    """As a WebP, which is a fifth of a PNG."""
    devtools = await person.page.context.new_cdp_session(person.page)
    shot = await devtools.send(
        "Page.captureScreenshot", {"format": "webp", "quality": QUALITY, "fromSurface": True}
    )
    write(file, base64.b64decode(shot["data"]))


def write(file: Path, picture: bytes) -> None:
    assert len(picture) < BYTES_MAX, f"{file} has {len(picture)} bytes"
    file.write_bytes(picture)
    print(f"{file}: {len(picture) / 1000:.0f} kB")  # noqa: T201


async def pictures(path: Path, temporary: Path, directory: Path) -> None:
    site = Site(temporary)
    try:
        await site.start()
        async with chromium(path) as browser:
            await take(browser, site, directory)
    finally:
        await site.stop()


def main(directory: Path) -> None:
    path = executable()
    if path is None:
        sys.exit(MISSING)
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        asyncio.run(pictures(path, Path(temporary), directory))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
