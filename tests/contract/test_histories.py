"""What an agent is given is one function of the log: carried from turn to turn, or read afresh."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from tests.contract.desk import Desk, holding, runner

from sessile.core.context import Holding
from sessile.core.events import Entry, Event, SessionSummarized
from sessile.core.ids import Seq, SessionKey
from sessile.core.transcript import History, Message
from sessile.ports.store import Committed
from sessile.runtime.histories import read_history


@dataclass
class Carrier:
    """A session's turns, each begun by the end of the last, and the history as a node holds it."""

    desk: Desk
    random: random.Random
    most: int
    key: SessionKey
    history: History = field(default_factory=lambda: History(()))
    given: list[tuple[Seq, tuple[Message, ...]]] = field(default_factory=list)
    """Up to where each turn was given which messages."""

    async def live(self, turns: int) -> None:
        started = await self.desk.submit(self.key)
        for n in range(turns):
            started = await self._turn(started, folds=n % 9 == 4)

    async def _turn(self, started: Committed, *, folds: bool) -> Committed:
        assert started.head is not None
        held = holding(started)
        begun = next(e.seq for e in started.entries if e.turn_id == held.turn_id)
        await self._take(started.entries)
        steps = 1 + self.random.randrange(3)
        for step in range(steps):
            kinds = self.random.choices("rrtdf" if folds else "rtd", k=self.random.randrange(6))
            kinds += "f" * (folds and step == 0)
            said = [self._event(kind, held, begun) for kind in kinds]
            await self._take((await self.desk.store.append(held, step, said)).entries)
            await self._beside()
        await self.desk.submit(self.key, run=False)
        closing = [self.desk.reply(held, "end")] * self.random.randrange(2)
        return await self.desk.finish(held, step=steps, closing=closing, successor=runner())

    async def _take(self, entries: Sequence[Entry]) -> None:
        self.history = self.history.extended(entries).bounded(self.most)
        fresh = await read_history(self.desk.store, self.key, entries_max=self.most)
        assert self.history.messages == fresh.messages
        self.given.append(((await self.desk.look(self.key)).head.head, fresh.messages))

    def _event(self, kind: str, held: Holding, begun: int) -> Event:
        match kind:
            case "r":
                return self.desk.reply(held, f"{self.random.random()}")
            case "t":
                return self.desk.outcome(held)
            case "d":
                return self.desk.delta(held, "x")
            case _:
                text = f"summary {self.random.random()}"
                return SessionSummarized(summary=text, upto_seq=Seq(begun - 1))

    async def _beside(self) -> None:
        """What others do meanwhile is nothing that was said."""
        for _ in range(self.random.randrange(4)):
            committed = await self.desk.submit(self.key, run=False)
            assert committed.turn is not None
            await self.desk.cancel(self.key, committed.turn.turn_id)
            await self.desk.update(self.key, title="t", retitle=True)


@pytest.mark.parametrize("most", [1, 3, 8])
@pytest.mark.parametrize("seed", range(4))
async def test_a_history_is_the_same_carried_read_afresh_and_of_the_whole_log(
    desk: Desk, seed: int, most: int
) -> None:
    carrier = Carrier(desk, random.Random(f"{seed} {most}"), most, await desk.open())

    await carrier.live(25)

    log = await desk.log(carrier.key)
    for upto, messages in carrier.given:
        again = await read_history(desk.store, carrier.key, upto=upto, entries_max=most)
        assert again.messages == messages
        assert History(log[:upto]).bounded(most).messages == messages
    assert any(summarized(messages) for _, messages in carrier.given)
    assert not all(summarized(messages) for _, messages in carrier.given)


@pytest.mark.parametrize("most", [1, 3, 8])
async def test_the_last_summary_is_given_however_much_was_said_since(desk: Desk, most: int) -> None:
    carrier = Carrier(desk, random.Random(0), most, await desk.open())
    held = await desk.run(carrier.key)
    told = [SessionSummarized(summary=text, upto_seq=Seq(1)) for text in ("before", "all so far")]
    await desk.store.append(held, 0, told)
    await desk.store.append(held, 1, [desk.reply(held, f"{n}") for n in range(20)])

    fresh = await read_history(desk.store, carrier.key, entries_max=most)

    newest = [f"{n}" for n in range(20 - most, 20)]
    assert [message.text for message in fresh.messages] == ["all so far", *newest]


def summarized(messages: Sequence[Message]) -> bool:
    return any(message.role == "system" for message in messages)
