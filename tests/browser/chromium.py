"""A real Chromium: the one that is installed, or a message that says which to install."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

NAMES = ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")
MISSING = (
    "The console's tests need a Chromium, and there is none: `apt-get install chromium` on Debian,"
    " or name one by SESSILE_TEST_CHROMIUM."
)
FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def executable() -> Path | None:
    """Raises AssertionError for a named one that is not there: it is not replaced by another."""
    if named := os.environ.get("SESSILE_TEST_CHROMIUM"):
        assert shutil.which(named), f"SESSILE_TEST_CHROMIUM: {named} is no program"
        return Path(named)
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return None if found is None else Path(found)


def required(*, ci: bool) -> Path:
    """Skips the test where there is none, and fails it on a machine that has to have one."""
    path = executable()
    if path is not None:
        return path
    if ci:
        pytest.fail(MISSING, pytrace=False)
    pytest.skip(MISSING)


@asynccontextmanager
async def chromium(path: Path) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()
