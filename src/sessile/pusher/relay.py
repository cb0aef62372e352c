"""Sessions' logs on a hosted Pusher-compatible service: what a node of ours would tell a channel
is published there, at least once and in order."""

import asyncio
import logging
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, Self

from sessile.core.codec import entry_json, timestamp, to_json
from sessile.core.events import Entry
from sessile.core.ids import SessionKey, TenantId
from sessile.ports.notifier import Notifier
from sessile.pusher.channels import session_channel
from sessile.pusher.projections import Projections
from sessile.runtime.reads import Reads
from sessile.runtime.trail import Cursors, NotTaken, Trail

logger = logging.getLogger(__name__)

SESSIONS_AT_ONCE = 8
DATA_BYTES_MAX = 10_240
"""What hosted services take as an event's data."""
HELD_BYTES_MAX = 30_720
"""What `pusher` takes: it measures a text as Python holds it, which one emoji makes four times as
large."""
RETRY_SECONDS, RETRY_SECONDS_MAX = 1.0, 60.0


class Client(Protocol):
    """What is used of `pusher.Pusher`. It may raise anything; then it is called again."""

    def trigger(self, channels: Any, event_name: str, data: Any) -> Any: ...


class PusherRelay:
    """`async with PusherRelay(…)`: publishes all sessions of some tenants, as `runtime.trail.Trail`
    passes them on. Run one relay for a tenant: two would publish everything twice."""

    def __init__(
        self,
        *,
        client: Client,
        tenants: Collection[TenantId],
        cursors: Cursors,
        epoch: int,
        reads: Reads,
        notifier: Notifier,
        projections: Projections,
    ) -> None:
        self._client = client
        self._projections = projections
        self._threads = ThreadPoolExecutor(SESSIONS_AT_ONCE, thread_name_prefix="pusher relay")
        self._trail = Trail(
            pass_on=self._publish,
            tenants=tenants,
            cursors=cursors,
            epoch=epoch,
            reads=reads,
            notifier=notifier,
            reader="relay",
            at_once=SESSIONS_AT_ONCE,
            retry_seconds=RETRY_SECONDS,
            retry_seconds_max=RETRY_SECONDS_MAX,
        )

    async def __aenter__(self) -> Self:
        await self._trail.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._trail.__aexit__(*exc)
        self._threads.shutdown(wait=False)

    async def _publish(self, key: SessionKey, assistant: str, entry: Entry) -> bool:
        channel = session_channel(key.session_id)
        await self._trigger(channel, entry.kind, _data(entry))
        for name, data in self._projections.of(key.session_id, assistant, entry):
            said = to_json({**data, "seq": entry.seq})
            if _fits(said):
                await self._trigger(channel, name, said)
            else:
                about = {"session_id": key.session_id, "seq": entry.seq, "projected": name}
                logger.warning("a projection is too large to be published", extra=about)
        return True

    async def _trigger(self, channel: str, event: str, data: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._threads, self._client.trigger, channel, event, data)
        except Exception as error:  # noqa: BLE001  a guest, and all that lies behind it
            # Its text may have the event in it, or an address that is signed.
            raise NotTaken(type(error).__name__) from None


def _fits(data: str) -> bool:
    return len(data.encode()) <= DATA_BYTES_MAX and sys.getsizeof(data) <= HELD_BYTES_MAX


def _data(entry: Entry) -> str:
    """The entry; one that is too large without its body, which the client reads over HTTP."""
    data = entry_json(entry)
    if _fits(data):
        return data
    return to_json(
        {
            "seq": entry.seq,
            "kind": entry.kind,
            "turn_id": entry.turn_id,
            "at": timestamp(entry.at_ms),
            "body": None,
        }
    )
