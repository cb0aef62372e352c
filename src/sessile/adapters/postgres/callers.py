"""Who waits for a lane: a job, what it is about, and how far it has come."""

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from sessile.adapters.postgres.transaction import Answer, Job
from sessile.adapters.sql.jobs import Asked
from sessile.core.ids import TenantId
from sessile.ports.store import Committed

Place = tuple[TenantId, str]
"""What a job is about: a session, or an exclusive key."""


@dataclass(slots=True, eq=False)
class Caller:
    """A job, who waits for its answer, and until when it is tried.

    `unseen`: what it came to in a transaction whose commit nobody saw. `unknown`: it may have been
    stored by an earlier try, and was not looked for since.
    """

    job: Job
    place: Place
    future: asyncio.Future[Committed]
    until: float
    unseen: Committed | None = None
    unknown: bool = False

    def answer(self, answer: Answer | Exception) -> None:
        if self.future.done():
            return  # cancelled meanwhile; the job is done or refused as a whole all the same
        if isinstance(answer, Exception):
            self.future.set_exception(answer)
        else:
            self.future.set_result(answer)


class Queue:
    """Those who wait for a lane, in the order in which they came. `by_tenant`: each batch is of one
    tenant, and the tenants take turns; those of a session are in their order all the same."""

    def __init__(self, *, by_tenant: bool) -> None:
        self._by_tenant = by_tenant
        self._rows: dict[TenantId | None, deque[Caller]] = {}

    def __bool__(self) -> bool:
        return bool(self._rows)

    def __iter__(self) -> Iterator[Caller]:
        return chain.from_iterable(self._rows.values())

    def put(self, caller: Caller) -> None:
        tenant_id = caller.place[0] if self._by_tenant else None
        self._rows.setdefault(tenant_id, deque()).append(caller)

    def batch(self, most: int) -> list[Caller]:
        """Who is next, `most` at most; there must be somebody."""
        tenant_id = next(iter(self._rows))
        row = self._rows.pop(tenant_id)
        batch = [row.popleft() for _ in range(min(len(row), most))]
        if row:
            self._rows[tenant_id] = row  # behind the others
        return batch


def place_of(job: Job) -> Place:
    if isinstance(job, Asked) and job.names.exclusive_key is not None:
        # All that would open the session are told one after another who did.
        return (job.key.tenant_id, job.names.exclusive_key)
    return job.key
