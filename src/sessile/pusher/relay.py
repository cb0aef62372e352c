"""Sessions' logs on a hosted Pusher-compatible service: what a node of ours would tell a channel
is published there, at least once and in order."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, Self

from sessile.core.codec import entry_json, timestamp, to_json
from sessile.core.context import Principal
from sessile.core.errors import CursorAhead, NotFound, SessileError
from sessile.core.events import Entry
from sessile.core.ids import Seq, SessionId, SessionKey, TenantId, UserId
from sessile.ports.notifier import Hint, Notifier
from sessile.pusher.channels import session_channel
from sessile.pusher.projections import Projections
from sessile.runtime.reads import Reads

logger = logging.getLogger(__name__)

SESSIONS_AT_ONCE = 8
PAGE = 100
DATA_BYTES_MAX = 10_240
"""What hosted services take as an event's data."""
HELD_BYTES_MAX = 30_720
"""What `pusher` takes: it measures a text as Python holds it, which one emoji makes four times as
large."""
RETRY_SECONDS, RETRY_SECONDS_MAX = 1.0, 60.0
LOOK_SECONDS = 60.0
"""How often all sessions are looked through for what no hint told of: a node may be lost between
a commit and its hint, and so may a hint on its way."""


class Client(Protocol):
    """What is used of `pusher.Pusher`. It may raise anything; then it is called again."""

    def trigger(self, channels: Any, event_name: str, data: Any) -> Any: ...


class Cursors(Protocol):
    """How far each session was published: durable, and never ahead of what was."""

    async def begun(self, tenant_id: TenantId) -> int | None:
        """The epoch of the database in which `begin` was done for this tenant; None: never."""
        ...

    async def begin(
        self, tenant_id: TenantId, cursors: dict[SessionId, Seq], *, epoch: int
    ) -> None:
        """Where the sessions that are there now begin; all others begin at their first entry. What
        was known of the tenant is forgotten."""
        ...

    async def cursors(self, tenant_id: TenantId) -> dict[SessionId, Seq]:
        """Of each session of which something was published."""
        ...

    async def cursor(self, key: SessionKey) -> Seq:
        """The last entry that was published; 0 for none."""
        ...

    async def advance(self, key: SessionKey, seq: Seq) -> None:
        """The entry was published."""
        ...

    async def forget(self, key: SessionKey) -> None:
        """The session is no more."""
        ...


class _NotTaken(Exception):
    """The client raised an exception of this name."""


class PusherRelay:
    """`async with PusherRelay(…)`: follows all sessions of some tenants.

    Sessions that are there when a tenant is relayed for the first time begin at their end, and so
    do all when the `epoch` is another than before: what was published may not be in the log. An
    entry is published after the one before it was; one that the service does not take is tried
    again, and holds back its own session alone. Run one relay for a tenant: two would publish
    everything twice.
    """

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
        self._readers = {tenant_id: _reader(tenant_id) for tenant_id in tenants}
        self._cursors = cursors
        self._epoch = epoch
        self._reads = reads
        self._notifier = notifier
        self._projections = projections
        self._queue: asyncio.Queue[SessionKey] = asyncio.Queue()
        self._waiting: set[SessionKey] = set()
        self._working: dict[SessionKey, bool] = {}
        """Whether the session has grown since its work began."""
        self._delays: dict[SessionKey, float] = {}
        """Those that failed: how long they wait when they fail again."""
        self._threads = ThreadPoolExecutor(SESSIONS_AT_ONCE, thread_name_prefix="pusher relay")
        self._tasks = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        # Before the sessions are looked through: what grows meanwhile is not missed.
        self._stops = [
            self._notifier.listen(self._on_hint),
            *(self._notifier.follow(tenant_id) for tenant_id in self._readers),
        ]
        for tenant_id in self._readers:
            await self._look_through(tenant_id)
        await self._tasks.__aenter__()
        self._loops = [
            self._tasks.create_task(self._work_for_ever(), name="pusher relay")
            for _ in range(SESSIONS_AT_ONCE)
        ]
        look = self._look_for_ever()
        self._loops.append(self._tasks.create_task(look, name="pusher relay looks"))
        return self

    async def __aexit__(self, *exc: object) -> None:
        for stop in self._stops:
            stop()
        for task in self._loops:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)
        self._threads.shutdown(wait=False)

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for tenant_id in self._readers:
                try:
                    await self._look_through(tenant_id)
                except SessileError:
                    pass  # the database does not answer now; it is asked again
                except Exception:
                    logger.exception("could not look for what is to be published")

    async def _look_through(self, tenant_id: TenantId) -> None:
        heads = {key.session_id: it async for key, it in self._heads(self._readers[tenant_id])}
        begun = await self._cursors.begun(tenant_id)
        if begun != self._epoch:
            if begun is not None:
                about = {"tenant_id": tenant_id, "epoch": self._epoch, "sessions": len(heads)}
                logger.warning(
                    "the database was restored; published is what comes now", extra=about
                )
            await self._cursors.begin(tenant_id, heads, epoch=self._epoch)
        cursors = await self._cursors.cursors(tenant_id)
        for session_id in heads.keys() | cursors.keys():
            # Those that were deleted meanwhile are forgotten where they are worked at.
            if session_id not in heads or heads[session_id] > cursors.get(session_id, 0):
                self._grown(SessionKey(tenant_id, session_id))

    async def _heads(self, reader: Principal) -> AsyncIterator[tuple[SessionKey, Seq]]:
        before: SessionId | None = None
        while page := await self._reads.sessions(reader, before=before, limit=PAGE):
            for found in page:
                yield found.head.key, found.head.head
            before = page[-1].head.key.session_id

    def _on_hint(self, hint: Hint) -> None:
        if hint.key.tenant_id in self._readers:
            self._grown(hint.key)

    def _grown(self, key: SessionKey) -> None:
        if key in self._working or key not in self._delays:
            self._wake(key)

    def _wake(self, key: SessionKey) -> None:
        if key in self._working:
            self._working[key] = True
        elif key not in self._waiting:
            self._waiting.add(key)
            self._queue.put_nowait(key)

    async def _work_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            key = await self._queue.get()
            self._waiting.discard(key)
            self._working[key] = False
            caught_up = await self._caught_up(key)
            grown = self._working.pop(key)
            if not caught_up:
                # Others are worked at meanwhile; its own hints wait, too.
                delay = self._delays.get(key, RETRY_SECONDS)
                self._delays[key] = min(2 * delay, RETRY_SECONDS_MAX)
                loop.call_later(delay, self._wake, key)
                continue
            self._delays.pop(key, None)
            if grown:
                self._wake(key)

    async def _caught_up(self, key: SessionKey) -> bool:
        try:
            try:
                await self._catch_up(key)
            except NotFound:
                await self._cursors.forget(key)
        except CursorAhead as ahead:
            # The log was restored to an earlier time.
            about = {"session_id": key.session_id, **ahead.details}
            logger.warning("the log is behind what was published", extra=about)
        except SessileError as error:
            about = {"session_id": key.session_id, "code": error.code}
            logger.warning("could not read what is to be published", extra=about)
            return False
        except _NotTaken as error:
            # Its text may have the event in it, or an address that is signed.
            about = {"session_id": key.session_id, "error": str(error)}
            logger.warning("could not publish; it is tried again", extra=about)
            return False
        except Exception:
            # The file of the cursors, say: it may be whole again, and the server is in any case.
            logger.exception(
                "could not note what is published", extra={"session_id": key.session_id}
            )
            return False
        return True

    async def _catch_up(self, key: SessionKey) -> None:
        reader = self._readers[key.tenant_id]
        found = await self._reads.found(reader, key.session_id)
        after = await self._cursors.cursor(key)
        while True:
            page = await self._reads.entries(reader, key.session_id, after=after, limit=PAGE)
            for entry in page.items:
                await self._publish(key, found.session.assistant, entry)
                await self._cursors.advance(key, entry.seq)
                after = entry.seq
            if not page.more:
                return

    async def _publish(self, key: SessionKey, assistant: str, entry: Entry) -> None:
        channel = session_channel(key.session_id)
        await self._trigger(channel, entry.kind, _data(entry))
        for name, data in self._projections.of(key.session_id, assistant, entry):
            said = to_json({**data, "seq": entry.seq})
            if _fits(said):
                await self._trigger(channel, name, said)
            else:
                about = {"session_id": key.session_id, "seq": entry.seq, "projected": name}
                logger.warning("a projection is too large to be published", extra=about)

    async def _trigger(self, channel: str, event: str, data: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._threads, self._client.trigger, channel, event, data)
        except Exception as error:  # noqa: BLE001  a guest, and all that lies behind it
            raise _NotTaken(type(error).__name__) from None


def _reader(tenant_id: TenantId) -> Principal:
    return Principal(tenant_id=tenant_id, user_id=UserId("relay"), roles=frozenset({"admin"}))


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
