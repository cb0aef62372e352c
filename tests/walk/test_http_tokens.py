"""Development tokens: for this machine alone, and for nobody else on it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx2
import pytest
from tests.walk.people import walking

from sessile import Assistant, Server, Settings
from sessile.adapters import pusher_app
from sessile.adapters.dev_tokens import DevTokens, check_host, load_or_create


def known(tokens: DevTokens) -> list[tuple[str, str, str]]:
    return [(login.tenant_id, login.user_id, login.role) for login in tokens.logins]


async def test_the_first_start_makes_three_logins_in_two_tenants(tmp_path: Path) -> None:
    path = tmp_path / "new" / "dev-tokens"

    tokens = load_or_create(path)

    assert known(tokens) == [
        ("demo", "admin", "admin"), ("demo", "alice", "user"), ("other", "bob", "user"),
    ]  # fmt: skip
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["dev-tokens"]
    secrets = [login.token for login in tokens.logins]
    assert len(set(secrets)) == 3
    assert all(len(secret) >= 32 for secret in secrets)


async def test_a_token_is_its_users_and_nothing_else_is_anyones(tmp_path: Path) -> None:
    tokens = load_or_create(tmp_path / "dev-tokens")

    for login in tokens.logins:
        principal = await tokens.principal(login.token)
        assert principal is not None
        assert (principal.tenant_id, principal.user_id) == (login.tenant_id, login.user_id)
        assert ("admin" in principal.roles) is (login.role == "admin")
        for wrong in (login.token[:-1], login.token + "x", login.token.swapcase(), "", "\ud800"):
            assert await tokens.principal(wrong) is None


def test_the_next_start_finds_the_same_tokens(tmp_path: Path) -> None:
    path = tmp_path / "dev-tokens"
    first = load_or_create(path)
    path.chmod(0o644)

    again = load_or_create(path)

    assert again.logins == first.logins
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "secrets", [lambda path: load_or_create(path).logins, pusher_app.load_or_create]
)
def test_nodes_that_begin_at_once_in_one_directory_have_the_same_secrets(
    secrets: Callable[[Path], Any], tmp_path: Path
) -> None:
    barrier = Barrier(4)

    def begin(path: Path) -> Any:
        barrier.wait()
        return secrets(path)

    with ThreadPoolExecutor(4) as nodes:
        for number in range(50):
            path = tmp_path / str(number) / "secrets"
            assert len(set(nodes.map(begin, [path] * 4))) == 1
            assert [entry.name for entry in path.parent.iterdir()] == ["secrets"]


async def test_the_admins_token_may_be_given(tmp_path: Path) -> None:
    path = tmp_path / "dev-tokens"
    first = load_or_create(path, "sesame")

    changed = load_or_create(path, "open-sesame")

    assert first.logins[0].token == "sesame"
    assert changed.logins == load_or_create(path).logins
    assert known(changed) == known(first)
    assert changed.logins[1:] == first.logins[1:]
    assert await changed.principal("sesame") is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_lines_may_be_added_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "dev-tokens"
    path.write_text("# mine\n\ntoken1 demo carol user # a comment\n\ttoken2  demo\tdan admin\n")

    assert known(load_or_create(path)) == [("demo", "carol", "user"), ("demo", "dan", "admin")]


@pytest.mark.parametrize(
    ("role", "roles"), [("admin", {"admin"}), ("operator", {"operator"}), ("user", set[str]())]
)
async def test_a_line_s_role_is_its_user_s(tmp_path: Path, role: str, roles: set[str]) -> None:
    path = tmp_path / "dev-tokens"
    path.write_text(f"token demo carol {role}\n")

    principal = await load_or_create(path).principal("token")

    assert principal is not None
    assert principal.roles == roles


@pytest.mark.parametrize(
    "line",
    ["token demo carol", "token demo carol boss", "a b c user e", "tok\u00e9n demo carol user"],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "dev-tokens"
    path.write_text(f"token demo carol user\n{line}\n")

    with pytest.raises(ValueError, match="dev-tokens, line 2: should be a token"):
        load_or_create(path)


@pytest.mark.parametrize("token", ["two words", "caf\u00e9", "tab\t", "a#b"])
def test_an_admins_token_is_one_word(tmp_path: Path, token: str) -> None:
    with pytest.raises(ValueError, match="dev_token"):
        load_or_create(tmp_path / "dev-tokens", token)

    assert not (tmp_path / "dev-tokens").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
async def test_they_open_nothing_where_other_machines_can_come(tmp_path: Path, host: str) -> None:
    settings = Settings(
        host=host, data_dir=tmp_path, store_url="memory", dev_token="dev-secret", pusher_key="k",
        pusher_secret="s",
    )  # fmt: skip

    async with Server(Assistant("echo", agent=_nothing), settings=settings) as server:
        transport = httpx2.ASGITransport(server.app())
        headers = {"authorization": "Bearer dev-secret"}
        async with httpx2.AsyncClient(transport=transport, base_url="https://a.example") as client:
            assert (await client.get("/v1/me", headers=headers)).status_code == 401

    assert not (tmp_path / "dev-tokens").exists()
    with pytest.raises(ValueError, match="development tokens are for this one alone"):
        check_host(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_they_are_taken_on_this_machine(host: str) -> None:
    check_host(host)


async def test_a_server_that_others_reach_answers_to_any_name(tmp_path: Path) -> None:
    """It has an authenticator of its own, and no browser's localhost to defend."""
    async with walking(data_dir=tmp_path) as walk:
        server = walk.server
        server.settings = Settings(host="0.0.0.0", store_url="memory")
        app = server.app(walk.tokens)
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="https://sessile.example"
        ) as client:
            assert (await client.get("/healthz")).status_code == 200


async def _nothing(_turn: object) -> str:
    return ""


def test_of_nodes_that_begin_at_once_one_makes_the_file_and_all_know_its_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, others = tmp_path / "dev-tokens", list[DevTokens]()

    def while_another_begins(size: int) -> str:
        monkeypatch.undo()
        others.append(load_or_create(path))
        return "x" * size

    monkeypatch.setattr("secrets.token_urlsafe", while_another_begins)

    tokens = load_or_create(path)

    assert [tokens.logins] == [other.logins for other in others]
    assert tokens.logins == load_or_create(path).logins


def test_of_nodes_that_begin_at_once_one_makes_the_keys_of_the_pusher_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, others = tmp_path / "pusher-app", list[tuple[str, str]]()

    def while_another_begins(size: int) -> str:
        monkeypatch.undo()
        others.append(pusher_app.load_or_create(path))
        return "0" * size

    monkeypatch.setattr("secrets.token_hex", while_another_begins)

    assert [pusher_app.load_or_create(path)] == others
    assert pusher_app.load_or_create(path) == others[0]
