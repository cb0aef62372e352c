"""Columns of many rows as parameters of one statement.

The driver asks of each element of an array whether it is an array itself, which costs more than all
else that it does with an id or a number. So these go as one text that PostgreSQL reads as an array
(its documentation, "Array Input and Output Syntax"); long texts, which would have to be quoted
letter by letter, go as arrays.

In a statement that is put together from parts, `$::bigint[]` and the like stand for a column of
numbers, `$::key[]` for one of ids and names, `$::text[]` for one of long texts; each takes the next
number.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

_COLUMN = re.compile(r"\$::(key|bigint|int|bool|text)\[\]")


def numbered(sql: str) -> str:
    """With each column as the parameter of its place."""
    place = 0

    def parameter(match: re.Match[str]) -> str:
        nonlocal place
        place += 1
        match match[1]:
            case "text":
                return f"${place}::text[]"
            case "key":
                return f"${place}::text::text[]"
            case kind:
                return f"${place}::text::{kind}[]"

    return _COLUMN.sub(parameter, sql)


def values(sql: str, rows: Iterable[Sequence[Any]]) -> list[Any]:
    """The rows' columns, as the columns of the statement take them, in this order."""
    columns = zip(*rows, strict=True)
    return [encoded(column) for encoded, column in zip(_encoders(sql), columns, strict=True)]


def numbers(column: Sequence[int | bool | None]) -> str:
    return "{" + ",".join(["NULL" if each is None else str(each) for each in column]) + "}"


def keys(column: Sequence[str | None]) -> str:
    present = [each for each in column if each is not None]
    if len(present) == len(column):
        joined = '","'.join(present)
        if "\\" not in joined and joined.count('"') == 2 * (len(column) - 1):
            return f'{{"{joined}"}}'
    return "{" + ",".join(["NULL" if each is None else _quoted(each) for each in column]) + "}"


def _quoted(text: str) -> str:
    if "\\" in text or '"' in text:
        text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


_ENCODERS: Mapping[str, Callable[[Any], Any]] = {
    "key": keys,
    "text": list,
    "bigint": numbers,
    "int": numbers,
    "bool": numbers,
}


@cache
def _encoders(sql: str) -> tuple[Callable[[Any], Any], ...]:
    return tuple(_ENCODERS[kind] for kind in _COLUMN.findall(sql))
