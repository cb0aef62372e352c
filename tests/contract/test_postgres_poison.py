"""A value that PostgreSQL cannot take fails alone, at once, and is not told to the log."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from tests.contract.desk import ADMIN, ANN, Desk, holding, once
from tests.contract.nodes import nodes
from tests.servers.databases import database

from sessile.core.commands import AnswerApproval, CancelTurn, CloseSession
from sessile.core.context import Holding
from sessile.core.errors import SessileError
from sessile.core.events import MessageAdded, TurnProgress
from sessile.core.ids import CallId, Fence, MessageId, SessionKey, TurnId
from sessile.ports.store import Committed

POISONS = {"NUL": "secret\0", "surrogate": "secret\ud800"}


class Victim:
    """A session with a turn that runs, and one that waits."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    async def made(self) -> "Victim":
        self.key = await self.desk.open()
        self.held = await self.desk.run(self.key)
        queued = await self.desk.submit(self.key, "waits")
        assert queued.turn is not None
        self.queued = queued.turn.turn_id
        return self


Ask = Callable[[Victim, str], Coroutine[Any, Any, Committed]]
FIELDS: dict[str, Ask] = {
    "title": lambda it, bad: it.desk.open_as(title=bad),
    "assistant": lambda it, bad: it.desk.open_as(assistant=bad),
    "metadata": lambda it, bad: it.desk.open_as(metadata={bad: {"k": bad}}),
    "exclusive key": lambda it, bad: it.desk.open_as(exclusive_key=bad),
    "idempotency key of an open": lambda it, bad: it.desk.open_as(once=once(bad, "open")),
    "new title": lambda it, bad: it.desk.update(it.key, title=bad, retitle=True),
    "new metadata": lambda it, bad: it.desk.update(it.key, metadata={bad: bad}),
    "idempotency key": lambda it, bad: it.desk.submit(it.key, once=once(bad, it.key.session_id)),
    "request hash": lambda it, bad: it.desk.submit(
        it.key, once=once("k", it.key.session_id, body=bad)
    ),
    "input": lambda it, bad: it.desk.submit(it.key, bad),
    "turn id of a submit": lambda it, bad: it.desk.submit(it.key, turn_id=TurnId(bad)),
    "edited input": lambda it, bad: it.desk.edit(it.key, it.queued, bad),
    "turn id of an edit": lambda it, bad: it.desk.edit(it.key, TurnId(bad), "edited"),
    "turn id of a cancel": lambda it, bad: it.desk.cancel(it.key, TurnId(bad)),
    "cancel reason": lambda it, bad: it.desk.store.transact(
        it.key, CancelTurn(principal=ANN, turn_id=it.queued, reason=bad)
    ),
    "close reason": lambda it, bad: it.desk.store.transact(
        it.key, CloseSession(principal=ANN, reason=bad)
    ),
    "grant": lambda it, bad: it.desk.grant(it.key, bad, principal=ADMIN),
    "call id of an answer": lambda it, bad: it.desk.store.transact(
        it.key, AnswerApproval(principal=ANN, call_id=CallId(bad), granted=True)
    ),
    "session id": lambda it, bad: it.desk.submit(
        SessionKey(it.key.tenant_id, bad)  # type: ignore[arg-type]
    ),
    "tenant id": lambda it, bad: it.desk.submit(
        SessionKey(bad, it.key.session_id)  # type: ignore[arg-type]
    ),
    "tool": lambda it, bad: it.desk.store.append(it.held, 0, [it.desk.call(it.held, bad)]),
    "tool with a grant": lambda it, bad: it.desk.store.append(
        it.held, 0, [it.desk.call(it.held, bad, grant=bad)]
    ),
    "delta": lambda it, bad: it.desk.append(it.held, 0, bad),
    "message id": lambda it, bad: it.desk.store.append(
        it.held,
        0,
        [
            MessageAdded(
                turn_id=it.held.turn_id,
                message_id=MessageId(bad),
                role="assistant",
                parts=({"type": bad, bad: bad},),
            )
        ],
    ),
    "output": lambda it, bad: it.desk.finish(it.held, output=bad),
    "error": lambda it, bad: it.desk.finish(it.held, end="failed", error={bad: bad}),
    "reason of an end": lambda it, bad: it.desk.finish(it.held, end="interrupted", reason=bad),
}


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with database() as dsn, nodes(dsn, 1) as (desk,):
        yield desk


async def asked_beside(desk: Desk, ask: Coroutine[Any, Any, Any], good: list[Holding]) -> Any:
    """Its answer, or what it failed with, in a batch with others, which must be answered."""
    others = [desk.append(each, 0, "good") for each in good[::2]]
    others += [desk.submit(each.key, "good") for each in good[1::2]]
    async with asyncio.timeout(6):
        *answers, answer = await asyncio.gather(*others, ask, return_exceptions=True)
    assert [type(each) for each in answers] == [Committed] * len(others)
    return answer


async def goods(desk: Desk) -> list[Holding]:
    opens = await asyncio.gather(*(desk.open_as(first=desk.first()) for _ in range(16)))
    return [holding(each) for each in opens]


@pytest.mark.parametrize("field", FIELDS)
async def test_a_text_that_is_none_fails_alone(
    desk: Desk, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    for bad in POISONS.values():
        good, victim = await goods(desk), await Victim(desk).made()
        before = await desk.everything(victim.key)

        answer = await asked_beside(desk, FIELDS[field](victim, bad), good)

        if isinstance(answer, Exception):
            assert await desk.everything(victim.key) == before
    said = [str(getattr(record, "said", "")) for record in caplog.records]
    assert not any("secret" in each for each in said)


@pytest.mark.parametrize(
    "field",
    [
        *("title", "metadata", "new title", "new metadata", "input", "edited input"),
        *("cancel reason", "close reason", "tool", "delta", "output", "error", "reason of an end"),
    ],
)
async def test_a_text_that_is_no_name_is_kept_as_the_log_has_it(desk: Desk, field: str) -> None:
    for bad in POISONS.values():
        victim = await Victim(desk).made()

        answer = await FIELDS[field](victim, bad)

        assert any("secret\ufffd" in entry.body for entry in answer.entries)


NUMBERS: dict[str, Ask] = {
    "tokens": lambda it, _: it.desk.store.append(
        it.held, 0, [TurnProgress(turn_id=it.held.turn_id, tokens_used=2**63)]
    ),
    "tokens of a decided append": lambda it, _: it.desk.store.append(
        it.held,
        0,
        [
            TurnProgress(turn_id=it.held.turn_id, tokens_used=2**63),
            it.desk.call(it.held, grant="export"),
        ],
    ),
    "step": lambda it, _: it.desk.append(it.held, 2**31, "a"),
    "fence": lambda it, _: it.desk.append(replace(it.held, fence=Fence(2**63)), 0, "a"),
}


@pytest.mark.parametrize("field", NUMBERS)
async def test_a_number_that_is_too_large_fails_alone(desk: Desk, field: str) -> None:
    good, victim = await goods(desk), await Victim(desk).made()
    before = await desk.everything(victim.key)

    answer = await asked_beside(desk, NUMBERS[field](victim, ""), good)

    assert isinstance(answer, Exception)
    assert await desk.everything(victim.key) == before
    await desk.append(victim.held, 0, "it goes on")


@pytest.mark.parametrize("bad", POISONS.values(), ids=POISONS)
async def test_a_read_by_a_name_that_is_none_fails_or_finds_nothing(desk: Desk, bad: Any) -> None:
    tenant_id = (await desk.open()).tenant_id
    reads = [
        desk.store.find(SessionKey(tenant_id, bad)),
        desk.store.turns(SessionKey(tenant_id, bad), limit=1),
        desk.store.read(SessionKey(tenant_id, bad), limit=1),
        desk.store.sessions(bad, limit=1),
        desk.store.sessions(tenant_id, user_id=bad, limit=1),
        desk.store.sessions(tenant_id, before=bad, limit=1),
        desk.store.sweep(due_max=1, assistants=["support"], following=[SessionKey(bad, bad)]),
    ]

    async with asyncio.timeout(2):
        answers = await asyncio.gather(*reads, return_exceptions=True)

    assert not any(isinstance(each, SessileError) for each in answers), (
        "it is no trouble of storage"
    )
    assert await desk.store.sessions(tenant_id, limit=1)
