"""The pages for readers name everything that there is to name."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest

from sessile.core import codec, errors
from sessile.settings import Settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def names_in_first_column(page: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \|", (DOCS / page).read_text(), re.MULTILINE))


def test_every_setting_is_documented_with_its_default() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `--([\w-]+)` \| (?:`(.*)`|empty) \|",
        (DOCS / "settings.md").read_text(),
        re.MULTILINE,
    )

    documented = {(variable, flag, default) for variable, flag, default in rows}

    settings = Settings()
    assert documented == {
        (
            f"SESSILE_{field.name.upper()}",
            field.name.replace("_", "-"),
            str(getattr(settings, field.name)),
        )
        for field in fields(Settings)
    }


def test_every_kind_of_entry_is_documented() -> None:
    assert names_in_first_column("events.md") == codec.kinds()


def test_every_error_code_of_the_core_is_documented_with_its_status() -> None:
    rows = set(
        re.findall(r"^\| `(\w+)` \| (\d+) \|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    )

    known = {
        (cls.code, str(cls.status))
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.SessileError) and cls is not errors.SessileError
    }

    assert known <= rows


def test_every_dependency_says_why_it_is_there() -> None:
    project = (ROOT / "pyproject.toml").read_text().partition("\n[tool.")[0]
    wanted = re.findall(r'^    "([a-z0-9-]+)[><=\[; ]', project, re.MULTILINE)
    page = (DOCS / "dependencies.md").read_text()

    assert wanted
    assert [name for name in wanted if name not in page] == []


PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_between_pages_is_broken(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []
