"""A database that can be asked, beside the log: the statements that two databases share are in
terms of it."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from sessile.adapters.sql.rows import Row
from sessile.core.ids import TenantId

Statement = tuple[str, Sequence[Any]]


class Connected(Protocol):
    async def run(
        self, tenant_id: TenantId | None, statements: Iterable[Statement]
    ) -> list[list[Row]]:
        """The rows of each statement, `$1` and so on being its values; all in one transaction, that
        writes rows of this tenant alone. Raises what a store does."""
        ...

    async def read(self, tenant_id: TenantId | None, sql: str, *values: Any) -> list[Row]:
        """The rows of one that changes nothing."""
        ...
