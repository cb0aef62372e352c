"""The pages for readers name everything that there is to name."""

import ast
import inspect
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest

from sessile.core import codec, errors
from sessile.core.events import Event, Unknown
from sessile.settings import Settings
from sessile.verify.checker import declared
from sessile.verify.runner import LIMITS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
VERIFY = DOCS / "verify.md"


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


def test_every_kind_is_documented_with_all_that_its_body_has() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| ([^|]+) \|", (DOCS / "events.md").read_text(), re.MULTILINE
    )
    events = (cls for cls in get_args(Event) if cls is not Unknown)

    documented = {kind: set(re.findall(r"`(\w+)`", body)) for kind, body in rows}

    assert documented == {
        cls.kind: {each.name for each in fields(cls)} - {"turn_id"} for cls in events
    }


def test_each_error_is_documented_once_and_found_by_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    codes = [code for code, _ in rows]

    assert len(codes) == len(set(codes))
    assert [status for _, status in rows] == sorted(status for _, status in rows)


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


def failures_of_turns() -> Iterator[tuple[str, bool]]:
    """Code and `retry` of each failure that the source makes."""
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id not in ("AgentFailed", "failed"):
                continue
            code, retry = node.args[0], {each.arg: each.value for each in node.keywords}
            if ast.unparse(code) == "failure.code":
                continue  # handed on
            where = f"{file.name}:{node.lineno}"
            assert isinstance(code, ast.Constant), f"{where}: a code that no page can name"
            yield code.value, ast.literal_eval(retry.get("retry", ast.Constant(False)))


def test_every_code_of_a_failed_turn_is_documented_with_whether_to_retry() -> None:
    page = (DOCS / "errors.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \|", page, re.MULTILINE)

    made = set(failures_of_turns())

    assert {"agent_error", "turn_deadline", "model_refused"} <= {code for code, _ in made}
    assert sorted((code, retry == "yes") for code, retry in rows) == sorted(made)


def test_every_dependency_says_why_it_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = {
        match[0]
        for requirement in chain(project["dependencies"], *extras)
        if (match := re.match(r"[\w-]+", requirement))
    } - {"sessile"}
    page = (DOCS / "dependencies.md").read_text()

    assert {"fastapi", "pydantic-ai-slim", "pytest"} <= wanted
    assert sorted(name for name in wanted if name not in page) == []


def stated_guarantees() -> list[tuple[str, str]]:
    """Number and name of each, from the table."""
    page = (DOCS / "guarantees.md").read_text()
    return re.findall(r"^\| (G\d+) ([^|]+) \|", page, re.MULTILINE)


def listed_tests() -> dict[tuple[str, str], set[str]]:
    """For each guarantee, by number and name: `file::test`."""
    listed: dict[tuple[str, str], set[str]] = defaultdict(set)
    for section in re.split("^### ", (DOCS / "guarantees.md").read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        number, _, name = heading.partition(" ")
        file = ""
        for label, link, test in re.findall(
            r"^- \[`([^`]+)`\]\(\.\./([^)]+)\)$|^  - `(\w+)`$", body, re.MULTILINE
        ):
            assert link in ("", f"tests/{label}"), link
            file = link or file
            if test:
                listed[number, name].add(f"{file}::{test}")
    return listed


def existing_tests() -> set[str]:
    return {
        f"{file.relative_to(ROOT).as_posix()}::{node.name}"
        for file in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_each_guarantee_lists_at_least_two_tests_that_exist() -> None:
    listed = listed_tests()

    assert list(listed) == stated_guarantees()
    assert [number for (number, _) in listed] == [f"G{n}" for n in range(1, 15)]
    assert {number: tests for number, tests in listed.items() if len(tests) < 2} == {}
    assert sorted(set().union(*listed.values()) - existing_tests()) == []


def test_each_test_of_a_guarantee_over_http_is_listed_with_it() -> None:
    """Those that bear a number elsewhere may be."""
    numbered = {
        (f"G{found[1]}", test)
        for test in existing_tests()
        if (found := re.match(r"tests/guarantees/.*::test_g(\d+)_", test))
    }

    assert numbered
    listed = {(number, test) for (number, _), tests in listed_tests().items() for test in tests}
    assert sorted(numbered - listed) == []


def threats() -> list[list[str]]:
    """The cells of each row of the table."""
    page = (DOCS / "security.md").read_text()
    return [
        [cell.strip() for cell in row.strip("| ").split(" | ")]
        for row in re.findall(r"^\| .* \|$", page, re.MULTILINE)[1:]
    ]


def test_each_threat_names_what_closes_it_and_tests_that_exist() -> None:
    tests = existing_tests()

    assert len(threats()) > 20
    for threat, maps_to, closed_by, shown_by in threats():
        assert re.fullmatch(r"(V\d+|API\d+|LLM\d\d)(, (V\d+|API\d+|LLM\d\d))*", maps_to), threat
        modules = re.findall(r"`([\w/]+(?:\.py)?)`", closed_by)
        missing = [it for it in modules if "/" in it and not (ROOT / "src/sessile" / it).exists()]
        assert (bool(modules), missing) == (True, []), threat
        named = {f"tests/{each}" for each in re.findall(r"`([^`]+)`", shown_by)}
        assert named, threat
        assert sorted(named - tests) == [], threat


PAGES = (ROOT / "README.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_between_pages_is_broken(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_check_of_a_backend_is_documented_with_its_class() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (S\d+) \| (.+) \|$", VERIFY.read_text(), re.MULTILINE)

    assert rows == [(each.name, each.kind, each.about) for each in declared()]


def test_every_limit_of_a_check_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", VERIFY.read_text(), re.MULTILINE)

    assert {name: float(default) for name, default in rows} == LIMITS
