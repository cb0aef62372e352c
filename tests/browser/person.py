"""What a person sees and does in the console: by role and name, as a screen reader tells it."""

import asyncio
import re
from collections.abc import Iterable
from typing import Any

from playwright.async_api import BrowserContext, ConsoleMessage, Locator, Page, expect
from tests.browser.site import Login

SEEN_MS = 10_000
"""What should be seen within a second has ten."""
VIOLATIONS = """
document.addEventListener('securitypolicyviolation', (event) =>
  console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI}`));
"""
LOST = "Failed to load resource"

expect.set_options(timeout=SEEN_MS)


class Person:
    """One tab. Whatever goes wrong in the page is a fault, which `check` tells."""

    def __init__(self, page: Page, login: Login, url: str) -> None:
        self.page = page
        self.login = login
        self.url = url
        self.faults: list[str] = []
        self._wrong = asyncio.Event()
        self._awaited = False
        self.losses_expected = False
        """Whether replies may be refusals or lost: a browser tells each as an error."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._fault(f"uncaught: {error}"))
        page.on("dialog", self._on_dialog)
        page.on("crash", lambda _: self._fault("the page crashed"))

    @classmethod
    async def arriving(cls, context: BrowserContext, login: Login, url: str) -> "Person":
        page = await context.new_page()
        page.set_default_timeout(SEEN_MS)
        await page.add_init_script(VIOLATIONS)
        return cls(page, login, url)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type != "error" or (self.losses_expected and message.text.startswith(LOST)):
            return
        self._fault(f"console: {message.text} ({message.location.get('url')})")

    async def _on_dialog(self, dialog: Any) -> None:
        self._fault(f"a dialog: {dialog.message}")
        await dialog.dismiss()

    def _fault(self, what: str) -> None:
        if not self._awaited:
            self.faults.append(what)
            self._wrong.set()

    def check(self) -> None:
        assert self.faults == []

    async def fault(self) -> str:
        """The first one, when there is one. A test that waits for one has no others to fear."""
        async with asyncio.timeout(SEEN_MS / 1000):
            await self._wrong.wait()
        [first, *_], self.faults = self.faults, []
        self._awaited = True
        return first

    # -- getting somewhere

    async def sign_in(self, route: str = "#/") -> None:
        """By the link that the server prints, and from there to the route."""
        await self.page.goto(f"{self.url}/#token={self.login.token}")
        await expect(self.page.get_by_role("banner")).to_be_visible()
        if route != "#/":
            await self.visit(route)

    async def visit(self, route: str) -> None:
        await self.page.evaluate("route => { location.hash = route; }", route)

    async def enter(self, session_id: str, view: str = "") -> None:
        """The session's chat or another view of it, from outside."""
        if self.page.url == "about:blank":
            await self.sign_in()
        await self.visit(f"#/s/{session_id}{view and f'/{view}'}")

    async def chat(self, session_id: str) -> None:
        await self.enter(session_id)
        await expect(self.box).to_be_enabled()
        await self.connected()

    async def connected(self) -> None:
        await expect(self.status).to_have_attribute("data-state", "live")

    # -- what there is

    def button(self, name: str | re.Pattern[str], within: Locator | None = None) -> Locator:
        return (within or self.page).get_by_role("button", name=name, exact=True)

    @property
    def sessions(self) -> Locator:
        return self.page.get_by_role("navigation", name="Sessions")

    @property
    def views(self) -> Locator:
        return self.page.get_by_role("navigation", name="Views")

    @property
    def status(self) -> Locator:
        """Of the connection."""
        return self.page.locator("[role=status][data-state]")

    @property
    def conversation(self) -> Locator:
        return self.page.get_by_role("log", name="Conversation")

    @property
    def box(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message")

    @property
    def queue(self) -> Locator:
        return self.page.get_by_role("region", name="Queue")

    @property
    def alert(self) -> Locator:
        return self.page.get_by_role("alert")

    def messages(self, role: str = "") -> Locator:
        wanted = f"[data-role={role}]" if role else "[data-role]"
        return self.conversation.locator(f"[data-message-id]{wanted}")

    @property
    def reply(self) -> Locator:
        """The assistant's last."""
        return self.messages("assistant").last

    def card(self, tool: str) -> Locator:
        return self.conversation.locator(f"[data-call-id][aria-label='Tool {tool}']")

    async def heard(self) -> str:
        """The words of `player` in the last reply, and the spaces between them as one."""
        return " ".join(re.findall(r"w\d+", await self.reply.text_content() or ""))

    # -- what is done

    async def say(self, text: str) -> None:
        await self.box.fill(text)
        await self.button("Send").click()

    async def choose(self, name: str, option: str) -> None:
        await self.page.get_by_role("combobox", name=name).select_option(option)


def counted(numbers: Iterable[int]) -> str:
    """What `heard` answers for these words."""
    return " ".join(f"w{number}" for number in numbers)
