"""Connections to PostgreSQL: how long each may wait, and what its errors mean to a store."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import asyncpg
from asyncpg import exceptions as pg

from sessile.adapters.postgres.tenants import TenantConnection, app_role
from sessile.core.errors import (
    SessileError,
    StorageBusy,
    StorageDamaged,
    StorageFull,
    StorageGone,
)

T = TypeVar("T")
RETRY_SECONDS = 0.05
LANE_LOCK_MILLISECONDS = 250
"""How long a lane, which serves many sessions, waits for a row that another holds."""

ROOM = 'raise max_connections: docs/many-nodes.md says in "Sizes" what each node needs'
GONE = "The database was changed under this server: a table, or the right to use it, is gone."
REFUSED = (
    pg.UndefinedTableError,
    pg.UndefinedColumnError,
    pg.UndefinedFunctionError,
    pg.InvalidCatalogNameError,
    pg.InvalidAuthorizationSpecificationError,
    pg.InsufficientPrivilegeError,
)
"""Of a database that could be used when the server began: somebody has to mend it."""


class StorageUnreachable(SessileError):
    """The database cannot be used."""

    code = "storage_unreachable"
    status = 503


@dataclass(frozen=True, slots=True)
class Patience:
    """All below half of a lease: a node that is paused or cut off must not hold up those who take
    its sessions over, nor they wait for it."""

    lease_ms: int

    @property
    def statement_ms(self) -> int:
        return self.lease_ms * 2 // 5

    @property
    def lock_ms(self) -> int:
        """For who waits for one session only."""
        return self.lease_ms // 4

    @property
    def lane_lock_ms(self) -> int:
        return min(LANE_LOCK_MILLISECONDS, self.lease_ms // 8)

    @property
    def client_seconds(self) -> float:
        """After the server would have given up: then nobody answers at the other end."""
        return self.lease_ms * 0.45 / 1000

    @property
    def renewal_seconds(self) -> float:
        """A renewal that is not answered leaves time for another before the lease is in danger."""
        return self.lease_ms * 0.15 / 1000


@dataclass(frozen=True, slots=True)
class Connector:
    """Makes connections to one database, all with the same patience. `role`: taken by each from
    its start on; empty where there is none to take."""

    dsn: str
    patience: Patience
    role: str = ""

    async def in_role(self) -> "Connector":
        """With the role that the database has for servers, if its user may take it."""
        patience = self.patience
        connection = await self.connect("start", lock_ms=patience.lock_ms)
        try:
            return replace(self, role=await app_role(connection))
        finally:
            connection.terminate()

    async def connect(
        self, name: str, *, lock_ms: int, answer_seconds: float | None = None
    ) -> TenantConnection:
        """Raises what `is_lost` and `is_passing` tell apart."""
        patience = self.patience
        async with asyncio.timeout(patience.client_seconds):
            return await asyncpg.connect(
                self.dsn,
                connection_class=TenantConnection,
                command_timeout=answer_seconds or patience.client_seconds,
                server_settings=self.settings(name, lock_ms=lock_ms),
            )

    def settings(self, name: str, *, lock_ms: int) -> dict[str, str]:
        """What each connection tells the server."""
        most = f"{self.patience.statement_ms}ms"
        return {
            "application_name": f"sessile {name}",
            "lock_timeout": f"{lock_ms}ms",
            "statement_timeout": most,
            "idle_in_transaction_session_timeout": most,
            "tcp_user_timeout": most,
            # What is decided is decided behind a lock: see Transaction.
            "default_transaction_isolation": "read committed",
            "jit": "off",
            # The tenants are told in a text between quotes: see tenants.
            "standard_conforming_strings": "on",
            **({"role": self.role} if self.role else {}),
        }


def is_lost(error: BaseException) -> bool:
    """The connection is gone or of no use, or nobody knows what became of what was asked by it."""
    if isinstance(error, pg.QueryCanceledError):
        return False  # the server answered
    if isinstance(error, pg.InterfaceError):
        return "closed" in str(error)  # else it was never asked: that is a bug
    return isinstance(
        error,
        OSError
        | TimeoutError
        | pg.PostgresConnectionError
        | pg.InternalClientError
        | pg.OperatorInterventionError
        | pg.IdleInTransactionSessionTimeoutError
        | pg.TooManyConnectionsError
        | pg.ReadOnlySQLTransactionError,  # another server may be the first by now
    )


def is_unseen(error: BaseException) -> bool:
    """Nobody knows whether what was asked of the server was done."""
    return is_lost(error) and not isinstance(
        error, pg.TooManyConnectionsError | pg.ReadOnlySQLTransactionError
    )


def is_locked(error: BaseException) -> bool:
    """Somebody else holds a row for longer than the connection waits for one."""
    return isinstance(error, pg.LockNotAvailableError)


def is_taken(error: BaseException) -> bool:
    """Another node has written what is there once."""
    return isinstance(error, pg.UniqueViolationError)


def is_passing(error: BaseException) -> bool:
    """Nothing was written, and the same may succeed when it is asked again."""
    return is_lost(error) or isinstance(
        error,
        pg.TransactionRollbackError
        | pg.LockNotAvailableError
        | pg.QueryCanceledError
        | pg.OutOfMemoryError
        | pg.UniqueViolationError
        | pg.ObjectInUseError,
    )


async def in_time(
    attempt: Callable[[float], Awaitable[T]],
    busy_seconds: float,
    *,
    again: Callable[[Exception], bool] = is_passing,
) -> T:
    """Of what is attempted, again where it passes or as `again` says, for so long; each attempt is
    told how many seconds are left. Raises as the last one did."""
    loop = asyncio.get_running_loop()
    end = loop.time() + busy_seconds
    while True:
        try:
            return await attempt(max(end - loop.time(), RETRY_SECONDS))
        except Exception as error:
            if not again(error) or loop.time() > end:
                raise
        await asyncio.sleep(RETRY_SECONDS)


async def reached(attempt: Callable[[], Awaitable[T]], busy_seconds: float) -> T:
    """What opens something, tried again for so long. Raises StorageUnreachable after that, or at
    once where trying again is of no use."""
    try:
        return await in_time(lambda _: attempt(), busy_seconds)
    except SessileError:
        raise
    except Exception as error:
        raise StorageUnreachable(said(error)) from error


def told(error: Exception, busy: str = "") -> Exception:
    """As the port says it, with what was said as its cause. `busy`: what StorageBusy is to say."""
    if isinstance(error, SessileError):
        return error
    if isinstance(error, pg.DiskFullError):
        outage: SessileError = StorageFull()
    elif isinstance(error, pg.DataCorruptedError | pg.IndexCorruptedError):
        outage = StorageDamaged()
    elif isinstance(error, REFUSED):
        outage = StorageGone(GONE)
    elif is_passing(error):
        outage = StorageBusy(busy)
    else:
        return error
    outage.__cause__ = _noted(error)
    return outage


def brief(error: Exception) -> Mapping[str, str]:
    """For the log: the class, and what PostgreSQL said, which names no row's content, but for what
    it says of a value."""
    return {
        "error": type(error).__name__,
        "said": "" if isinstance(error, pg.DataError) else said(error),
    }


def said(error: Exception) -> str:
    """One line, for people."""
    if isinstance(error, ValueError):
        # Where an address cannot be read, asyncpg quotes pieces of it, a password's among them.
        return "the address cannot be read; in its password, write / as %2F, @ as %40 and so on"
    line = str(error).partition("\n")[0] or type(error).__name__
    return "; ".join((line, *getattr(_noted(error), "__notes__", ())))


def _noted(error: Exception) -> Exception:
    """With a note of what to do about it, where PostgreSQL does not say so."""
    if isinstance(error, pg.TooManyConnectionsError) and not hasattr(error, "__notes__"):
        error.add_note(ROOM)
    return error
