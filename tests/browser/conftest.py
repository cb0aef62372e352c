"""One browser and one server for all tests of a process; a user and a context of their own for
each."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser
from tests.browser.chromium import chromium, required
from tests.browser.person import Person
from tests.browser.site import Login, Site, asking

Enter = Callable[..., Awaitable[Person]]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium(required(ci=os.environ.get("CI") == "true")) as browser:
        yield browser


@pytest.fixture(scope="session")
async def shared_site(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    """The server that no test hurts."""
    site = Site(tmp_path_factory.mktemp("console"))
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
def site(shared_site: Site) -> Site:
    return shared_site


@pytest.fixture
async def own_site(browser: Browser, tmp_path: Path) -> AsyncIterator[Site]:
    """A server of this test alone."""
    site = Site(tmp_path)
    await site.start()
    yield site
    await site.stop()


@pytest.fixture
async def entering(browser: Browser) -> AsyncIterator[Enter]:
    """`await entering(site, role=…, url=…, token=…, **context)`: a person with a tab. Nothing may
    go wrong in it until the test's end."""
    people: list[Person] = []
    async with AsyncExitStack() as stack:

        async def enter(
            site: Site, *, role: str = "user", token: str = "", url: str = "", **options: Any
        ) -> Person:
            http = await stack.enter_async_context(asking(site.url))
            settings = {"locale": "en-GB", "viewport": {"width": 1280, "height": 800}, **options}
            context = await browser.new_context(**settings)
            stack.push_async_callback(context.close)
            login = Login(http, token or site.token(role))
            person = await Person.arriving(context, login, url or site.url)
            people.append(person)
            return person

        yield enter
        for person in people:
            person.check()


@pytest.fixture
async def person(entering: Enter, site: Site) -> Person:
    return await entering(site)
