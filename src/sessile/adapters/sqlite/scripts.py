"""Scripts on one connection of SQLite, within a transaction that the caller began."""

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from sessile.adapters.sql.rows import Row
from sessile.adapters.sql.scripts import Ask, Each, Now, Script, Tenants, Write

T = TypeVar("T")


def run(
    connection: sqlite3.Connection,
    script: Script[T],
    *,
    now_ms: Callable[[], int],
    write: Callable[[Write], None],
) -> T:
    """What the script comes to. Raises what it raises."""
    answer: Any = None
    try:
        while True:
            step = script.send(answer)
            answer = None
            match step:
                case Ask():
                    answer = connection.execute(step.sql, named(step.values)).fetchall()
                case Each():
                    connection.executemany(step.sql, [named(row) for row in step.rows])
                case Tenants():
                    pass
                case Now():
                    answer = now_ms()
                case Write():
                    write(step)
    except StopIteration as end:
        value: T = end.value
        return value


def named(values: Row) -> dict[str, Any]:
    return {str(number): value for number, value in enumerate(values, start=1)}
