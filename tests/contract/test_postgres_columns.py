"""What goes to PostgreSQL as text that it reads as an array arrives as it was."""

from collections.abc import AsyncIterator
from random import Random

import asyncpg
import pytest
from tests.contract.nodes import connected
from tests.servers.databases import database

from sessile.adapters.postgres.columns import keys, numbered, numbers, values

PIECES = (
    "",
    " ",
    "NULL",
    "null",
    '"',
    "\\",
    "{",
    "}",
    ",",
    "a",
    "\n",
    "\t",
    "\x01",
    "é",
    "😀",
    "'",
)
"""Of which names are made that an array could be taken apart by."""


@pytest.fixture
async def connection() -> AsyncIterator[asyncpg.Connection]:
    async with database() as dsn, connected(dsn) as connection:
        yield connection


async def test_any_names_arrive(connection: asyncpg.Connection) -> None:
    chance = Random(1)
    for _ in range(500):
        names = ["".join(chance.choices(PIECES, k=chance.randrange(5))) for _ in range(4)]
        column = chance.choices([*names, None, "plain"], k=chance.randrange(1, 6))
        assert await connection.fetchval("SELECT $1::text::text[]", keys(column)) == column


async def test_any_numbers_arrive(connection: asyncpg.Connection) -> None:
    column = [None, 0, -1, 2**63 - 1, -(2**63), None]

    assert await connection.fetchval("SELECT $1::text::bigint[]", numbers(column)) == column


async def test_a_statement_takes_the_columns_of_its_rows(connection: asyncpg.Connection) -> None:
    sql = "SELECT * FROM unnest($::key[], $::bool[], $::text[], $::int[])"
    rows = [("a", True, '{"long": "\\""}', 1), ("b", None, "", None)]

    found = await connection.fetch(numbered(sql), *values(sql, rows))

    assert [tuple(row) for row in found] == rows
