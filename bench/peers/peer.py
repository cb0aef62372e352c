"""What is known of a peer: how it is installed, started and asked."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench.http import Measured

HERE = Path(__file__).parent
AGENTS = HERE / "agents"


class Place(NamedTuple):
    """Where one is started: `binaries` of its environment, `directory` with a copy of its agents,
    and the address of the database, for one that has a server for it."""

    binaries: Path
    directory: Path
    port: int
    database: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """`agents`: the directory of its agent. `open`: the id of a new session. `turn`: a request that
    is answered when its turn has ended, with `ended` in the answer. `said`: how many messages the
    server has of a session, where it can be asked. `stream`: a request that follows a session.
    `database`: the server that it keeps them in, with a `dsn`; the Sessile beside it has it too."""

    name: str
    title: str
    package: str
    keeps: str
    agents: str
    command: Callable[[Place], list[str]]
    open: Callable[[Measured, int], str]
    turn: Callable[[str], bytes]
    ended: str
    said: Callable[[Measured, str], int] | None = None
    stream: Callable[[str], bytes] | None = None
    python: str = "python3"
    environment: Callable[[Place], Mapping[str, str]] = field(default=lambda _: {})
    database: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def requirements(self) -> Path:
        return HERE / "requirements" / f"{self.name}.txt"

    @property
    def version(self) -> str:
        pinned = (line.split("==") for line in self.requirements.read_text().splitlines())
        return next(version for name, version in pinned if name == self.package)
