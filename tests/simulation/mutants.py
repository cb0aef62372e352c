"""More faults that are planted: of the PostgreSQL store, and of the runtime. `MUTANTS` has all."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from sqlite3 import OperationalError
from typing import Any
from unittest.mock import patch

from tests.simulation.database import Answer, Backend, Database
from tests.simulation.faults import FAULTS, FenceRemoved, StepsUnchecked
from tests.simulation.postgres import Connection
from tests.simulation.sqlite import File
from tests.simulation.world import Plant

from sessile.adapters.memory import MemoryStore
from sessile.adapters.postgres.transaction import Transaction
from sessile.adapters.sql.gathered import Gathered, Holder
from sessile.adapters.sql.jobs import Appended
from sessile.adapters.sqlite.writer import Writer
from sessile.core import attempts
from sessile.core.commands import Command, View
from sessile.core.events import Entry, Event, MessageAdded, MessageDelta
from sessile.core.ids import SessionKey, UserId
from sessile.core.session import SessionHead, Turn
from sessile.ports.store import Committed, Sweep
from sessile.runtime.draft import Draft
from sessile.runtime.feed import Reader
from sessile.runtime.recovery import Remains

# The PostgreSQL store ---------------------------------------------------------------------------


class ComparesNoFence(Database):
    """An append grows whatever turn runs."""

    def holds(self, job: Appended) -> bool:
        kept = self.memory._kept.get(job.key)
        if kept is None:
            return False
        return kept.head.running_turn_id is not None and kept.head.status == "active"


class ComparesNoStep(Database):
    """An append that is asked for again is written again."""

    def holds(self, job: Appended) -> bool:
        return super().holds(job) or super().holds(job._replace(step=job.step + 1))


class ForgetsAnswers(Database):
    """Idempotency keys are not written with what they are the keys of."""

    def commit(self, backend: Backend) -> None:
        backend.answers.clear()
        super().commit(backend)


class KeepsInputs(Database):
    """The row of a turn that was edited keeps its input."""

    def write(self, backend: Backend, gathered: Gathered, answer: Answer) -> None:
        gathered.turns_edited.clear()
        super().write(backend, gathered, answer)


class ForgetsForks(Database):
    """That a session is a fork is not written with it."""

    def commit(self, backend: Backend) -> None:
        backend.forks.clear()
        super().commit(backend)


class SharesKeys(Database):
    """An exclusive key may be held by several."""

    def holder(self, backend: Backend, place: Holder) -> SessionKey | None:
        return None


class KeepsAnswers(Database):
    """What was answered to the keys of a session stays when it is deleted."""

    def delete(self, backend: Backend, key: SessionKey, user_id: UserId) -> None:
        answers = dict(backend.answers)
        super().delete(backend, key, user_id)
        backend.answers = answers


class UnlocksEarly(Database):
    """The locks are let go of when the rows are written, not when they are committed."""

    def write(self, backend: Backend, gathered: Gathered, answer: Answer) -> None:
        def written(came_to: Any) -> None:
            self.free(backend)
            answer(came_to)

        super().write(backend, gathered, written)


class CommitsLess(Database):
    """What a transaction changed of turns is not committed with its entries."""

    def commit(self, backend: Backend) -> None:
        for key, draft in backend.drafts.items():
            if draft is not None and (kept := self.memory._kept.get(key)) is not None:
                draft.turns.update(kept.turns)
        super().commit(backend)


@contextmanager
def never_stands() -> Iterator[None]:
    """A commit that nobody saw counts as not done."""

    async def stands(*_: Any) -> None:
        return None

    with patch.object(Transaction, "stands", stands):
        yield


@contextmanager
def deletes_again() -> Iterator[None]:
    """A delete that nobody saw committed is not looked for."""
    original = Transaction.stands

    async def stands(self: Transaction, job: Any, unseen: Committed | None) -> Committed | None:
        seen = None if unseen is not None and unseen.deleted else unseen
        return await original(self, job, seen)

    with patch.object(Transaction, "stands", stands):
        yield


@contextmanager
def always_done() -> Iterator[None]:
    """A commit that nobody saw counts as done."""
    original = Connection.execute

    async def execute(self: Connection, sql: str) -> None:
        try:
            await original(self, sql)
        except (OSError, TimeoutError):
            if not sql.startswith("COMMIT"):
                raise

    with patch.object(Connection, "execute", execute):
        yield


@contextmanager
def believes_its_memory() -> Iterator[None]:
    """What a lane remembers of a session is used though another node has written since."""
    original = Transaction.lock

    async def lock(self: Transaction, jobs: Any) -> None:
        await original(self, jobs)
        for key, hot in self._hot.items():
            known = self._batch._known.get(key)
            if known is not None:
                known.session, known.turns = hot.session, dict(hot.turns)

    with patch.object(Transaction, "lock", lock):
        yield


# The SQLite store, and any store ----------------------------------------------------------------


@contextmanager
def remembers_what_failed() -> Iterator[None]:
    """What is known of sessions is kept when the transaction is rolled back."""

    def roll_back(self: Writer, original: Any = Writer._roll_back) -> None:
        hot = dict(self._hot)
        original(self)
        self._hot.update(hot)

    with patch.object(Writer, "_roll_back", roll_back):
        yield


@contextmanager
def always_committed() -> Iterator[None]:
    """A commit for which there is no room counts as done."""
    original = File.execute

    def execute(self: File, sql: str) -> None:
        try:
            original(self, sql)
        except OperationalError:
            if sql != "COMMIT":
                raise
            self.database.roll_back(self.backend)

    with patch.object(File, "execute", execute):
        yield


class ForgetsKeys(MemoryStore):
    """What was answered to an idempotency key is not kept."""

    async def transact(self, key: SessionKey, command: Command) -> Committed:
        self._remembered.clear()
        return await super().transact(key, command)


class SweepsTheQueuesOnly(MemoryStore):
    """Turns of lost nodes are due for nobody."""

    async def sweep(self, **how: Any) -> Sweep:
        found = await super().sweep(**how)
        due = (key for key in found.due if self._kept[key].head.running_turn_id is None)
        return replace(found, due=tuple(due))


# The runtime and its rules ----------------------------------------------------------------------


@contextmanager
def closing_is(closing: Callable[[Remains, tuple[Event, ...]], Sequence[Event]]) -> Iterator[None]:
    """What an attempt writes first, after one that was lost."""
    original = Remains.closing

    def closed(self: Remains, turn_id: Any) -> tuple[Event, ...]:
        return tuple(closing(self, original(self, turn_id)))

    with patch.object(Remains, "closing", closed):
        yield


def leaves_it_open(_: Remains, events: Sequence[Event]) -> Sequence[Event]:
    return [event for event in events if event.kind != "message.reset"]


def calls_again(remains: Remains, events: Sequence[Event]) -> Sequence[Event]:
    for event in events:
        remains.calls.outcomes.pop(getattr(event, "call_id", ""), None)  # type: ignore[call-overload]
    return [event for event in events if event.kind != "tool.interrupted"]


@contextmanager
def steers_again() -> Iterator[None]:
    """What was steered in is delivered each time somebody looks."""
    original = Remains._add

    def add(self: Remains, event: Event) -> None:
        kept = dict(self.steers)
        original(self, event)
        if isinstance(event, MessageAdded) and event.steer_id is not None:
            self.steers = kept

    with patch.object(Remains, "_add", add):
        yield


@contextmanager
def completes_the_cancelled() -> Iterator[None]:
    """A turn that has done its work is completed, though it was to be cancelled."""
    original = attempts._terminal

    def terminal(turn: Turn, command: Any, *, cancelled: bool) -> Event:
        return original(turn, command, cancelled=cancelled and command.end != "completed")

    with patch.object(attempts, "_terminal", terminal):
        yield


@contextmanager
def last_come_first() -> Iterator[None]:
    """The queue is served from its end."""

    def queue(view: View) -> list[Turn]:
        waits = (turn for turn in view.turns.values() if turn.status == "queued")
        return sorted(waits, key=lambda turn: -turn.position)

    with patch("sessile.core.attempts.queue", queue):
        yield


@contextmanager
def closes_over_the_queue() -> Iterator[None]:
    """A close leaves what waits where it is."""

    def displace(view: View, head: SessionHead, **_: Any) -> tuple[Event, ...]:
        return ()

    with patch("sessile.core.decide.displace", displace):
        yield


@contextmanager
def offsets_stand() -> Iterator[None]:
    """A delta's offset is that of the delta before."""
    original = Draft.take

    def take(self: Draft) -> tuple[Event, ...]:
        events = original(self)
        if any(isinstance(event, MessageDelta) for event in events):
            self._offset = {"thinking": 0, "text": 0}
        return events

    with patch.object(Draft, "take", take):
        yield


@contextmanager
def reads_too_far() -> Iterator[None]:
    """A reader that is behind reads on from one entry too far."""
    original = Reader._unread

    async def unread(self: Reader) -> tuple[Entry, ...]:
        entries = await original(self)
        return entries[1:] if len(entries) > 2 else entries

    with patch.object(Reader, "_unread", unread):
        yield


@contextmanager
def jumps_to_the_end() -> Iterator[None]:
    """A reader's cursor goes to where the hint says the log is, not to what it was given."""
    original = Reader._unread

    async def unread(self: Reader) -> tuple[Entry, ...]:
        entries = await original(self)
        if entries and entries[-1].seq < self._tail.head - 3:
            return entries[-1:]
        return entries

    with patch.object(Reader, "_unread", unread):
        yield


POSTGRES: dict[str, Plant] = {
    "postgres: append compares no fence": Plant(memory=FenceRemoved, database=ComparesNoFence),
    "postgres: append compares no step": Plant(memory=StepsUnchecked, database=ComparesNoStep),
    "postgres: key not written with its turn": Plant(database=ForgetsAnswers),
    "postgres: input of an edited turn not written": Plant(database=KeepsInputs),
    "postgres: turns not written with their entries": Plant(database=CommitsLess),
    "postgres: locks let go of before the commit": Plant(database=UnlocksEarly),
    "postgres: unseen commit taken for lost": Plant(around=never_stands),
    "postgres: unseen commit taken for done": Plant(around=always_done),
    "postgres: memory of a lane not compared with the head": Plant(around=believes_its_memory),
    "postgres: keys left by a delete": Plant(database=KeepsAnswers),
    "postgres: unseen delete not looked for": Plant(around=deletes_again),
    "postgres: exclusive key held by several": Plant(database=SharesKeys),
    "postgres: fork not written with its session": Plant(database=ForgetsForks),
}
SQLITE: dict[str, Plant] = {
    "sqlite: key not written with its turn": Plant(database=ForgetsAnswers),
    "sqlite: turns not written with their entries": Plant(database=CommitsLess),
    "sqlite: memory kept of a batch that failed": Plant(around=remembers_what_failed),
    "sqlite: commit that failed taken for done": Plant(around=always_committed),
    "sqlite: keys left by a delete": Plant(database=KeepsAnswers),
}
MUTANTS: dict[str, Plant] = {
    **{name: replace(plant, protocol=plant.protocol or "memory") for name, plant in FAULTS.items()},
    **{name: replace(plant, protocol="postgres") for name, plant in POSTGRES.items()},
    **{name: replace(plant, protocol="sqlite") for name, plant in SQLITE.items()},
    "key not kept": Plant(memory=ForgetsKeys, protocol="memory"),
    "turns of lost nodes not swept": Plant(memory=SweepsTheQueuesOnly, protocol="memory"),
    "message of a lost attempt left open": Plant(around=lambda: closing_is(leaves_it_open)),
    "call of a lost attempt run again": Plant(around=lambda: closing_is(calls_again)),
    "steered input delivered again": Plant(around=steers_again),
    "cancelled turn completed": Plant(around=completes_the_cancelled),
    "queue served from its end": Plant(around=last_come_first),
    "queue left by a close": Plant(around=closes_over_the_queue),
    "offsets of deltas not counted on": Plant(around=offsets_stand),
    "reader reads on one entry too far": Plant(around=reads_too_far),
    "reader passes over what it was not given": Plant(around=jumps_to_the_end),
}
