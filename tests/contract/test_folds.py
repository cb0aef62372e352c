"""Whatever happens in whatever order: the log explains every row, on every store alike."""

import asyncio
import random
from contextlib import suppress

import pytest
from tests.contract.desk import (
    ANN,
    BOB,
    EXPIRES_MS,
    LEASE_MS,
    NODE,
    NODE_2,
    Desk,
    holding,
    once,
    runner,
)
from tests.doubles import CountingIds, ManualClock

from sessile.adapters.memory import MemoryStore
from sessile.core.codec import decode
from sessile.core.context import Holding
from sessile.core.errors import SessileError
from sessile.core.events import ApprovalRequested, TurnSteered
from sessile.core.ids import CallId, NodeId, SessionKey, TurnId
from sessile.ports.store import Committed


class Walk:
    """A seeded walk over a few sessions: each step may be refused, and then changes nothing."""

    def __init__(self, desk: Desk, seed: int) -> None:
        self.desk = desk
        self.random = random.Random(seed)
        self.keys: list[SessionKey] = []
        self.held: list[tuple[Holding, int]] = []

    async def step(self) -> None:
        choices = {
            self.open: 1,
            self.submit: 6,
            self.append: 6,
            self.finish: 5,
            self.claim: 3,
            self.cancel: 2,
            self.edit: 2,
            self.update: 1,
            self.close: 0.3,
            self.delete: 0.2,
            self.release: 1,
            self.renew: 1,
            self.ask: 4,
            self.answer: 4,
            self.grant: 1,
            self.start_call: 1,
        }
        (act,) = self.random.choices(list(choices), list(choices.values()))
        with suppress(SessileError):
            await act()
        pauses = (0, 1, 1, LEASE_MS // 2) * 9 + (EXPIRES_MS,)
        self.desk.clock.advance(milliseconds=self.random.choice(pauses))

    def key(self) -> SessionKey:
        return self.random.choice(self.keys)

    def some_held(self) -> tuple[Holding, int]:
        return self.random.choice(self.held[-8:])

    async def open(self) -> None:
        exclusive_key = self.random.choice((None, "k1", "k2"))
        who = self.random.choice((ANN, BOB))
        self.keys.append(await self.desk.open(who, exclusive_key=exclusive_key))

    async def submit(self) -> None:
        key = self.key()
        committed = await self.desk.submit(
            key,
            str(self.random.random()),
            run=self.random.random() < 0.7,
            when_busy=self.random.choice(("enqueue", "enqueue", "steer", "interrupt", "reject")),
            once=self.random.choice((None, once(f"{self.random.randrange(9)}", key.session_id))),
            queue_max=4,
        )
        self.take(committed)

    def take(self, committed: Committed) -> None:
        with suppress(AssertionError, KeyError):
            self.held.append((holding(committed), 0))

    async def append(self) -> None:
        held, step = self.some_held()
        step += self.random.choice((0, 0, 0, 0, -1, 1))
        if self.random.random() < 0.3:
            await self.desk.store.append(held, step, [self.desk.reply(held, "r")])
        else:
            await self.desk.append(held, step, *"ab"[: self.random.randrange(3)])
        self.held.append((held, step + 1))

    async def finish(self) -> None:
        held, step = self.some_held()
        events = [decode(entry) for entry in await self.desk.log(held.key)]
        steered = [event for event in events if isinstance(event, TurnSteered)]
        unread = [event for event in steered if event.turn_id == held.turn_id]
        committed = await self.desk.finish(
            held,
            step=step,
            end=self.random.choice(("completed", "failed", "cancelled", "interrupted")),
            error={"code": "x"},
            closing=[self.desk.reply(held, "end")],
            unread=unread,
            successor=self.random.choice((None, runner())),
        )
        self.take(committed)

    async def claim(self) -> None:
        node = self.random.choice((NODE, NODE_2))
        for key in await self.desk.due():
            self.take(await self.desk.start(key, node=node, suspects=self.random.random() < 0.8))

    async def cancel(self) -> None:
        key = self.key()
        await self.desk.cancel(key, await self.some_turn(key))

    async def edit(self) -> None:
        key = self.key()
        await self.desk.edit(key, await self.some_turn(key), "edited")

    async def some_turn(self, key: SessionKey) -> TurnId:
        turns = await self.desk.store.turns(key, limit=100)
        return self.random.choice([turn.turn_id for turn in turns] or [TurnId("trn_none")])

    async def update(self) -> None:
        value = self.random.choice((None, 1, "two"))
        await self.desk.update(self.key(), title="t", retitle=True, metadata={"k": value})

    async def close(self) -> None:
        await self.desk.close(self.key())

    async def delete(self) -> None:
        await self.desk.delete(self.key())

    async def release(self) -> None:
        await self.desk.release(self.some_held()[0])

    async def renew(self) -> None:
        held = [each for each, _ in self.held[-3:]]
        node = NodeId(self.random.choice((NODE, NODE_2)))
        await self.desk.store.renew(node, held, lease_ms=LEASE_MS)

    async def ask(self) -> None:
        held, step = self.random.choice((self.held[-1], self.some_held()))
        calls, others = self.random.choice((1, 1, 2)), self.random.randrange(2)
        await self.desk.awaits(held, step=step, calls=calls, others=others)

    async def answer(self) -> None:
        asked = [(self.key(), CallId("call_none"))]
        for key in self.keys:
            events = [decode(entry) for entry in await self.desk.log(key)]
            asked += [(key, e.call_id) for e in events if isinstance(e, ApprovalRequested)][-2:]
        key, call_id = self.random.choice(asked)
        await self.desk.answer(key, call_id, self.random.random() < 0.5)

    async def grant(self) -> None:
        grants = self.random.sample(("export", "refund", "manage"), self.random.randrange(4))
        await self.desk.grant(self.key(), *grants)

    async def start_call(self) -> None:
        held, step = self.some_held()
        grant = self.random.choice(("export", "refund", "manage"))
        await self.desk.store.append(held, step, [self.desk.call(held, grant=grant)])
        self.held.append((held, step + 1))


async def begin(desk: Desk, seed: int) -> Walk:
    walk = Walk(desk, seed)
    walk.keys.append(await desk.open())
    walk.held.append((await desk.run(walk.keys[0]), 0))
    return walk


@pytest.mark.parametrize("seed", range(8))
async def test_one_after_another_is_as_the_reference_has_it(desk: Desk, seed: int) -> None:
    clock = ManualClock()
    reference = Desk(MemoryStore(clock=clock), clock, CountingIds())
    walk, same = await begin(desk, seed), await begin(reference, seed)

    for _ in range(150):
        await walk.step()
        await same.step()

    for key in walk.keys:
        assert await desk.everything(key) == await reference.everything(key)
    await desk.check_folds()


@pytest.mark.parametrize("seed", range(8))
async def test_many_at_once(desk: Desk, seed: int) -> None:
    walk = await begin(desk, seed)

    for _ in range(15):
        await asyncio.gather(*(walk.step() for _ in range(20)))
        await desk.check_folds()
