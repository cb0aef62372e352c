"""The real pusher-js is what the lock file says, from whichever registry `npm` is set to."""

import json

from tests.pusher.browser import HERE, install


def test_the_lock_names_what_it_locks_and_no_registry() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text())
    asked = json.loads((HERE / "package.json").read_text())["dependencies"]
    packages = {name: each for name, each in lock["packages"].items() if name}

    assert lock["packages"][""]["dependencies"] == asked
    assert packages["node_modules/pusher-js"]["version"] == asked["pusher-js"]
    assert all(each["integrity"].startswith("sha512-") for each in packages.values())
    assert not [name for name, each in packages.items() if "resolved" in each]
    assert "://" not in json.dumps(lock)


def test_what_is_installed_is_what_is_locked() -> None:
    install()

    lock = json.loads((HERE / "package-lock.json").read_text())["packages"]
    for name in lock:
        if name:
            installed = json.loads((HERE / name / "package.json").read_text())
            assert installed["version"] == lock[name]["version"]
