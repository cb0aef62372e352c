"""What clients, readers, tools and the nemesis saw and did, and the database in the end: one
directory of JSON Lines, from which a round can be judged again.

`history.jsonl`: what happened, in order. `runs.jsonl`: what tools did. `finals.jsonl`: the rows of
each session after the round.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

import asyncpg

from sessile.adapters.postgres import reads
from sessile.core.codec import entry_json, to_json
from sessile.core.events import Entry
from sessile.core.ids import SessionKey

HISTORY, RUNS, FINALS = "history.jsonl", "runs.jsonl", "finals.jsonl"
ALL = 1_000_000

Line = dict[str, Any]


class Recorder:
    """Writes the history while it happens."""

    def __init__(self, directory: Path) -> None:
        self._file = (directory / HISTORY).open("a", encoding="utf-8")

    def put(self, what: str, **more: Any) -> None:
        line = {"what": what, "at": time.monotonic(), "wall_ms": time.time() * 1000, **more}
        self._file.write(f"{json.dumps(line)}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


@dataclass(slots=True)
class Record:
    """A round, as it was recorded."""

    history: list[Line] = field(default_factory=list[Line])
    runs: list[Line] = field(default_factory=list[Line])
    finals: list[Line] = field(default_factory=list[Line])

    def of(self, *kinds: str) -> Iterable[Line]:
        return (line for line in self.history if line["what"] in kinds)


def load(directory: Path) -> Record:
    return Record(*(_lines(directory / name) for name in (HISTORY, RUNS, FINALS)))


def _lines(path: Path) -> list[Line]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def write_finals(directory: Path, connection: asyncpg.Connection) -> None:
    """The rows of every session, as the database has them."""
    heads = await connection.fetch(
        "SELECT tenant_id, session_id, lease_owner FROM session_head ORDER BY session_id"
    )
    with (directory / FINALS).open("w", encoding="utf-8") as file:
        for tenant_id, session_id, owner in heads:
            key = SessionKey(tenant_id, session_id)
            found = await reads.find(connection, key, None)
            assert found is not None
            line = {
                "tenant": tenant_id,
                "session": session_id,
                "owner": owner,
                "log": await _log(connection, key),
                "head": asdict(found.head),
                "row": asdict(found.session),
                "turns": [asdict(t) for t in await reads.turns(connection, key, **EVERY)],
            }
            file.write(f"{to_json(line)}\n")


EVERY: Mapping[str, Any] = {"after": 0, "queued": False, "limit": ALL, "bytes_max": None}


async def _log(connection: asyncpg.Connection, key: SessionKey) -> tuple[Entry, ...]:
    return await reads.entries(
        connection,
        key,
        after=0,
        before=None,
        history=False,
        newest_first=False,
        limit=ALL,
        bytes_max=None,
    )


def digest(entry: Entry) -> str:
    """Of an entry as readers are sent it."""
    return digest_of(entry_json(entry))


def digest_of(data: str) -> str:
    return blake2b(data.encode(), digest_size=8).hexdigest()
