"""A database that was put back to an earlier state: who read what is lost is told so."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url
from tests.servers.databases import bare_database, server_dsn
from tests.walk.hosted import Hosted, hosted
from tests.walk.people import Walk, walking
from tests.walk.sse import Event
from tests.walk.test_http_refusals import problem
from tests.walk.test_http_sessions import shaped
from tests.walk.test_http_stream import events_of, reading
from tests.walk.test_pusher_relay import published, relayed

from sessile.http import schemas
from sessile.settings import Settings
from sessile.wiring import raise_epoch


class SqliteFile:
    def __init__(self, directory: Path) -> None:
        self.settings = Settings(data_dir=directory / "data", store_url="sqlite")
        self._kept = directory / "backup.db"

    async def keep(self) -> None:
        """A backup, of the state as it is."""
        shutil.copyfile(self.settings.data_dir / "sessile.db", self._kept)

    async def put_back(self) -> None:
        shutil.copyfile(self._kept, self.settings.data_dir / "sessile.db")


class PostgresDatabase:
    def __init__(self, directory: Path, dsn: str) -> None:
        self.settings = Settings(data_dir=directory / "data", store_url=dsn)
        self._name = make_url(dsn).database

    async def keep(self) -> None:
        await self._run(f"CREATE DATABASE {self._name}_kept TEMPLATE {self._name}")

    async def put_back(self) -> None:
        await self._run(f"DROP DATABASE {self._name} WITH (FORCE)")
        await self._run(f"ALTER DATABASE {self._name}_kept RENAME TO {self._name}")

    async def _run(self, sql: str) -> None:
        connection = await asyncpg.connect(server_dsn())
        await connection.execute(sql)
        await connection.close()


Database = SqliteFile | PostgresDatabase


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    async with AsyncExitStack() as stack:
        if request.param == "sqlite":
            yield SqliteFile(tmp_path)
        else:
            yield PostgresDatabase(tmp_path, await stack.enter_async_context(bare_database()))


@pytest.fixture
def service() -> Iterator[Hosted]:
    with hosted() as service:
        yield service


@asynccontextmanager
async def serving(database: Database, **more: Any) -> AsyncIterator[Walk]:
    settings = database.settings
    given = {"data_dir": settings.data_dir, "store_url": settings.store_url}
    async with walking(**given, **more) as walk:
        yield walk


async def restored(database: Database) -> int:
    return await asyncio.to_thread(raise_epoch, database.settings)


async def lost(database: Database, **more: Any) -> tuple[str, str]:
    """A session, and the last id that its reader had of what is not in the database any more."""
    async with serving(database, **more) as walk:
        session_id = await walk.opened()
        await walk.said(session_id, "kept")
    await database.keep()
    async with serving(database, **more) as walk, reading(walk, session_id) as reader:
        await walk.said(session_id, "lost")
        head = (await walk.alice.get(f"/v1/sessions/{session_id}")).json()["head"]
        await reader.until(lambda wire: len(wire.events) == head)
    assert reader.parser.last_event_id == str(head)
    await database.put_back()
    return session_id, reader.parser.last_event_id


def seqs_of(events: list[Event], *, epoch: int) -> list[int]:
    seqs = [int(event.json()["seq"]) for event in events]
    assert [event.id for event in events] == [f"{epoch}.{seq}" for seq in seqs]
    return seqs


async def test_who_read_what_is_lost_starts_again_though_the_log_has_grown_past_it(
    database: Database,
) -> None:
    session_id, last_event_id = await lost(database)
    assert await restored(database) == 1

    async with serving(database) as walk:
        for _ in range(3):
            await walk.said(session_id, "new")
        log = await walk.log(session_id)
        head = len(log)
        assert head > int(last_event_id)
        async with reading(walk, session_id, last_event_id=last_event_id) as reader:
            await reader.event("reset")
            await walk.said(session_id, "newer")
            await reader.until(lambda wire: wire.events[-1].event == "turn.completed")

        reset, *rest = reader.events
        assert reset.id == f"1.{head}"
        said = [each["text"] for each in reset.json()["messages"] if each["role"] == "user"]
        assert said == ["kept", "new", "new", "new"]
        assert seqs_of(rest, epoch=1) == list(range(head + 1, head + len(rest) + 1))


async def test_a_cursor_of_the_present_epoch_gets_exactly_what_it_missed(
    database: Database,
) -> None:
    session_id, _ = await lost(database)
    await restored(database)

    async with serving(database) as walk:
        await walk.said(session_id, "new")
        head = len(await walk.log(session_id))
        for query, headers, first in (
            ("", {"last_event_id": "1.3"}, 4),
            ("?after=1.3", {}, 4),
            ("?after=3", {}, 4),
            ("?after=1.9", {"last_event_id": "1.3"}, 4),
            ("", {"last_event_id": "0"}, 1),
            ("", {"last_event_id": "0.0"}, 1),
            ("?after=0.0", {}, 1),
        ):
            async with reading(walk, session_id, query, **headers) as reader:
                await reader.until(lambda wire: wire.events[-1:] and _at(wire.events[-1]) == head)

            assert seqs_of(reader.events, epoch=1) == list(range(first, head + 1)), query


def _at(event: Event) -> int:
    return int(event.id.rpartition(".")[2])


async def test_every_cursor_of_another_epoch_gets_a_reset(database: Database) -> None:
    session_id, last_event_id = await lost(database)
    assert [await restored(database) for _ in range(2)] == [1, 2]

    async with serving(database) as walk:
        head = len(await walk.log(session_id))
        for query, headers in (
            ("", {"last_event_id": last_event_id}),
            ("", {"last_event_id": "1"}),
            ("", {"last_event_id": "0.1"}),
            ("", {"last_event_id": "1.1"}),
            ("", {"last_event_id": "3.1"}),
            ("?after=1.1", {}),
            ("?after=2.1", {"last_event_id": "1.1"}),
        ):
            async with reading(walk, session_id, query, **headers) as reader:
                await reader.until(lambda wire: bool(wire.events))

            assert (reader.events[0].event, reader.events[0].id) == ("reset", f"2.{head}"), query


async def test_pages_of_json_carry_the_epoch_and_refuse_another(database: Database) -> None:
    session_id, last_event_id = await lost(database)
    await restored(database)

    async with serving(database) as walk:
        await walk.said(session_id, "new")
        log = await walk.log(session_id)

        async def page(after: str) -> Any:
            return await walk.alice.get(
                events_of(session_id),
                params={"after": after, "limit": 4},
                headers={"accept": "application/json"},
            )

        first = shaped(await page("0"), schemas.EntryPage)
        assert first == {"items": log[:4], "next": "1.4"}
        for same in (first["next"], "4"):
            assert (await page(same)).json()["items"] == log[4:8]
        for other in ("0.4", "2.4", f"0.{last_event_id}"):
            assert problem(await page(other), 400, "cursor_ahead")["details"] == {"head": len(log)}


async def test_a_relay_goes_on_at_the_end_and_says_so(
    database: Database, service: Hosted, caplog: pytest.LogCaptureFixture
) -> None:
    mount = relayed(service)
    session_id, _ = await lost(database, mount=mount)
    await restored(database)
    async with serving(database) as walk:
        for _ in range(3):
            await walk.said(session_id, "nobody relayed this")
        head = len(await walk.log(session_id))
    service.took.clear()

    async with serving(database, mount=mount) as walk:
        await walk.said(session_id, "new")
        await published(service, walk, session_id, head)

    async with serving(database, mount=mount) as walk:
        await walk.said(session_id, "newer")
        await published(service, walk, session_id, head)
    told = [r.__dict__ for r in caplog.records if "database was restored" in r.message]
    assert [(each["epoch"], each["sessions"]) for each in told] == [(1, 1)], "once"
