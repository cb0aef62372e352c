"""The fuzzer that follows coverage, for as long as CI has; `make fuzz` is longer."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.fuzz.target import TIMES

RUNS = 20_000 * TIMES


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this platform")
@pytest.mark.timeout(60 * TIMES + 60)
def test_readers_refuse_what_they_cannot_read(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "tests.fuzz.followed", f"-runs={RUNS}", "-timeout=2"]
    found = f"-artifact_prefix={tmp_path}/"

    ran = subprocess.run([*asked, found], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr[-3000:]
    assert f"Done {RUNS} runs" in ran.stderr
