"""What Sessile uses of asyncpg, which has no types of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar, overload

C = TypeVar("C", bound=Connection)

Record = Sequence[Any]

class Connection:
    async def execute(self, query: str, *args: object) -> str: ...
    async def executemany(self, command: str, args: Sequence[Sequence[Any]]) -> None: ...
    async def fetch(self, query: str, *args: object) -> list[Record]: ...
    async def fetchrow(self, query: str, *args: object) -> Record | None: ...
    async def fetchval(self, query: str, *args: object) -> Any: ...
    def cursor(self, query: str, *args: object, prefetch: int) -> AsyncIterator[Record]: ...
    def transaction(
        self, *, isolation: str, readonly: bool
    ) -> AbstractAsyncContextManager[object]: ...
    async def add_listener(
        self, channel: str, callback: Callable[[Connection, int, str, str], None]
    ) -> None: ...
    def add_termination_listener(self, callback: Callable[[Connection], None]) -> None: ...
    def is_closed(self) -> bool: ...
    async def close(self, *, timeout: float | None = None) -> None: ...
    def terminate(self) -> None: ...

class Pool(Generic[C]):
    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[C]: ...
    def terminate(self) -> None: ...

@overload
async def connect(
    dsn: str,
    *,
    timeout: float = 60,
    command_timeout: float | None = None,
    server_settings: Mapping[str, str] = {},
) -> Connection: ...
@overload
async def connect(
    dsn: str,
    *,
    connection_class: type[C],
    timeout: float = 60,
    command_timeout: float | None = None,
    server_settings: Mapping[str, str] = {},
) -> C: ...
async def create_pool(
    dsn: str,
    *,
    connection_class: type[C],
    reset: Callable[[Any], Awaitable[None]],
    min_size: int = 10,
    max_size: int = 10,
    timeout: float = 60,
    command_timeout: float | None = None,
    server_settings: Mapping[str, str] = {},
) -> Pool[C]: ...
