"""A database that cannot be used: whoever is woken by it is told what to do."""

import socket
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import Ran, Serve

from sessile.adapters.migrations import SchemaTooNew
from sessile.adapters.postgres.connections import StorageUnreachable
from sessile.cli.broken import no_database, no_postgres

Run = Callable[..., Ran]


def told_by_serve(directory: Path, **settings: str) -> str:
    with Serve(directory, **settings) as served:
        assert served.end() == 2
        told = "".join(served.errors)
    assert told.startswith("sessile: ")
    assert told.count("\n") == 1, "a line, and no traceback"
    return told


def test_a_file_that_is_no_database_is_told_with_what_to_do(tmp_path: Path, run: Run) -> None:
    data = tmp_path / "sessile-data"
    data.mkdir()
    (data / "sessile.db").write_bytes(b"no database" * 1_000)

    told = told_by_serve(tmp_path)

    assert "sessile-data: file is not a database" in told
    assert "put a backup in its place" in told
    assert "put a backup" in run("migrate", "--data-dir", str(data)).err


def test_a_data_directory_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    told = told_by_serve(tmp_path, SESSILE_DATA_DIR="file/data")

    assert "file/data: Not a directory; give one that can be written by --data-dir" in told


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {
                "SESSILE_PUSHER_APP_ID": "one",
                "SESSILE_PUSHER_KEY": "k",
                "SESSILE_PUSHER_SECRET": "s",
            },
            "--pusher-app-id: 'one' is not digits alone",
        ),
        ({"SESSILE_LIMITS_FILE": "no.toml"}, "--limits-file: no.toml: No such file or directory"),
        ({}, "sessile-data/pusher-app: should have one line: a key and a secret"),
    ],
)
def test_what_a_setting_or_a_file_lacks_is_told_of_it_and_not_of_the_database(
    tmp_path: Path, settings: dict[str, str], told: str
) -> None:
    (tmp_path / "sessile-data").mkdir()
    (tmp_path / "sessile-data" / "pusher-app").write_bytes(b"\xff a key\n")

    assert told_by_serve(tmp_path, **settings) == f"sessile: {told}\n"


def test_a_database_that_another_process_holds_is_told_with_what_to_do(
    tmp_path: Path, run: Run
) -> None:
    data = tmp_path / "sessile-data"
    assert run("migrate", "--data-dir", str(data)).code == 0

    with closing(sqlite3.connect(data / "sessile.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = told_by_serve(tmp_path, SESSILE_STORE_BUSY_SECONDS_MAX="0.1")

    assert "another process holds it" in told


def test_a_new_database_that_cannot_be_migrated_is_told_with_what_to_do(
    tmp_path: Path, run: Run
) -> None:
    data = tmp_path / "sessile-data"
    data.mkdir()

    with closing(sqlite3.connect(data / "sessile.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        told = told_by_serve(tmp_path, SESSILE_STORE_BUSY_SECONDS_MAX="0.1")

    assert "another process holds it" in told


@pytest.mark.parametrize(
    ("code", "todo"),
    [
        (sqlite3.SQLITE_FULL, "make room on the disk"),
        (sqlite3.SQLITE_IOERR, "look at the disk"),
        (sqlite3.SQLITE_READONLY, "this user's to read and write"),
        (sqlite3.SQLITE_CORRUPT, "put a backup in its place"),
        (sqlite3.SQLITE_ERROR, "`sessile doctor --data-dir there` says more"),
    ],
)
def test_each_trouble_of_a_database_has_its_remedy(code: int, todo: str) -> None:
    error = sqlite3.OperationalError("it broke")
    error.sqlite_errorcode = code

    told = no_database(Path("there"), error)

    assert told.startswith("cannot use the database in there: it broke; ")
    assert todo in told


COMMANDS = ["migrate", "doctor", "log ses_1"]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ann:secret@127.0.0.1:1/db", "ann:…@127.0.0.1:1/db: "),
        ("ann:top/secret@127.0.0.1:1/db", "ann:…@127.0.0.1:1/db: the address cannot be read"),
        ("ann:secret@me@127.0.0.1:secret/db", "ann:…@127.0.0.1:secret/db: the address cannot"),
        ("127.0.0.1:1/db?user=ann&password=secret", "password=…: "),
    ],
)
def test_an_address_that_leads_nowhere_is_told_without_its_password(
    run: Run, command: str, address: str, shown: str
) -> None:
    ran = run(*command.split(), "--store-url", f"postgresql://{address}")

    assert ran.code == 1
    assert ran.out == ""
    assert ran.err.startswith("sessile: cannot use postgresql://")
    assert shown in ran.err
    assert "secret" not in ran.err.replace(shown, "")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_never_answers_is_not_waited_for(
    run: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSILE_STORE_BUSY_SECONDS_MAX", "0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://ann@127.0.0.1:{silent.getsockname()[1]}/db"
        ran = run(*command.split(), "--store-url", url)

    assert ran.code == 1
    assert f"cannot use {url}: " in ran.err


@pytest.mark.parametrize("command", COMMANDS)
def test_what_postgresql_needs_is_told_where_it_is_not_installed(
    run: Run, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sessile.adapters.postgres", None)
    monkeypatch.delitem(sys.modules, "sessile.adapters.postgres.archive", raising=False)

    ran = run(*command.split(), "--store-url", "postgresql://ann@db/sessile")

    assert ran.code == 2
    assert "pip install 'sessile[postgres]'" in ran.err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_in_memory_cannot_be_looked_at(run: Run, command: str) -> None:
    ran = run(*command.split(), "--store-url", "memory")

    assert ran.code == 2
    assert "ends with it" in ran.err


def test_what_to_do_about_a_postgres_database_fits_what_it_is_refused_for() -> None:
    url = "postgresql://ann:secret@db/one"
    newer = SchemaTooNew("the database has the schema 9; use a newer version")
    down = StorageUnreachable("Connection refused")

    assert no_postgres(url, newer) == f"cannot use postgresql://ann:…@db/one: {newer}"
    assert "is the server up" in no_postgres(url, down)
