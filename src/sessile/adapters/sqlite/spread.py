"""Many rows in one statement."""

from functools import cache


@cache
def spread(sql: str, count: int) -> str:
    """The statement for `count` rows, given the one for a row: its first `(?, …, ?)` repeated.

    One statement of many rows is one step of SQLite, and each step gives up the interpreter's
    lock: with a busy event loop beside it, row by row was measured 80 times slower.
    """
    begin = sql.index("(?")
    end = sql.index(")", begin) + 1
    return f"{sql[:begin]}{', '.join([sql[begin:end]] * count)}{sql[end:]}"
