"""What both databases do in the same statements, one after another: written once, as a generator
that yields what is to be asked and is sent what came of it. A database runs it in one
transaction."""

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple, TypeVar

from sessile.adapters.sql.gathered import Gathered
from sessile.adapters.sql.rows import Row
from sessile.core.ids import TenantId

T = TypeVar("T")


class Ask(NamedTuple):
    """One statement; `$1` stands for the first value. Answered by its rows. `locks`: they are the
    transaction's until it ends."""

    sql: str
    values: Sequence[Any] = ()
    locks: bool = False


class Each(NamedTuple):
    """The same statement for many rows. Answered by nothing."""

    sql: str
    rows: Sequence[Row]


class Tenants(NamedTuple):
    """Whose rows the next statements are about; None: the narrow rows of all. Answered by nothing;
    a database that does not ask for it passes it over."""

    tenants: Sequence[TenantId] | None


class Now(NamedTuple):
    """Answered by the time of the clock that leases are judged by, in milliseconds."""


class Write(NamedTuple):
    """The rows of a batch. Answered by nothing."""

    gathered: Gathered


Step = Ask | Each | Now | Tenants | Write
Script = Generator[Step, Any, T]
