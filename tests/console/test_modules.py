"""The console's modules that need no page, under Node.js."""

import subprocess
from pathlib import Path

import pytest
from tests.pusher.browser import node

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", sorted(path.name for path in HERE.glob("*.mjs")))
def test_a_module_does_what_its_tests_say(name: str) -> None:
    ran = subprocess.run(
        [*node(), "--test", "--test-reporter=spec", str(HERE / name)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "tests 0" not in ran.stdout
