"""The command line starts quickly: what a command does not need is not imported."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import environment

HEAVY = {
    "alembic",
    "fastapi",
    "httpx2",
    "prometheus_client",
    "pydantic",
    "pydantic_ai",
    "sqlalchemy",
    "starlette",
    "structlog",
    "uvicorn",
}
HELP_SECONDS_MAX = 0.4


def imported(code: str, tmp_path: Path) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ran.stdout.split())


def test_the_library_is_imported_without_an_agent_loop_or_a_web_framework(tmp_path: Path) -> None:
    assert not imported("import sessile", tmp_path) & HEAVY


def test_the_command_line_is_imported_without_what_its_commands_need(tmp_path: Path) -> None:
    assert not imported("import sessile.cli", tmp_path) & HEAVY


def test_the_chat_is_imported_without_what_a_server_needs(tmp_path: Path) -> None:
    needs = {"httpx2"}

    assert not imported("import sessile.cli.chat", tmp_path) & (HEAVY - needs)


def test_a_server_of_function_agents_is_imported_without_pydantic_ai(tmp_path: Path) -> None:
    assert "pydantic_ai" not in imported("import sessile.cli.serve", tmp_path)


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["--version"]])
def test_help_is_quick(arguments: list[str], tmp_path: Path) -> None:
    # Measuring coverage takes time of its own.
    plain = {n: v for n, v in environment().items() if not n.startswith("COVERAGE_")}

    def worked_seconds() -> float:
        """Of the processor: a machine that is busy with other things is not what is measured."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "sessile", *arguments],
            cwd=tmp_path,
            env=plain,
            capture_output=True,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(worked_seconds() for _ in range(5)) < HELP_SECONDS_MAX
