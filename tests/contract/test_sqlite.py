"""What only the SQLite store promises: one server at a time, durable on return, and a clear word
where the file is locked or the disk is full."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.contract import acknowledging
from tests.contract.desk import ACME, ANN, NODE, Desk, holding, once
from tests.doubles import CountingIds, ManualClock

from sessile.adapters.sqlite import DataDirectoryLocked, SqliteStore, reads
from sessile.core.commands import OpenSession
from sessile.core.errors import StorageBusy, StorageDamaged, StorageFull, StorageGone
from sessile.core.ids import SessionKey, UserId
from sessile.core.session import Lease

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sessile.db"


@pytest.fixture
async def desk(path: Path, clock: ManualClock) -> AsyncIterator[Desk]:
    async with SqliteStore(path, clock=clock, busy_seconds=0.05) as store:
        desk = Desk(store, clock, CountingIds())
        yield desk
        await desk.check_folds()


def writing(desk: Desk) -> sqlite3.Connection:
    """The writer's own connection, which rests between two awaits of a test."""
    assert isinstance(desk.store, SqliteStore)
    return desk.store._writer._connection


class Failing:
    """A connection that fails at one statement, a number of times."""

    def __init__(self, connection: sqlite3.Connection, statement: str, code: int) -> None:
        self.connection = connection
        self.statement = statement
        self.code = code
        self.left = self.skip = 0

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if self.left and sql.startswith(self.statement):
            if self.skip:
                self.skip -= 1
                return self.connection.execute(sql, *values)
            self.left -= 1
            error = sqlite3.OperationalError("planted")
            error.sqlite_errorcode = self.code
            raise error
        return self.connection.execute(sql, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)


@contextmanager
def failing(
    desk: Desk, statement: str, code: int, *, times: int, skip: int = 0
) -> Iterator[Failing]:
    assert isinstance(desk.store, SqliteStore)
    whole = writing(desk)
    planted = Failing(whole, statement, code)
    desk.store._writer._connection = planted  # type: ignore[assignment]
    planted.left, planted.skip = times, skip
    yield planted
    assert planted.left == 0
    desk.store._writer._connection = whole


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that is in the middle of a write."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


@contextmanager
def begun(desk: Desk) -> Iterator[threading.Event]:
    """Rings when the writer begins its next statement."""
    event = threading.Event()
    writing(desk).set_trace_callback(lambda _: event.set())
    yield event
    writing(desk).set_trace_callback(None)


async def test_a_second_store_on_a_data_directory_is_refused(
    desk: Desk, path: Path, clock: ManualClock
) -> None:
    await desk.open()

    with pytest.raises(DataDirectoryLocked, match=str(path.parent)):
        await SqliteStore(path, clock=clock).__aenter__()

    await desk.open()


async def test_another_process_on_a_data_directory_is_refused(desk: Desk, path: Path) -> None:
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, acknowledging.__file__, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode != 0
    assert "DataDirectoryLocked" in ended.stderr
    assert str(path.parent) in ended.stderr
    await desk.open()


async def test_a_data_directory_is_free_again_after_its_store_closed(
    path: Path, clock: ManualClock
) -> None:
    for _ in range(2):
        async with SqliteStore(path, clock=clock):
            pass


def made_by_others(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("This is no database. " * 100, encoding="utf-8")


async def test_a_store_that_could_not_open_leaves_the_directory_free(
    path: Path, clock: ManualClock
) -> None:
    made_by_others(path)

    with pytest.raises(sqlite3.DatabaseError):
        await SqliteStore(path, clock=clock).__aenter__()

    async with SqliteStore(path.with_name("other.db"), clock=clock):
        pass


async def test_the_writer_writes_ahead_and_syncs_each_commit(desk: Desk) -> None:
    pragmas = {
        name: writing(desk).execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "secure_delete", "journal_size_limit")
    }

    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "journal_size_limit": 64 * 1024 * 1024,
    }


async def test_readers_cannot_write(desk: Desk) -> None:
    def write(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM entry")

    assert isinstance(desk.store, SqliteStore)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await desk.store._read(write)


async def test_rows_have_text_as_the_log_has_it(desk: Desk) -> None:
    key = await desk.open(title="a\0\ud800", metadata={"k": "b\0\ud800"})
    held = await desk.run(key, "c\0\ud800")
    await desk.finish(held, end="failed", error={"code": "d\0"}, output="e\0\ud800")

    session, turn = (await desk.look(key)).session, await desk.turn(key, held.turn_id)

    assert (session.title, session.metadata) == ("a\ufffd\ufffd", {"k": "b\ufffd\ufffd"})
    assert (turn.input["text"], turn.output) == ("c\ufffd\ufffd", "e\ufffd\ufffd")
    assert turn.error == {"code": "d\ufffd"}


async def test_a_delete_leaves_no_row_in_any_table(desk: Desk) -> None:
    key = await desk.open(once=once("k0", "open"))
    await desk.append(await desk.run(key), 0, "a")
    await desk.submit(key, once=once("k1", key.session_id))
    left = {
        name: f"SELECT count(*) FROM {name} WHERE session_id = '{key.session_id}'"
        for name in ("session_head", "session", "entry", "turn", "idempotency")
    }
    before = {name: writing(desk).execute(sql).fetchone()[0] for name, sql in left.items()}

    await desk.delete(key)

    after = {name: writing(desk).execute(sql).fetchone()[0] for name, sql in left.items()}
    assert min(before.values()) > 0
    assert max(after.values()) == 0


async def test_what_was_written_is_there_after_a_restart(path: Path, clock: ManualClock) -> None:
    ids = CountingIds()
    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, ids)
        key = await desk.open(title="Orders")
        held = await desk.run(key)
        await desk.append(held, 0, "a")
        await desk.submit(key, "b")
        before = await desk.log(key), await desk.store.turns(key, limit=10), await desk.look(key)

    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, ids)
        after = await desk.log(key), await desk.store.turns(key, limit=10), await desk.look(key)

    assert after == before


async def test_the_next_start_takes_leases_over_at_once(path: Path, clock: ManualClock) -> None:
    ids = CountingIds()
    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, ids)
        idle, running, handed_back = [await desk.open() for _ in range(3)]
        old = await desk.run(running)
        await desk.release(await desk.run(handed_back))

    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, ids)
        assert set(await desk.due()) == {running, handed_back}
        assert idle not in await desk.due()
        taken = await desk.start(running, suspects=False)

    assert taken.turn is not None
    assert (taken.turn.strikes, holding(taken).fence) == (1, old.fence + 1)
    assert taken.lost == Lease(owner=NODE, until_ms=0), "the restart has ended it"


async def test_a_lock_held_too_long_is_storage_busy_and_nothing_is_stored(
    desk: Desk, path: Path
) -> None:
    key = await desk.open()
    before = await desk.everything(key)

    with locked(path):
        refused = await asyncio.gather(
            *(desk.submit(key, f"{n}") for n in range(5)), return_exceptions=True
        )

    assert [type(each) for each in refused] == [StorageBusy] * 5
    assert await desk.everything(key) == before
    await desk.submit(key)


async def test_a_lock_that_is_given_up_in_time_is_waited_for(
    path: Path, clock: ManualClock
) -> None:
    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, CountingIds())
        key = await desk.open()

        with locked(path) as other, begun(desk) as writer:
            submitted = asyncio.gather(*(desk.submit(key, f"{n}") for n in range(5)))
            await asyncio.to_thread(writer.wait, 10)
            assert not submitted.done()
            other.rollback()
            await submitted

        assert len(await desk.store.turns(key, limit=10)) == 5


async def test_a_busy_moment_that_sqlite_does_not_wait_for_is_tried_again(desk: Desk) -> None:
    key = await desk.open()

    with failing(desk, "BEGIN", sqlite3.SQLITE_BUSY_SNAPSHOT, times=3):
        await desk.submit(key)

    assert len(await desk.log(key)) == 4


async def test_a_commit_that_failed_acknowledges_nothing(desk: Desk) -> None:
    key = await desk.open()
    held = await desk.run(key)
    await desk.append(held, 0, "a")
    before = await desk.everything(key)

    with failing(desk, "COMMIT", sqlite3.SQLITE_IOERR_FSYNC, times=1), pytest.raises(StorageFull):
        await desk.append(held, 1, "b")

    assert await desk.everything(key) == before
    assert (await desk.append(held, 1, "b")).lease.step == 2


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (sqlite3.SQLITE_FULL, StorageFull),
        (sqlite3.SQLITE_BUSY, StorageBusy),
        (sqlite3.SQLITE_CORRUPT, StorageDamaged),
    ],
)
async def test_a_probe_fails_as_a_write_would_and_is_durable_where_it_does_not(
    desk: Desk, clock: ManualClock, code: int, error: type[Exception]
) -> None:
    def written_at_ms() -> int:
        with closing(sqlite3.connect(desk.store._path)) as other:  # type: ignore[attr-defined]
            ((at_ms,),) = other.execute("SELECT written_at_ms FROM store").fetchall()
        return int(at_ms)

    with failing(desk, "COMMIT", code, times=10**9) as commit:
        with pytest.raises(error):
            await desk.store.probe()
        commit.left = 0
    assert written_at_ms() == 0

    await desk.store.probe()

    assert written_at_ms() == clock.now_ms()


async def test_a_database_that_lost_its_own_row_is_told_as_such(desk: Desk) -> None:
    writing(desk).execute("DELETE FROM store")

    with pytest.raises(StorageGone):
        await desk.store.identity()
    with pytest.raises(StorageGone):
        await desk.store.probe()


async def test_one_job_of_many_at_a_failed_commit_is_not_the_others_fault(desk: Desk) -> None:
    keys = [await desk.open() for _ in range(5)]

    with failing(desk, "COMMIT", sqlite3.SQLITE_FULL, times=2):
        answers = await asyncio.gather(*(desk.submit(key) for key in keys), return_exceptions=True)

    assert [isinstance(answer, StorageFull) for answer in answers] == [True] + [False] * 4
    assert [len(await desk.log(key)) for key in keys] == [1, 4, 4, 4, 4]


async def test_a_lock_that_comes_back_between_jobs_is_waited_for_once(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [await desk.open() for _ in range(5)]

    with (
        failing(desk, "COMMIT", sqlite3.SQLITE_FULL, times=1),
        failing(desk, "BEGIN", sqlite3.SQLITE_BUSY, times=10**9, skip=1) as begin,
    ):
        answers = await asyncio.gather(*(desk.submit(key) for key in keys), return_exceptions=True)
        begin.left = 0

    assert [type(answer) for answer in answers] == [StorageBusy] * 5
    assert [record.jobs for record in caplog.records] == [1, 4]  # type: ignore[attr-defined]


async def test_a_bug_in_one_job_fails_that_job_alone(desk: Desk) -> None:
    keys = [await desk.open() for _ in range(3)]
    twice = desk.store.transact(keys[0], OpenSession(principal=ANN, assistant="support"))

    first, bug, last = await asyncio.gather(
        desk.submit(keys[1]), twice, desk.submit(keys[2]), return_exceptions=True
    )

    assert isinstance(bug, sqlite3.IntegrityError)
    assert not isinstance(first, BaseException)
    assert not isinstance(last, BaseException)
    assert len(await desk.log(keys[0])) == 1


async def test_a_full_disk_is_said_so_and_does_no_harm(desk: Desk) -> None:
    keys = [await desk.open() for _ in range(5)]
    (pages,) = writing(desk).execute("PRAGMA page_count").fetchone()
    writing(desk).execute(f"PRAGMA max_page_count = {pages + 20}")
    before = await desk.everything(keys[2])

    answers = await asyncio.gather(
        *(desk.submit(key, "x" * (1_000_000 if key is keys[2] else 10)) for key in keys),
        return_exceptions=True,
    )

    assert [isinstance(answer, StorageFull) for answer in answers] == [n == 2 for n in range(5)]
    assert await desk.everything(keys[2]) == before
    assert [len(await desk.log(key)) for key in keys] == [4, 4, 1, 4, 4]
    writing(desk).execute("PRAGMA max_page_count = 1000000")
    assert (await desk.submit(keys[2], "x" * 1_000_000)).entries


async def test_a_failure_that_lasts_is_told_once_with_what_to_do(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    key = await desk.open()

    with failing(desk, "COMMIT", sqlite3.SQLITE_FULL, times=10):
        for _ in range(10):
            with pytest.raises(StorageFull):
                await desk.submit(key, "again")

    told = [each.message for each in caplog.records if each.levelname == "ERROR"]
    assert told == ["nothing was stored: make room on the disk"]
    assert (await desk.submit(key, "again")).entries


async def test_a_damaged_file_is_told_as_such_to_who_reads(desk: Desk) -> None:
    assert isinstance(desk.store, SqliteStore)
    key = await desk.open()
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT_INDEX

    def read(_: sqlite3.Connection) -> None:
        raise error

    with pytest.raises(StorageDamaged):
        await desk.store._read(read)
    assert await desk.log(key), "the connection is lent out again"


async def test_a_damaged_file_is_told_as_such_to_who_writes(desk: Desk) -> None:
    key = await desk.open()

    with (
        failing(desk, "COMMIT", sqlite3.SQLITE_CORRUPT_INDEX, times=1),
        pytest.raises(StorageDamaged),
    ):
        await desk.submit(key)

    assert len(await desk.log(key)) == 1


@pytest.mark.parametrize("which", ["lock", "sessile.db", "sessile.db-wal", "all", "directory"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_nothing_is_written_into_a_database_that_is_not_where_it_was(
    path: Path, clock: ManualClock, which: str, replaced: bool
) -> None:
    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, CountingIds())
        key = await desk.open()
        aside = path.parent.with_name("aside")
        if replaced:
            shutil.copytree(path.parent, aside)
        if which == "directory":
            path.parent.rename(path.parent.with_name("moved"))
        elif which == "all":
            shutil.rmtree(path.parent)
        else:
            (path.parent / which).unlink()
        if replaced:
            shutil.copytree(aside, path.parent, dirs_exist_ok=True)

        with pytest.raises(StorageGone):
            await desk.submit(key)
        with pytest.raises(StorageGone):
            await desk.due()


async def test_a_database_that_is_back_where_it_was_is_written_again(
    desk: Desk, path: Path
) -> None:
    key = await desk.open()
    moved = path.parent.with_name("moved")
    path.parent.rename(moved)
    with pytest.raises(StorageGone):
        await desk.submit(key)

    moved.rename(path.parent)

    assert (await desk.submit(key)).entries


async def test_a_caller_that_goes_away_leaves_its_job_whole(desk: Desk, path: Path) -> None:
    key = await desk.open()

    with locked(path) as other, begun(desk) as writer:
        submitted = asyncio.gather(desk.submit(key, "a"))
        await asyncio.to_thread(writer.wait, 10)
        submitted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitted
        other.rollback()
    await desk.submit(key, "b")

    assert [turn.input["text"] for turn in await desk.store.turns(key, limit=9)] == ["a", "b"]


async def test_a_key_is_free_behind_the_delete_in_one_transaction(desk: Desk) -> None:
    key = await desk.open(once=once("k1", "open"))

    before, _, behind = await asyncio.gather(
        desk.open_as(once=once("k1", "open")),
        desk.delete(key),
        desk.open_as(once=once("k1", "open")),
    )

    assert (before.repeated, behind.repeated) == (True, False)
    assert before.session_id == key.session_id != behind.session_id


async def test_jobs_that_were_asked_for_before_the_end_are_done(
    path: Path, clock: ManualClock
) -> None:
    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, CountingIds())
        key = await desk.open()
        submits = (desk.submit(key, run=False, queue_max=600) for _ in range(600))
        await asyncio.gather(*submits, store._writer.stop())

    async with SqliteStore(path, clock=clock) as store:
        assert len(await store.read(key, limit=1000)) == 601


@pytest.mark.parametrize("kills", range(3))
async def test_every_acknowledged_write_survives_kill_9(
    path: Path, clock: ManualClock, kills: int
) -> None:
    told = await asyncio.to_thread(killed_after, path, 50 + 70 * kills)

    async with SqliteStore(path, clock=clock) as store:
        desk = Desk(store, clock, CountingIds())
        desk.opened = [found.head.key for found in await store.sessions(ACME, limit=100)]
        logs = {key.session_id: len(await desk.log(key)) for key in desk.opened}
        await desk.check_folds()

    assert len(told) >= 50 + 70 * kills
    assert all(logs[session_id] >= int(seq) for session_id, seq in told)


def killed_after(path: Path, lines: int) -> list[list[str]]:
    """What a writing process told that it had been acknowledged, until it was killed."""
    command = [sys.executable, acknowledging.__file__, path]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(lines)]
        os.kill(writer.pid, signal.SIGKILL)
        told += writer.stdout.readlines()
    return [line.split() for line in told if line.endswith("\n")]


def explain(read: Any, connection: sqlite3.Connection) -> str:
    class Explaining:
        plan = ""

        def execute(self, sql: str, values: Any) -> sqlite3.Cursor:
            steps = connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
            self.plan = " | ".join(step[3] for step in steps)
            return connection.execute(sql, values)

    explaining = Explaining()
    read(explaining)
    return explaining.plan


PLANS = {
    "heads": (
        lambda it: reads.heads(it, [KEY]),
        "USING INDEX sqlite_autoindex_session_head_1 (tenant_id=? AND session_id=?)",
    ),
    "due": (
        lambda it: reads.due_of(it, ACME, now_ms=1, due_max=1, known="[]"),
        "USING INDEX session_head_due (tenant_id=? AND due_at_ms<?)",
    ),
    "sessions counted": (
        lambda it: reads.how_many(it, ACME, "sessions", user_id=ANN.user_id, most=1),
        "INDEX session_head_active (tenant_id=? AND user_id=?)",
    ),
    "turns counted": (
        lambda it: reads.how_many(it, ACME, "queue", user_id=ANN.user_id, most=1),
        "INDEX turn_waiting (tenant_id=? AND user_id=?)",
    ),
    "tenants with what is due": (
        lambda it: reads.due(it, now_ms=1, due_max=1, assistants=["support"]),
        "USING COVERING INDEX session_head_due (tenant_id>?)",
    ),
    "queued": (
        lambda it: reads.turns(it, KEY, after=0, queued=True, limit=1),
        "USING INDEX turn_queued (tenant_id=? AND session_id=? AND position>?)",
    ),
    "turns": (
        lambda it: reads.turns(it, KEY, after=0, queued=False, limit=1),
        "USING INDEX turn_position (tenant_id=? AND session_id=? AND position>?)",
    ),
    "history": (
        lambda it: page(it, history=True),
        "USING INDEX entry_history (tenant_id=? AND session_id=? AND seq>? AND seq<?)",
    ),
    "summary": (
        lambda it: reads.summary(it, KEY, before=9),
        "USING INDEX entry_summary (tenant_id=? AND session_id=? AND seq<?)",
    ),
    "log": (
        lambda it: page(it, history=False),
        "USING INDEX sqlite_autoindex_entry_1 (tenant_id=? AND session_id=? AND seq>? AND seq<?)",
    ),
    "sessions": (
        lambda it: reads.sessions(it, ACME, user_id=None, before=None, limit=1),
        "USING INDEX sqlite_autoindex_session_1 (tenant_id=? AND session_id<?)",
    ),
    "sessions of a user": (
        lambda it: reads.sessions(it, ACME, user_id=UserId("ann"), before=None, limit=1),
        "USING INDEX session_by_user (tenant_id=? AND user_id=? AND session_id<?)",
    ),
}
KEY = SessionKey(ACME, CountingIds().session_id())


def page(connection: Any, *, history: bool) -> None:
    for newest_first in (True, False):
        reads.entries(
            connection,
            KEY,
            after=0,
            before=9,
            history=history,
            newest_first=newest_first,
            limit=1,
        )


@pytest.mark.parametrize("name", PLANS)
async def test_every_page_is_read_by_its_index_and_never_sorted(desk: Desk, name: str) -> None:
    read, index = PLANS[name]

    plan = explain(read, writing(desk))

    assert index in plan
    assert "SCAN session_head" not in plan
    # Only sessions that are due at the same millisecond are sorted.
    assert "TEMP B-TREE" not in plan.replace("TEMP B-TREE FOR RIGHT PART OF ORDER BY", "")
