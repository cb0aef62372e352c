"""What callers may read: each read checks that the session is theirs, and none of them writes."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from sessile.core.context import Principal
from sessile.core.errors import CursorAhead, SessionNotFound, TurnNotFound
from sessile.core.events import Entry
from sessile.core.ids import Seq, SessionId, SessionKey, TurnId
from sessile.core.policy import Verdict
from sessile.core.session import Turn
from sessile.core.transcript import Message, messages, tokens_estimated
from sessile.ports.store import Found
from sessile.runtime.histories import read_history
from sessile.runtime.inputs import session_key
from sessile.runtime.node import Node
from sessile.runtime.tools import verdicts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`more`: there may be more behind it. A page ends early where it would be too large."""

    items: tuple[T, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextReport:
    """What the assistant would be given now."""

    assistant: str
    messages: int
    characters: int
    tokens_estimated: int
    history_entries_max: int
    last_summary_seq: Seq | None


class Reads:
    """Raises SessionNotFound wherever the caller may not reach the session."""

    def __init__(self, *, node: Node) -> None:
        self._node = node
        self._store = node.store
        self._page_max = node.settings.page_items_max
        self._bytes_max = node.settings.page_bytes_max

    async def found(
        self, principal: Principal, session_id: SessionId, turn_id: TurnId | None = None
    ) -> Found:
        key = session_key(principal, session_id)
        found = await self._store.find(key, turn_id)
        if found is None or not principal.may_reach(key, found.head.user_id):
            raise SessionNotFound()
        return found

    async def sessions(
        self, principal: Principal, *, before: SessionId | None = None, limit: int
    ) -> tuple[Found, ...]:
        """The caller's sessions, the youngest first; an admin's are all of its tenant."""
        if principal.only is not None:
            only = await self._store.find(session_key(principal, principal.only))
            own = only is not None and principal.may_reach(only.head.key, only.head.user_id)
            return (only,) if only is not None and own and before is None else ()
        user_id = None if "admin" in principal.roles else principal.user_id
        return await self._store.sessions(
            principal.tenant_id, user_id=user_id, before=before, limit=self._page(limit)
        )

    async def turn(self, principal: Principal, session_id: SessionId, turn_id: TurnId) -> Turn:
        """Raises TurnNotFound."""
        found = await self.found(principal, session_id, turn_id)
        if found.turn is None:
            raise TurnNotFound()
        return found.turn

    async def turns(
        self,
        principal: Principal,
        session_id: SessionId,
        *,
        after: int = 0,
        queued: bool = False,
        limit: int,
    ) -> Page[Turn]:
        """By position, from behind `after` on; `queued`: only those that wait."""
        found = await self.found(principal, session_id)
        limit = self._page(limit)
        turns = await self._store.turns(
            found.head.key, after=after, queued=queued, limit=limit, bytes_max=self._bytes_max
        )
        last = found.head.next_position - 1
        return Page(turns, more=bool(turns) and turns[-1].position < last)

    async def messages(
        self,
        principal: Principal,
        session_id: SessionId,
        *,
        before: int | None = None,
        limit: int,
    ) -> Page[Message]:
        """The newest messages before the entry `before`, oldest first; `more` are older."""
        found = await self.found(principal, session_id)
        limit = self._page(limit)
        newest_first: list[Entry] = []
        size, more = 0, False
        async for entry in self.backwards(found.head.key, before=before, page=limit):
            size += len(entry.body)
            more = bool(newest_first) and size > self._bytes_max
            if more:
                break
            newest_first.append(entry)
            more = len(newest_first) == limit
            if more:
                break
        return Page(tuple(messages(reversed(newest_first))), more=more)

    async def entries(
        self, principal: Principal, session_id: SessionId, *, after: int, limit: int
    ) -> Page[Entry]:
        """The log behind the cursor. Raises CursorAhead."""
        found = await self.found(principal, session_id)
        if after > found.head.head:
            raise CursorAhead(head=found.head.head)
        limit = min(limit, self._node.settings.page_entries_max)
        entries = await self._store.read(
            found.head.key, after=after, limit=limit, bytes_max=self._bytes_max
        )
        return Page(entries, more=bool(entries) and entries[-1].seq < found.head.head)

    async def export(self, principal: Principal, session_id: SessionId) -> AsyncIterator[Entry]:
        """The whole log as it is now. Raises SessionNotFound before the first entry."""
        found = await self.found(principal, session_id)
        return self.forwards(found.head.key, upto=found.head.head)

    async def tools(self, principal: Principal, session_id: SessionId) -> tuple[Verdict, ...]:
        """For each tool of the session's assistant: whether it may be used, and why not.

        Raises AssistantNotHere.
        """
        found = await self.found(principal, session_id)
        return verdicts(self._node.agent_of(found.session), found.session.grants)

    async def context(self, principal: Principal, session_id: SessionId) -> ContextReport:
        """Raises AssistantNotHere."""
        found = await self.found(principal, session_id)
        self._node.agent_of(found.session)
        most = self._node.settings.history_entries_max
        history = await read_history(self._store, found.head.key, entries_max=most)
        said, summary = history.messages, history.summary
        return ContextReport(
            assistant=found.session.assistant,
            messages=len(said),
            characters=sum(len(message.text) for message in said),
            tokens_estimated=tokens_estimated(said),
            history_entries_max=most,
            last_summary_seq=None if summary is None else summary.seq,
        )

    async def backwards(
        self, key: SessionKey, *, before: int | None = None, page: int | None = None
    ) -> AsyncIterator[Entry]:
        """What was said, from the end of the log or from `before` to its beginning; a `page` read
        at a time."""
        most = self._node.settings.page_entries_max
        page = most if page is None else min(page, most)
        while entries := await self._store.read(
            key,
            before=before,
            history=True,
            newest_first=True,
            limit=page,
            bytes_max=self._bytes_max,
        ):
            for entry in entries:
                yield entry
            before = entries[-1].seq

    async def behind(self, key: SessionKey, *, after: int) -> AsyncIterator[Entry]:
        """The log behind `after`, as far as it goes now. Raises SessionNotFound."""
        found = await self._store.find(key)
        if found is None:
            raise SessionNotFound()
        async for entry in self.forwards(key, after=after, upto=found.head.head):
            yield entry

    async def forwards(self, key: SessionKey, *, after: int = 0, upto: int) -> AsyncIterator[Entry]:
        """The log behind `after`, and no further than `upto`. Raises SessionNotFound where it is
        gone before that."""
        page, most = self._node.settings.page_entries_max, self._bytes_max
        while entries := await self._store.read(
            key, after=after, before=upto + 1, limit=page, bytes_max=most
        ):
            for entry in entries:
                yield entry
            after = entries[-1].seq
        if after < upto:
            # It was deleted meanwhile: half a log must not look like a whole one.
            raise SessionNotFound()

    def _page(self, limit: int) -> int:
        return max(1, min(limit, self._page_max))
