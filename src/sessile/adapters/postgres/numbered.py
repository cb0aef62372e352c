"""Statements that are put together from parts."""


def numbered(sql: str) -> str:
    """With each bare `$` as the parameter of its place."""
    first, *rest = sql.split("$")
    return first + "".join(f"${number}{piece}" for number, piece in enumerate(rest, start=1))
