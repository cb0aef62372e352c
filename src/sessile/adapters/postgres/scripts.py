"""Scripts on PostgreSQL, each in a transaction of its own, by a connection of its own: what takes
long holds up no lane."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sessile.adapters.postgres.connections import in_time, told
from sessile.adapters.postgres.tenants import TenantConnection
from sessile.adapters.postgres.writes import write
from sessile.adapters.sql.keeping import beside
from sessile.adapters.sql.scripts import Ask, Each, Now, Script, Tenants, Write
from sessile.core.ids import TenantId

T = TypeVar("T")


class Scripts:
    """`busy_seconds`: how long one that cannot be done for a while is tried again. Each can be done
    twice: what it does is not there to be done again."""

    def __init__(
        self, connect: Callable[[], Awaitable[TenantConnection]], *, busy_seconds: float
    ) -> None:
        self._connect = connect
        self._busy_seconds = busy_seconds

    async def write(
        self,
        tenants: Sequence[TenantId] | None,
        script: Callable[[], Script[T]],
        *,
        voids: bool = False,
    ) -> T:
        """Raises what the script raises, and what the port's methods do. What is removed is gone
        from the files when PostgreSQL has vacuumed the table, whether or not it `voids`."""
        try:
            return await in_time(lambda _: self._attempt(tenants, script()), self._busy_seconds)
        except Exception as error:
            raise told(error) from error

    async def _attempt(self, tenants: Sequence[TenantId] | None, script: Script[T]) -> T:
        connection = await self._connect()
        try:
            await connection.tell(tenants)
            await connection.execute("BEGIN")
            answer = await run(connection, script)
            await connection.execute("COMMIT")
            return answer
        finally:
            connection.terminate()


async def run(connection: TenantConnection, script: Script[T]) -> T:
    """What the script comes to, within a transaction of the connection's."""
    answer: Any = None
    try:
        while True:
            step = script.send(answer)
            answer = None
            match step:
                case Ask():
                    sql = f"{step.sql} FOR UPDATE" if step.locks else step.sql
                    answer = await connection.fetch(sql, *step.values)
                case Each():
                    await connection.executemany(step.sql, step.rows)
                case Tenants():
                    await connection.tell(step.tenants)
                case Now():
                    answer = await connection.fetchval("SELECT sessile_now_ms()")
                case Write():
                    await write(connection, step.gathered)
                    await run(connection, beside(step.gathered))
    except StopIteration as end:
        value: T = end.value
        return value
