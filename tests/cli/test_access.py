"""`sessile users` and `sessile keys`, beside a server that runs and without one."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from tests.cli.conftest import Process, Ran, Serve

PASSWORD = "correct horse battery"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_user_is_added_listed_changed_and_removed(
    run: Callable[..., Ran], typed: Callable[[str], None], tmp_path: Path
) -> None:
    at = ("--data-dir", str(tmp_path))

    typed(f"{PASSWORD}\n")
    added = run("users", "add", "main", "ann", "--role", "admin", "--password-stdin", *at)
    typed(f"{PASSWORD}\n")
    again = run("users", "add", "main", "ann", "--password-stdin", *at)
    listed = run("users", "list", "main", "--json", *at)
    typed("another one\n")
    changed = run("users", "passwd", "main", "ann", "--password-stdin", *at)
    removed = run("users", "remove", "main", "ann", *at)
    gone = run("users", "remove", "main", "ann", *at)

    assert added == Ran(0, "ann of main may sign in\n", "")
    assert (again.code, again.err) == (2, "sessile: there is a user ann of main already\n")
    (ann,) = map(json.loads, listed.out.splitlines())
    assert (ann["user_id"], ann["roles"]) == ("ann", ["admin"])
    assert changed.code == removed.code == 0
    assert gone.code == 2
    assert "there is no built-in user ann of main" in gone.err
    assert run("users", "list", "main", *at) == Ran(0, "", "")


@pytest.mark.parametrize(
    ("password", "options", "why"),
    [
        ("short", (), "a password has 8 to 1000 characters"),
        (PASSWORD, ("--role", "root"), "root: is none of admin, operator, service"),
    ],
)
def test_what_nobody_could_use_is_refused(
    run: Callable[..., Ran],
    typed: Callable[[str], None],
    tmp_path: Path,
    password: str,
    options: tuple[str, ...],
    why: str,
) -> None:
    typed(f"{password}\n")

    ran = run("users", "add", "main", "ann", "--password-stdin", *options,
              "--data-dir", str(tmp_path))  # fmt: skip

    assert ran == Ran(2, "", f"sessile: {why}\n")


def test_a_password_is_asked_for_on_a_terminal_only(
    run: Callable[..., Ran], typed: Callable[[str], None], tmp_path: Path
) -> None:
    typed("")

    ran = run("users", "add", "main", "ann", "--data-dir", str(tmp_path))

    assert (ran.code, ran.out) == (2, "")
    assert "--password-stdin" in ran.err


def test_a_key_is_shown_once_and_stored_by_its_hash(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    at = ("--data-dir", str(tmp_path))

    made = run("keys", "add", "main", "ann", "--name", "ci", "--scope", "read", "--days", "7", *at)
    listed = run("keys", "list", "main", "--json", *at)

    assert re.fullmatch(r"sk_bWFpbg_[0-9a-f]{104}\n", made.out)
    (key,) = map(json.loads, listed.out.splitlines())
    assert (key["name"], key["user_id"], key["scopes"]) == ("ci", "ann", ["read"])
    assert key["key_id"] in made.err
    kept = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert made.out.strip().encode() not in kept
    assert made.out.strip()[-72:-8].encode() not in kept
    assert run("keys", "revoke", "main", key["key_id"], *at).code == 0
    assert run("keys", "revoke", "main", key["key_id"], *at).code == 2


def test_beside_a_server_it_counts_at_once(
    run: Callable[..., Ran], typed: Callable[[str], None], demo: Serve
) -> None:
    """Also for a stream that is open, which ends within 5 seconds."""
    at = ("--data-dir", str(demo.directory / "sessile-data"))
    typed(f"{PASSWORD}\n")
    assert run("users", "add", "main", "zoe", "--password-stdin", *at).code == 0
    with httpx2.Client(base_url=demo.url, timeout=20) as client:
        body = {"user": "zoe", "password": PASSWORD}
        token = client.post("/v1/tokens", json=body).json()["token"]
        client.headers["authorization"] = f"Bearer {token}"
        session_id = client.post("/v1/sessions", json={}).json()["session_id"]

        with client.stream("GET", f"/v1/sessions/{session_id}/events") as stream:
            assert stream.status_code == 200
            assert run("users", "revoke", "main", "zoe", *at).code == 0
            began = _now()
            for _ in stream.iter_bytes():
                pass
        ended = _now()

        assert ended - began < 5
        assert client.get("/v1/me").status_code == 401
        del client.headers["authorization"]
        assert client.post("/v1/tokens", json=body).status_code == 201


def test_a_server_that_others_reach_has_a_way_in_or_does_not_start(
    run: Callable[..., Ran], typed: Callable[[str], None], tmp_path: Path
) -> None:
    data = ("--data-dir", str(tmp_path / "data"))
    opened = ("serve", "--host", "0.0.0.0", "--port", "0", *data)

    with Process(*opened, cwd=tmp_path) as refused:
        code = refused.process.wait(30)
    typed(f"{PASSWORD}\n")
    run("users", "add", "main", "ann", "--password-stdin", *data)
    with Process(*opened, cwd=tmp_path) as server:
        server.wait_for("  sign-in .*docs/sign-in.md")

    assert code == 2
    told = " ".join(refused.errors)
    assert "sessile users add" in told
    assert "--oidc-issuer" in told
    assert not any("token  " in line or "DEVELOPMENT" in line for line in server.lines)
    assert not (tmp_path / "data" / "dev-tokens").exists()


def test_development_tokens_are_said_aloud(demo: Serve) -> None:
    (line,) = [line for line in demo.lines if "DEVELOPMENT TOKENS" in line]

    assert "this machine alone" in line


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    with Process(
        "serve", "--port", "0", "--oidc-issuer", "https://login.example", cwd=tmp_path
    ) as server:
        assert server.process.wait(30) == 2

    (line,) = [each for each in server.errors if each.startswith("sessile:")]
    assert line.startswith("sessile: --oidc-audience: has to name this server")


def _now() -> float:
    import time

    return time.monotonic()
