"""The schema as the migrations make it, and what a database lacks of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sessile.adapters.migrations import upgrade

Columns = tuple[str, ...]


class Index(NamedTuple):
    """`columns`: in their order."""

    table: str
    columns: Columns
    unique: bool


class Schema(NamedTuple):
    """What it has, by name. `keys`: the columns of each table's primary key, where it has one."""

    tables: Mapping[str, frozenset[str]]
    keys: Mapping[str, Columns]
    indexes: Mapping[str, Index]
    statements: Mapping[str, str]
    """By which an index is made; of the migrations' own schema only."""

    def lacks_columns(self, whole: "Schema") -> Iterable[str]:
        """In words, one for each table that is not there, or not all of it."""
        for table, columns in whole.tables.items():
            if table not in self.tables:
                yield f"there is no table {table}"
            elif missing := sorted(columns - self.tables[table]):
                yield f"the table {table} has no column {', '.join(missing)}"

    def lacks_indexes(self, whole: "Schema") -> Iterable[str]:
        """In words, one for each that is not there, or is another."""
        for table, columns in whole.keys.items():
            if self.keys.get(table) != columns:
                yield f"the table {table} has not its primary key: {', '.join(columns)}"
        for name, index in whole.indexes.items():
            if name not in self.indexes:
                yield f"the index {name} is missing: {whole.statements[name]}"
            elif self.indexes[name] != index:
                yield f"the index {name} is another: drop it, then {whole.statements[name]}"


def whole_schema() -> Schema:
    """As the migrations make it in an empty database. PostgreSQL's has the same names."""
    from sqlalchemy import create_engine  # noqa: PLC0415

    engine = create_engine("sqlite://")
    try:
        with engine.begin() as connection:
            upgrade(connection)

            def rows(sql: str) -> list[tuple[str, ...]]:
                return [tuple(row) for row in connection.exec_driver_sql(sql)]

            statements = {name: " ".join(made.split()) for name, made in rows(SQLITE_STATEMENTS)}
            return schema_of(rows(SQLITE_COLUMNS), rows(SQLITE_INDEXES), statements)
    finally:
        engine.dispose()


def schema_of(
    columns: Iterable[Sequence[Any]],
    indexes: Iterable[Sequence[Any]],
    statements: Mapping[str, str] | None = None,
) -> Schema:
    """From rows of table and column; and of table, index, whether it is the primary key, whether it
    is unique, and its columns with spaces between, of which an index by an expression may have
    none."""
    tables: dict[str, set[str]] = {}
    for table, column in columns:
        tables.setdefault(table, set()).add(column)
    keys: dict[str, Columns] = {}
    named: dict[str, Index] = {}
    for table, name, primary, unique, covered in indexes:
        by = tuple((covered or "").split())
        if primary:
            keys[table] = by
        else:
            named[name] = Index(table, by, bool(unique))
    frozen = {table: frozenset(names) for table, names in tables.items()}
    return Schema(frozen, keys, named, statements or {})


SQLITE_COLUMNS = """
    SELECT m.name, c.name FROM sqlite_master AS m, pragma_table_info(m.name) AS c
    WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'
"""
SQLITE_INDEXES = """
    SELECT m.name, i.name, i.origin = 'pk', i."unique",
        (SELECT group_concat(c.name, ' ') FROM pragma_index_info(i.name) AS c)
    FROM sqlite_master AS m, pragma_index_list(m.name) AS i
    WHERE m.type = 'table'
"""
SQLITE_STATEMENTS = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
