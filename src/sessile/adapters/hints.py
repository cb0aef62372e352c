"""What the notifiers between nodes share: the wire form of hints, and what waits to be sent.

A payload is a signature and then JSON: `[1, node, [hint, …]]`, where a hint is `[tenant_id,
session_id, head, flags, entries]` and an entry `[seq, kind, turn_id, at_ms, body]`. The 1 is the
version of all this. What it says is shown to readers, so it is signed by what only the nodes of one
database know.
"""

import asyncio
import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from random import random
from typing import Any

from sessile.core.codec import to_json
from sessile.core.events import Entry
from sessile.core.ids import NodeId, Seq, SessionId, SessionKey, TenantId, TurnId
from sessile.ports.notifier import Hint
from sessile.ports.store import Identity

logger = logging.getLogger(__name__)

VERSION = 1
SIGNATURE_CHARS = 32
DUE, CONTROL, DELETED = 1, 2, 4

HINTS_WAITING_MAX = 4096
CHARS_WAITING_MAX = 1_048_576
"""Of all entries that wait: past this, hints wait without theirs."""
ENTRY_CHARS = 80
"""What an entry has beside its body, roughly."""
FAREWELL_SECONDS = 1.0
RETRY_SECONDS = 0.1
RETRY_SECONDS_MAX = 5.0
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

Listener = Callable[[Hint], None]


def signing_key(identity: Identity) -> bytes:
    """Of the database and its epoch: nodes that go on with what was lost are not believed."""
    return blake2b(str(identity.epoch).encode(), key=identity.secret).digest()


def pack(node: NodeId, hints: Iterable[Hint], *, bytes_max: int, key: bytes) -> list[str]:
    """As few payloads as hold the hints, signed. Those that are too long by themselves go without
    their entries, or, if their keys alone are too long, not at all."""
    start, end = f"[{VERSION},{to_json(node)},[", "]]"
    room = bytes_max - SIGNATURE_CHARS - len(start.encode()) - len(end)
    payloads: list[str] = []
    waiting: list[str] = []
    used = 0
    for hint in hints:
        text = _packed(hint)
        if hint.entries and len(text.encode()) > room:
            text = _packed(bare(hint))
        size = len(text.encode())
        if size > room:
            continue
        if waiting and used + 1 + size > room:
            payloads.append(start + ",".join(waiting) + end)
            waiting, used = [], 0
        used += size + (1 if waiting else 0)
        waiting.append(text)
    if waiting:
        payloads.append(start + ",".join(waiting) + end)
    return [signature(payload.encode(), key).decode() + payload for payload in payloads]


def signature(said: bytes, key: bytes) -> bytes:
    return blake2b(said, key=key, digest_size=SIGNATURE_CHARS // 2).hexdigest().encode()


def unpack(payload: bytes, *, key: bytes) -> tuple[str, list[Hint]]:
    """Who sent it, and what it says. Raises ValueError where no node of this database has signed
    it, or this version would not say it so."""
    signed, said = payload[:SIGNATURE_CHARS], payload[SIGNATURE_CHARS:]
    if not hmac.compare_digest(signed, signature(said, key)):
        raise ValueError(
            "its signature is none of this database's: look whether nodes of another database, or"
            " of this one before it was restored, are on the same bus"
        )
    try:
        parsed: Any = json.loads(said)
    except RecursionError:
        raise ValueError("nested too deep") from None
    match parsed:
        case [int(version), str(node), [*hints]] if version == VERSION:
            return node, [_unpacked(hint) for hint in hints]
        case _:
            raise ValueError("not of this version")


def merged(one: Hint, other: Hint) -> Hint:
    """Both hints of one session in one: the higher head, with the entries that end there."""
    low, high = (one, other) if one.head <= other.head else (other, one)
    entries = high.entries
    if low.entries and entries and low.entries[-1].seq + 1 == entries[0].seq:
        entries = low.entries + entries
    elif low.head < high.head or low.control:
        entries = ()  # those that are left do not say all that happened
    return Hint(
        key=high.key,
        head=high.head,
        entries=entries,
        due=low.due or high.due,
        control=low.control or high.control,
        deleted=low.deleted or high.deleted,
    )


def bare(hint: Hint) -> Hint:
    """The hint without its entries: a reader reads the log."""
    return replace(hint, entries=())


class Ears:
    """Those who listen on this node, and what they hear."""

    def __init__(self, node: NodeId, key: bytes, count_foreign: Callable[[], None]) -> None:
        self._node = node
        self._key = key
        self._listeners: list[Listener] = []
        self._count_foreign = count_foreign
        self.foreign = 0
        """Payloads that no node of this database and version has sent."""

    def listen(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, hint: Hint) -> None:
        for listener in tuple(self._listeners):
            listener(hint)

    def receive(self, payload: bytes) -> None:
        """What came from a node; this one has heard its own already."""
        try:
            node, hints = unpack(payload, key=self._key)
        except ValueError as error:
            if not self.foreign:
                logger.warning(
                    "a hint is dropped; those to come are only counted",
                    extra={"error": str(error)},
                )
            self.foreign += 1
            self._count_foreign()
            return
        if node != self._node:
            for hint in hints:
                self.tell(hint)


class Outbox:
    """What waits to be sent: one hint a session. When it is full, entries are left out first, then
    hints."""

    def __init__(self, *, payload_bytes_max: int) -> None:
        self._payload_bytes_max = payload_bytes_max
        self._waiting: dict[SessionKey, Hint] = {}
        self._chars = 0
        self._full = False
        self._sent = asyncio.Event()
        self._sent.set()
        self.woken = asyncio.Event()
        """Something is to be done: hints wait, or something happened to the connection."""

    def put(self, hint: Hint) -> None:
        if (waiting := self._waiting.get(hint.key)) is not None:
            self._chars -= _chars(waiting)
            hint = merged(waiting, hint)
        elif len(self._waiting) >= HINTS_WAITING_MAX:
            if not self._full:
                self._full = True
                logger.warning("too many hints wait; other nodes get those left out from the sweep")
            return
        if hint.entries:
            chars = _chars(hint)
            if chars > self._payload_bytes_max or self._chars + chars > CHARS_WAITING_MAX:
                hint = bare(hint)
        self._chars += _chars(hint)
        self._waiting[hint.key] = hint
        self._sent.clear()
        self.woken.set()

    def take(self) -> list[Hint]:
        """All that wait; `sent` says that they no longer do."""
        hints = list(self._waiting.values())
        self._waiting.clear()
        self._chars = 0
        self._full = False
        return hints

    def sent(self) -> None:
        if not self._waiting:
            self._sent.set()

    async def farewell(self) -> None:
        """Until everything is sent, if that is soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._sent.wait()


async def keep_up(
    name: str, serve: Callable[[Callable[[], None]], Awaitable[None]], *, tried: asyncio.Event
) -> None:
    """Serves over a connection, and over another when it is lost, for ever. `serve` calls what it
    is given once it is connected. `tried`: set when that, or what hinders it, is known.

    What other nodes say meanwhile is lost, and nobody is told: every second, the sweep reads what
    is due, and the heads of all sessions that are followed or run here.
    """
    wait, out = RETRY_SECONDS, False

    def up() -> None:
        nonlocal wait, out
        tried.set()
        if out:
            logger.warning("hints are connected again", extra={"connection": name})
        wait, out = RETRY_SECONDS, False

    while True:
        try:
            await serve(up)
        except Exception as error:  # noqa: BLE001  whatever it is, the next one may work
            tried.set()
            if not out:
                about = {"error": type(error).__name__, "said": str(error).partition("\n")[0]}
                logger.warning(
                    "hints are not connected; the sweep stands in for them",
                    extra={"connection": name, **about},
                )
            out = True
        # Not all nodes at the same instants.
        await asyncio.sleep(wait * (0.5 + random()))  # of load: no secret  # nosec B311
        wait = min(2 * wait, RETRY_SECONDS_MAX)


def _chars(hint: Hint) -> int:
    return sum(ENTRY_CHARS + len(entry.body) for entry in hint.entries)


def _packed(hint: Hint) -> str:
    flags = DUE * hint.due + CONTROL * hint.control + DELETED * hint.deleted
    entries = hint.entries if _end_at(hint.head, hint.entries) else ()
    return to_json([*hint.key, hint.head, flags, entries])


def _unpacked(value: Any) -> Hint:
    match value:
        case [str(tenant_id), str(session_id), int(head), int(flags), [*values]]:
            entries = tuple(_entry(each) for each in values)
        case _:
            raise ValueError("no hint")
    if _UNSTORABLE.search(tenant_id + session_id):
        raise ValueError("a key that no session has")
    if entries and not _end_at(head, entries):
        raise ValueError("entries with a gap")
    return Hint(
        key=SessionKey(TenantId(tenant_id), SessionId(session_id)),
        head=Seq(head),
        entries=entries,
        due=bool(flags & DUE),
        control=bool(flags & CONTROL),
        deleted=bool(flags & DELETED),
    )


def _entry(value: Any) -> Entry:
    match value:
        case [int(seq), str(kind), None | str() as turn_id, int(at_ms), str(body)]:
            return Entry(Seq(seq), kind, TurnId(turn_id) if turn_id else None, at_ms, body)
        case _:
            raise ValueError("no entry")


def _end_at(head: int, entries: tuple[Entry, ...]) -> bool:
    """Without a gap, up to the head: readers are given them as they are."""
    first = head - len(entries) + 1
    return all(entry.seq == seq for seq, entry in enumerate(entries, first))
