"""`sessile verify`, as it is typed, against `sessile serve`, as it is typed: nothing is found."""

import json
from pathlib import Path

from tests.cli.conftest import Process, Serve

PARTS = ("keys", "tenants", "oracle", "cut", "late", "gone")
"""Those that take a moment each."""


def test_sessile_has_nothing_held_against_it(tmp_path: Path) -> None:
    parts = [word for part in PARTS for word in ("--part", part)]

    with Serve(tmp_path) as served:
        url = served.ready().url
        with Process("verify", url, *parts, "--json", cwd=tmp_path) as verify:
            code = verify.end()

    assert code == 0, verify.told
    told = json.loads("".join(verify.lines))
    passed = {each["name"] for each in told["checks"] if each["verdict"] == "passed"}
    assert told["summary"]["found"] == 0
    assert passed >= {
        "lost-message", "duplicate-turn", "key-taken-again", "cross-tenant-read",
        "cross-tenant-write", "existence-oracle", "replay-gap", "replay-duplicate",
        "late-subscriber-miss", "session-resurrection",
    }  # fmt: skip
