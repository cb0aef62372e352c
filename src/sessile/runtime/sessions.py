"""The one way in: every request of every surface becomes a command here, or a read."""

import asyncio
from dataclasses import replace
from typing import get_args

from sessile.core.commands import (
    CancelTurn,
    CloseSession,
    Command,
    EditTurn,
    OpenSession,
    Press,
    SubmitTurn,
    UpdateSession,
)
from sessile.core.context import Principal
from sessile.core.errors import (
    InvalidInput,
    LimitReached,
    OriginMoved,
    TurnNotEnded,
    TurnNotFound,
    UnknownAssistant,
)
from sessile.core.events import (
    JsonObject,
    SessionForked,
    WhenBusy,
)
from sessile.core.ids import SessionId, SessionKey, TurnId
from sessile.core.session import Turn
from sessile.ports.notifier import Notifier
from sessile.ports.store import Committed, Found
from sessile.runtime.announce import Announcer, Waiter, rests
from sessile.runtime.answers import Opened, Submitted
from sessile.runtime.forks import FORK_TRIES, end_of, inherited, unvoided
from sessile.runtime.inputs import (
    checked_metadata,
    checked_title,
    read_input,
    read_once,
    session_key,
)
from sessile.runtime.node import Node
from sessile.runtime.reads import Reads
from sessile.runtime.slots import user_of
from sessile.runtime.workers import Workers


class Sessions:
    """Commands. Each raises SessionNotFound where the caller may not reach the session."""

    def __init__(
        self,
        *,
        node: Node,
        workers: Workers,
        announcer: Announcer,
        notifier: Notifier,
        reads: Reads,
        default_assistant: str,
    ) -> None:
        self._node = node
        self._limits = node.limits
        self._workers = workers
        self._announcer = announcer
        self._notifier = notifier
        self._reads = reads
        self._default_assistant = default_assistant
        self._waits = True

    async def open(
        self,
        principal: Principal,
        *,
        assistant: str | None = None,
        title: str | None = None,
        metadata: JsonObject | None = None,
        idempotency_key: str | None = None,
    ) -> Opened:
        """A new session; of an exclusive assistant, the caller's active one if there is one.

        Raises UnknownAssistant, IdempotencyConflict.
        """
        command = self._opening(principal, assistant, title, metadata)
        body = [command.assistant, title, metadata]
        once = read_once(principal, "open", idempotency_key, body)
        limited = await self._limits.on_open(principal)
        return await self._opened(principal, replace(command, once=once, limited=limited))

    async def open_with(
        self,
        principal: Principal,
        given: JsonObject,
        *,
        assistant: str | None = None,
        title: str | None = None,
        metadata: JsonObject | None = None,
        when_busy: WhenBusy = "enqueue",
        idempotency_key: str | None = None,
        wait_seconds: float = 0,
    ) -> Submitted:
        """`open` with an input for the session, as `submit` takes it: both are done, or neither.

        Raises what both raise.
        """
        opening = self._opening(principal, assistant, title, metadata)
        first = self._first(principal, given, when_busy)
        body = [opening.assistant, title, metadata, given, when_busy]
        once = read_once(principal, "open", idempotency_key, body)
        key = SessionKey(principal.tenant_id, self._node.ids.session_id())
        first = replace(first, limited=await self._limits.on_submit(principal))
        limited = await self._limits.on_open(principal)
        first = replace(first, runner=self._workers.reserve(user_of(principal)))
        command = replace(opening, first=first, once=once, limited=limited)
        return await self._submitted(key, command, wait_seconds)

    async def fork(
        self,
        principal: Principal,
        session_id: SessionId,
        turn_id: TurnId,
        *,
        title: str | None = None,
    ) -> Opened:
        """A new session with what was said up to the end of this turn: no queue, no grant, no
        exclusive key.

        Raises TurnNotFound, TurnNotEnded, TooLarge; OriginMoved where something of it was voided
        meanwhile.
        """
        found = await self._reads.found(principal, session_id, turn_id)
        if found.turn is None:
            raise TurnNotFound()
        if not found.turn.ended:
            raise TurnNotEnded(status=found.turn.status)
        key, seen = found.head.key, found.head.head
        most = self._node.settings.fork_entries_max
        log = self._reads.forwards(key, after=found.turn.seq, upto=seen)
        cut = await end_of(log, turn_id)
        said = await inherited(self._reads.backwards(key, before=cut), entries_max=most)
        command = OpenSession(
            principal=principal,
            assistant=found.session.assistant,
            title=checked_title(title, self._node.settings)
            if title is not None
            else found.session.title,
            metadata=found.session.metadata,
            forked=SessionForked(from_session_id=session_id, from_turn_id=turn_id, from_seq=cut),
            origin_seen=seen,
            inherited=said,
            limited=await self._limits.on_open(principal),
        )
        for _ in range(FORK_TRIES):
            try:
                return await self._opened(principal, command)
            except OriginMoved:
                seen = await unvoided(self._reads.behind(key, after=seen), after=seen)
                command = replace(command, origin_seen=seen)
        raise OriginMoved(head=seen)

    async def submit(
        self,
        principal: Principal,
        session_id: SessionId,
        given: JsonObject,
        *,
        when_busy: WhenBusy = "enqueue",
        idempotency_key: str | None = None,
        wait_seconds: float = 0,
    ) -> Submitted:
        """Accept an input: it is durable on return. `given`: `{type: message|task|button, …}`. A
        press is a turn of its own: nothing steers it into another.

        With `wait_seconds`, until the turn has ended, waits for a person, or the time is over: the
        record says which.
        Raises InvalidInput, SessionClosed, SessionBusy, QueueFull, IdempotencyConflict; of a press,
        AssistantNotHere.
        """
        command = self._first(principal, given, when_busy)
        once = read_once(principal, session_id, idempotency_key, [given, when_busy])
        key = session_key(principal, session_id)
        limited = await self._limits.on_submit(principal)
        runner = self._workers.reserve(user_of(principal))
        command = replace(command, once=once, limited=limited, runner=runner)
        return await self._submitted(key, command, wait_seconds)

    async def edit(
        self, principal: Principal, session_id: SessionId, turn_id: TurnId, given: JsonObject
    ) -> Turn:
        """Replace the input of a queued turn. Raises TurnNotFound, TurnNotQueued, and what
        `submit` does of an input."""
        read = read_input(given, self._node.agents, self._node.settings)
        command = EditTurn(principal=principal, turn_id=turn_id, input=read)
        return self._turn(await self._transact(principal, session_id, command))

    async def cancel(self, principal: Principal, session_id: SessionId, turn_id: TurnId) -> Turn:
        """Withdraw a queued turn, or ask a running one to stop; asking again changes nothing.

        Raises TurnNotFound, TurnEnded.
        """
        command = CancelTurn(principal=principal, turn_id=turn_id)
        return self._turn(await self._transact(principal, session_id, command))

    async def update(
        self,
        principal: Principal,
        session_id: SessionId,
        *,
        title: str | None = None,
        retitle: bool = False,
        metadata: JsonObject | None = None,
    ) -> Found:
        """Merge `metadata` key by key (null removes a key); set `title` where `retitle`."""
        command = UpdateSession(
            principal=principal,
            title=checked_title(title, self._node.settings),
            retitle=retitle,
            metadata=checked_metadata(metadata or {}, self._node.settings),
        )
        await self._transact(principal, session_id, command)
        return await self._reads.found(principal, session_id)

    async def close(self, principal: Principal, session_id: SessionId) -> Found:
        """For good: what is queued is cancelled, what runs is stopped."""
        await self._transact(principal, session_id, CloseSession(principal=principal))
        return await self._reads.found(principal, session_id)

    async def wait(
        self, principal: Principal, session_id: SessionId, turn_id: TurnId, *, seconds: float
    ) -> Turn:
        """The turn's record when it ends or waits for a person, or as it stands when the time is
        over."""
        with self._announcer.waiting(session_key(principal, session_id), turn_id) as waiter:
            turn = await self._reads.turn(principal, session_id, turn_id)
            return turn if rests(turn) else await self._wait(principal, turn, waiter, seconds)

    def stop_waiting(self) -> None:
        """From here on, whoever waits for a turn gets its record as it stands, within a beat of
        the sweep."""
        self._waits = False

    # -- parts

    def _opening(
        self,
        principal: Principal,
        assistant: str | None,
        title: str | None,
        metadata: JsonObject | None,
    ) -> OpenSession:
        name = self._default_assistant if assistant is None else assistant
        agent = self._node.agents.get(name)
        if agent is None:
            raise UnknownAssistant(assistant=name, known=sorted(self._node.agents))
        return OpenSession(
            principal=principal,
            assistant=name,
            title=checked_title(title, self._node.settings),
            metadata=checked_metadata(metadata or {}, self._node.settings),
            exclusive_key=f"{name}:{principal.user_id}" if agent.exclusive else None,
        )

    def _first(self, principal: Principal, given: JsonObject, when_busy: WhenBusy) -> SubmitTurn:
        """Nothing is reserved for it yet: an input that is refused here must not keep a slot."""
        read = read_input(given, self._node.agents, self._node.settings)
        if when_busy not in get_args(WhenBusy):
            raise InvalidInput(f"when_busy is one of {', '.join(get_args(WhenBusy))}")
        if when_busy == "steer" and isinstance(read, Press):
            when_busy = "enqueue"  # its handler is asked first in a turn, which has begun
        return SubmitTurn(
            principal=principal,
            turn_id=self._node.ids.turn_id(),
            message_id=self._node.ids.message_id(),
            input=read,
            when_busy=when_busy,
            queue_max=self._node.settings.queue_turns_max,
        )

    async def _opened(self, principal: Principal, command: OpenSession) -> Opened:
        committed = await self._transact(principal, self._node.ids.session_id(), command)
        if committed.entries:
            assert committed.head is not None
            assert committed.session is not None
            found = Found(head=committed.head, session=committed.session)
        else:
            found = await self._reads.found(principal, committed.session_id)
        return Opened(found=found, created=committed.created)

    async def _submitted(
        self, key: SessionKey, command: SubmitTurn | OpenSession, wait_seconds: float
    ) -> Submitted:
        first = command.first if isinstance(command, OpenSession) else command
        assert first is not None
        principal = first.principal
        with self._announcer.waiting(key, first.turn_id) as waiter:
            if first.runner is not None:
                user = user_of(principal)
                committed = await self._workers.start(user, lambda: self._asked(key, command))
            else:
                committed = await self._transact(principal, key.session_id, command)
            turn = committed.turn
            assert turn is not None
            if wait_seconds > 0 and not rests(turn):
                if (turn.session_id, turn.turn_id) == (key.session_id, first.turn_id):
                    turn = await self._wait(principal, turn, waiter, wait_seconds)
                else:
                    turn = await self.wait(
                        principal, turn.session_id, turn.turn_id, seconds=wait_seconds
                    )
        seq = next((e.seq for e in committed.entries if e.turn_id is not None), turn.seq)
        return Submitted(turn=turn, seq=seq, repeated=committed.repeated)

    async def _transact(
        self, principal: Principal, session_id: SessionId, command: Command
    ) -> Committed:
        key = session_key(principal, session_id)
        committed = await self._asked(key, command)
        self._announcer.publish(committed)
        return committed

    async def _asked(self, key: SessionKey, command: Command) -> Committed:
        try:
            return await self._node.store.transact(key, command)
        except LimitReached as refusal:
            raise self._limits.refused(refusal) from None

    async def _wait(self, principal: Principal, turn: Turn, waiter: Waiter, seconds: float) -> Turn:
        """The turn may rest on another node, whose hint may be lost: then the sweep's beat finds
        it in the store."""
        loop = asyncio.get_running_loop()
        end = loop.time() + min(seconds, self._node.settings.wait_seconds_max)
        stop_following = self._notifier.follow(principal.tenant_id, turn.session_id)
        try:
            while self._waits and not rests(turn) and (left := end - loop.time()) > 0:
                await waiter.rung(timeout_seconds=min(left, self._node.settings.sweep_seconds))
                if waiter.turn is not None:
                    return waiter.turn
                turn = await self._reads.turn(principal, turn.session_id, turn.turn_id)
        finally:
            stop_following()
        return turn

    @staticmethod
    def _turn(committed: Committed) -> Turn:
        assert committed.turn is not None
        return committed.turn
