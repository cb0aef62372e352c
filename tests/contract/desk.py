"""What the contract tests say over and over: open, submit, start, append, finish, look."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from tests.doubles import CountingIds, ManualClock

from sessile.core import codec
from sessile.core.commands import (
    AnswerApproval,
    AwaitTurn,
    CancelTurn,
    CloseSession,
    DeleteSession,
    EditTurn,
    FinishTurn,
    Once,
    OpenSession,
    ReleaseTurn,
    Runner,
    SetGrants,
    StartTurn,
    SubmitTurn,
    UpdateSession,
)
from sessile.core.context import Holding, Principal
from sessile.core.events import (
    Entry,
    Event,
    LogCompacted,
    MessageAdded,
    MessageDelta,
    ToolCompleted,
    ToolStarted,
    TurnSteered,
    WhenBusy,
)
from sessile.core.ids import CallId, MessageId, NodeId, Seq, SessionKey, TenantId, TurnId, UserId
from sessile.core.session import Session, Turn, evolve, evolve_session, unborn
from sessile.core.turns import evolve_turn
from sessile.ports.store import Committed, Found, Store

ACME, OTHER = TenantId("acme"), TenantId("other")
ANN = Principal(tenant_id=ACME, user_id=UserId("ann"))
BOB = Principal(tenant_id=ACME, user_id=UserId("bob"))
ADMIN = Principal(tenant_id=ACME, user_id=UserId("root"), roles=frozenset({"admin"}))
STRANGER = Principal(tenant_id=OTHER, user_id=UserId("ann"))
LEASE_MS = 12_000
NODE, NODE_2 = NodeId("node-1"), NodeId("node-2")
ALL = 10_000
EXPIRES_MS = 86_400_000
KNOWN = frozenset({"support"})


def runner(node: NodeId = NODE) -> Runner:
    return Runner(node=node, lease_ms=LEASE_MS, assistants=KNOWN)


def holding(committed: Committed) -> Holding:
    """The right that a commit gave to whoever runs the turn that it started."""
    head, lease = committed.head, committed.lease
    assert head is not None
    assert head.running_turn_id is not None
    assert lease.owner is not None
    turn = committed.turns[head.running_turn_id]
    return Holding(head.key, turn.turn_id, head.fence, turn.attempt, lease.owner)


def once(key: str, scope: str, body: str = "body", user: Principal = ANN) -> Once:
    return Once(user_id=user.user_id, scope=scope, key=key, request_hash=body)


def cleaned(records: Iterable[Session | Turn | None]) -> list[str]:
    """Compared as the log keeps text; a store in memory may still hold it as it was sent."""
    return [codec.to_json(asdict(record)) for record in records if record is not None]


class Desk:
    def __init__(self, store: Store, clock: ManualClock, ids: CountingIds) -> None:
        self.store = store
        self.clock = clock
        self.ids = ids
        self.opened: list[SessionKey] = []

    async def open(self, principal: Principal = ANN, **more: Any) -> SessionKey:
        return (await self.open_as(principal, **more)).head.key  # type: ignore[union-attr]

    async def open_as(self, principal: Principal = ANN, **more: Any) -> Committed:
        key = SessionKey(principal.tenant_id, self.ids.session_id())
        command = OpenSession(**{"principal": principal, "assistant": "support", **more})
        committed = await self.store.transact(key, command)
        self.opened.append(SessionKey(principal.tenant_id, committed.session_id))
        return committed

    async def submit(
        self,
        key: SessionKey,
        text: str = "hello",
        *,
        run: bool = True,
        on: Runner | None = None,
        when_busy: WhenBusy = "enqueue",
        queue_max: int = 100,
        once: Once | None = None,
        principal: Principal = ANN,
        turn_id: TurnId | None = None,
    ) -> Committed:
        command = SubmitTurn(
            principal=principal,
            turn_id=turn_id or self.ids.turn_id(),
            message_id=self.ids.message_id(),
            input={"type": "message", "text": text},
            when_busy=when_busy,
            queue_max=queue_max,
            runner=(on or runner()) if run else None,
            once=once,
        )
        return await self.store.transact(key, command)

    def first(self, text: str = "hello", *, when_busy: WhenBusy = "enqueue") -> SubmitTurn:
        """A turn to open a session with."""
        return SubmitTurn(
            principal=ANN,
            turn_id=self.ids.turn_id(),
            message_id=self.ids.message_id(),
            input={"type": "message", "text": text},
            when_busy=when_busy,
            queue_max=100,
            runner=runner(),
        )

    async def run(self, key: SessionKey, text: str = "hello") -> Holding:
        """Submit to a free session: its turn runs."""
        return holding(await self.submit(key, text))

    async def start(
        self, key: SessionKey, *, node: NodeId = NODE, suspects: bool = True
    ) -> Committed:
        return await self.store.transact(key, StartTurn(runner=runner(node), suspects=suspects))

    async def append(self, held: Holding, step: int, *texts: str) -> Committed:
        return await self.store.append(held, step, [self.delta(held, text) for text in texts])

    def delta(self, held: Holding, text: str) -> MessageDelta:
        return MessageDelta(
            turn_id=held.turn_id, message_id=MessageId("msg_r"), offset=0, text=text
        )

    def reply(self, held: Holding, text: str) -> MessageAdded:
        return MessageAdded(
            turn_id=held.turn_id,
            message_id=self.ids.message_id(),
            role="assistant",
            parts=({"type": "text", "text": text},),
        )

    def outcome(self, held: Holding, how: Any = ToolCompleted, **why: Any) -> Any:
        return how(
            turn_id=held.turn_id,
            call_id=self.ids.call_id(),
            message_id=self.ids.message_id(),
            name="orders.look",
            arguments={"order": 7},
            **(why or {"result": "sent"}),
        )

    async def finish(
        self,
        held: Holding,
        *,
        step: int = 0,
        end: Any = "completed",
        output: str = "done",
        closing: Sequence[Event] = (),
        unread: Sequence[TurnSteered] = (),
        successor: Runner | None = None,
        **more: Any,
    ) -> Committed:
        command = FinishTurn(
            holding=held,
            step=step,
            end=end,
            output=output,
            closing=tuple(closing),
            unread=tuple(unread),
            successor=successor,
            **more,
        )
        return await self.store.transact(held.key, command)

    def call(
        self, held: Holding, name: str = "orders.refund", *, grant: str | None = None
    ) -> ToolStarted:
        return ToolStarted(
            turn_id=held.turn_id,
            call_id=self.ids.call_id(),
            message_id=self.ids.message_id(),
            name=name,
            arguments={"order": 7},
            grant=grant,
        )

    def asking(self, held: Holding, *, step: int = 0, calls: int = 1, others: int = 0) -> AwaitTurn:
        """Calls of the turn that need an approval, beside others that wait with them."""
        asked = tuple(self.call(held) for _ in range(calls))
        beside = tuple(self.call(held, "orders.note") for _ in range(others))
        return AwaitTurn(
            holding=held,
            step=step,
            asked=asked,
            open_calls=(*asked, *beside),
            expires_ms=EXPIRES_MS,
            output="so far",
            closing=(self.reply(held, "so far"),),
        )

    async def awaits(
        self, held: Holding, *, step: int = 0, calls: int = 1, others: int = 0
    ) -> tuple[CallId, ...]:
        command = self.asking(held, step=step, calls=calls, others=others)
        await self.store.transact(held.key, command)
        return tuple(call.call_id for call in command.asked)

    async def answer(
        self, key: SessionKey, call_id: CallId, granted: bool = True, principal: Principal = ANN
    ) -> Committed:
        command = AnswerApproval(principal=principal, call_id=call_id, granted=granted)
        return await self.store.transact(key, command)

    async def grant(self, key: SessionKey, *grants: str, principal: Principal = ANN) -> Committed:
        return await self.store.transact(key, SetGrants(principal=principal, grants=grants))

    async def release(self, held: Holding) -> Committed:
        return await self.store.transact(held.key, ReleaseTurn(holding=held))

    async def cancel(
        self, key: SessionKey, turn_id: TurnId, principal: Principal = ANN
    ) -> Committed:
        return await self.store.transact(key, CancelTurn(principal=principal, turn_id=turn_id))

    async def edit(self, key: SessionKey, turn_id: TurnId, text: str) -> Committed:
        command = EditTurn(principal=ANN, turn_id=turn_id, input={"type": "message", "text": text})
        return await self.store.transact(key, command)

    async def update(self, key: SessionKey, principal: Principal = ANN, **more: Any) -> Committed:
        return await self.store.transact(key, UpdateSession(principal=principal, **more))

    async def close(self, key: SessionKey, principal: Principal = ANN) -> Committed:
        return await self.store.transact(key, CloseSession(principal=principal))

    async def delete(self, key: SessionKey, principal: Principal = ANN) -> Committed:
        return await self.store.transact(key, DeleteSession(principal=principal))

    async def look(self, key: SessionKey) -> Found:
        found = await self.store.find(key)
        assert found is not None
        return found

    async def turn(self, key: SessionKey, turn_id: TurnId) -> Turn:
        found = await self.store.find(key, turn_id)
        assert found is not None
        assert found.turn is not None
        return found.turn

    async def log(self, key: SessionKey) -> tuple[Entry, ...]:
        return await self.store.read(key, limit=ALL)

    async def kinds(self, key: SessionKey, *, after: int = 0) -> list[str]:
        return [entry.kind for entry in await self.store.read(key, after=after, limit=ALL)]

    async def due(self) -> list[SessionKey]:
        return list((await self.store.sweep(due_max=ALL, assistants=KNOWN)).due)

    async def everything(self, key: SessionKey) -> object:
        """All that a refused command must leave as it was."""
        return (
            await self.store.find(key),
            await self.store.turns(key, limit=ALL),
            await self.log(key),
            await self.due(),
        )

    async def check_folds(self) -> None:
        """Head, session and turns are what the log says, and the log has no gap."""
        for key in dict.fromkeys(self.opened):
            found = await self.store.find(key)
            entries = await self.log(key)
            turns = await self.store.turns(key, limit=ALL)
            if found is None:
                assert not entries
                assert not turns
                continue
            events = [codec.decode(entry) for entry in entries]
            due = 1
            for entry, event in zip(entries, events, strict=True):
                assert due == (event.from_seq if isinstance(event, LogCompacted) else entry.seq)
                due = entry.seq + 1
            head = evolve(unborn(key, found.head.user_id), events)
            assert found.head == replace(head, head=Seq(due - 1))
            session: Session | None = None
            folded: dict[TurnId, Turn] = {}
            for entry, event in zip(entries, events, strict=True):
                session = evolve_session(session, event, key=key, at_ms=entry.at_ms)
                turn = None
                if entry.turn_id is not None:
                    before = folded.get(entry.turn_id)
                    turn = evolve_turn(before, event, key=key, seq=entry.seq, at_ms=entry.at_ms)
                if turn is not None:
                    folded[turn.turn_id] = turn
            assert cleaned([found.session]) == cleaned([session])
            in_order = sorted(folded.values(), key=lambda turn: turn.position)
            assert cleaned(turns) == cleaned(in_order)
