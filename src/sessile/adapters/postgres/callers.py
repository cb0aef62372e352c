"""Who waits for a lane: a job, what it is about, and how far it has come."""

import asyncio
from dataclasses import dataclass

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


def place_of(job: Job) -> Place:
    if isinstance(job, Asked) and job.names.exclusive_key is not None:
        # All that would open the session are told one after another who did.
        return (job.key.tenant_id, job.names.exclusive_key)
    return job.key
