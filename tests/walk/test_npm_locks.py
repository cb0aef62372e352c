"""The JavaScript of others that tests use is what a lock file says, from whichever registry `npm`
is set to."""

import json
from pathlib import Path

import pytest
from tests.pusher.browser import HERE, install

DIRECTORIES = (HERE, HERE.parent / "browser")

for_each = pytest.mark.parametrize("here", DIRECTORIES, ids=lambda here: here.name)


@for_each
def test_the_lock_names_what_it_locks_and_no_registry(here: Path) -> None:
    lock = json.loads((here / "package-lock.json").read_text())
    asked = json.loads((here / "package.json").read_text())["dependencies"]
    packages = {name: each for name, each in lock["packages"].items() if name}

    assert lock["packages"][""]["dependencies"] == asked
    assert {packages[f"node_modules/{name}"]["version"] for name in asked} == {*asked.values()}
    assert all(each["integrity"].startswith("sha512-") for each in packages.values())
    assert not [name for name, each in packages.items() if "resolved" in each]
    assert "://" not in json.dumps(lock)


@for_each
def test_what_is_installed_is_what_is_locked(here: Path) -> None:
    install(here)

    lock = json.loads((here / "package-lock.json").read_text())["packages"]
    for name in lock:
        if name:
            installed = json.loads((here / name / "package.json").read_text())
            assert installed["version"] == lock[name]["version"]
