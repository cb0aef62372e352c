"""What a tenant and a user may have: refused before anything is written, by the limit's name."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.doubles import ManualClock
from tests.runtime.agents import waits
from tests.runtime.rig import ANN, BOB, House, virtual

from sessile.adapters.memory import MemoryStore
from sessile.core.context import Principal, TurnContext
from sessile.core.errors import LimitReached
from sessile.core.ids import SessionId, TenantId, UserId
from sessile.kit.assistant import Assistant
from sessile.runtime.attempts import ALONE, SignInAttempts
from sessile.runtime.limits import DAY_MS, Limits, read_file
from sessile.runtime.rates import Rates
from sessile.runtime.telemetry import Telemetry
from sessile.settings import Settings

EVE = Principal(tenant_id=TenantId("other"), user_id=UserId("eve"))


def refusals(rig: Any) -> dict[str, float]:
    (metric,) = rig.telemetry.limited.collect()
    return {
        each.labels["limit"]: each.value for each in metric.samples if each.name.endswith("_total")
    }


def entries(house: House) -> int:
    return sum(len(kept.log) for kept in house.memory._kept.values())


async def refused(house: House, work: Any) -> LimitReached:
    """By what it was refused; and then nothing was written, nor is remembered by any key."""
    before = entries(house), len(house.memory._remembered)
    with pytest.raises(LimitReached) as raised:
        await work
    assert (entries(house), len(house.memory._remembered)) == before
    assert raised.value.details == {"limit": raised.value.limit}
    assert raised.value.retry_after_seconds
    return raised.value


@virtual
async def test_a_session_too_many_is_refused(house: House) -> None:
    node = await house.node(waits(), sessions_user_max=2, sessions_tenant_max=3)
    first = await house.open(node, idempotency_key="k1")
    await house.open(node)

    refusal = await refused(house, house.open(node))
    assert refusal.limit == "sessions_user_max"
    assert (await refused(house, house.open(node, idempotency_key="k2"))).limit == refusal.limit
    assert await house.open(node, idempotency_key="k1") == first, "it was accepted once"
    await house.open(node, BOB)
    assert (await refused(house, house.open(node, BOB))).limit == "sessions_tenant_max"
    await house.open(node, EVE)
    assert refusals(node) == {"sessions_user_max": 2, "sessions_tenant_max": 1}
    await node.do(node.sessions.close(ANN, first))
    await house.open(node, BOB)


@virtual
async def test_an_exclusive_session_that_is_there_is_no_session_more(house: House) -> None:
    assistant = Assistant("one", exclusive=True)

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        return "done"

    node = await house.node(assistant, sessions_user_max=1)
    first = await house.open(node)

    assert await house.open(node) == first


@virtual
async def test_an_open_with_an_input_is_under_both_limits(house: House) -> None:
    node = await house.node(waits(), sessions_user_max=1)
    said = {"type": "message", "text": "hello"}
    await house.open(node)

    work = node.do(node.sessions.open_with(ANN, said))
    assert (await refused(house, work)).limit == "sessions_user_max"
    assert node.workers.running == 0, "the slot is free again"


@virtual
async def test_a_turn_too_many_is_refused_and_one_that_was_accepted_is_answered(
    house: House,
) -> None:
    until = asyncio.Event()
    node = await house.node(
        waits(until), turns_concurrent_max=1, queue_user_max=2, queue_tenant_max=3
    )
    session, his = await house.open(node), await house.open(node, BOB)
    await house.submit(node, session)
    kept = (await house.submit(node, session, idempotency_key="k1")).turn
    await house.submit(node, session)

    for more in ({}, {"idempotency_key": "k2"}):
        refusal = await refused(house, house.submit(node, session, **more))
        assert refusal.limit == "queue_user_max"
    again = await house.submit(node, session, idempotency_key="k1")
    assert (again.turn.turn_id, again.repeated) == (kept.turn_id, True)
    await house.submit(node, his, principal=BOB)
    refusal = await refused(house, house.submit(node, his, principal=BOB))
    assert refusal.limit == "queue_tenant_max"
    until.set()
    await house.quiet()
    await house.submit(node, session)


def spends(tokens: int) -> Assistant:
    assistant = Assistant("spends")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        await turn.progress(tokens_used=tokens)
        return "done"

    return assistant


@virtual
async def test_tokens_of_a_day_are_counted_once_and_are_fresh_after_5_seconds(
    house: House,
) -> None:
    node = await house.node(spends(60), tokens_day_user_max=100, tokens_day_tenant_max=150)
    session, his = await house.open(node), await house.open(node, BOB)

    async def spend(session_id: SessionId, who: Principal = ANN) -> None:
        turn = (await house.submit(node, session_id, principal=who)).turn
        await house.ended(session_id, turn.turn_id)
        await house.later(5.1)

    reads = house.gate.count("tokens")
    await spend(session)
    await house.submit(node, session)
    await house.submit(node, session)
    await house.quiet()
    assert house.gate.count("tokens") == reads + 2
    await house.later(5.1)

    refusal = await refused(house, house.submit(node, session))
    assert refusal.limit == "tokens_day_user_max"
    assert refusal.retry_after_seconds is not None
    assert refusal.retry_after_seconds == (DAY_MS - house.clock.now_ms() % DAY_MS) // 1000 + 1
    refusal = await refused(house, house.submit(node, his, principal=BOB))
    assert refusal.limit == "tokens_day_tenant_max"


class Spent:
    """A store in which ann has used 100 tokens, in every day."""

    def __init__(self) -> None:
        self.since_ms = list[int]()

    async def tokens(self, tenant_id: TenantId, *, since_ms: int) -> dict[UserId, int]:
        self.since_ms.append(since_ms)
        return {UserId("ann"): 100}


@pytest.mark.anyio
async def test_the_next_day_is_counted_anew() -> None:
    clock, store = ManualClock(now_ms=DAY_MS - 1_000), Spent()
    some = limits(clock, tokens_day_user_max=100, store=store)
    refusal = await some.on_submit(ANN)
    assert refusal is not None
    assert refusal.retry_after_seconds == 2

    clock.advance(milliseconds=1_000)
    await some.on_submit(ANN)
    await some.on_submit(ANN)

    assert store.since_ms == [0, DAY_MS]


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"tokens_day_tenant_max": 101}, None),
        ({"tokens_day_user_max": 101}, None),
        ({"tokens_day_user_max": 1}, "tokens_day_user_max is 1: try again in 86401 s"),
        ({"tokens_day_tenant_max": 100}, "tokens_day_tenant_max is 100: try again in 86401 s"),
    ],
)
@pytest.mark.anyio
async def test_of_tokens_a_limit_that_is_not_set_is_none(
    limit: dict[str, int], told: str | None
) -> None:
    some = limits(ManualClock(DAY_MS), store=Spent(), **limit)

    refusal = await some.on_submit(ANN)

    assert (None if refusal is None else str(refusal)) == told


@pytest.mark.anyio
async def test_while_tokens_are_read_others_do_not_wait() -> None:
    class Slow(Spent):
        async def tokens(self, tenant_id: TenantId, *, since_ms: int) -> dict[UserId, int]:
            asked.set()
            await read.wait()
            return await super().tokens(tenant_id, since_ms=since_ms)

    asked, read = asyncio.Event(), asyncio.Event()
    some = limits(ManualClock(), tokens_day_user_max=1, store=Slow())
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(some.on_submit(ANN))
        await asked.wait()

        assert await some.on_submit(ANN) is None

        read.set()
    assert first.result() is not None
    assert await some.on_submit(ANN) is not None


def limits(clock: ManualClock, *, store: Any = None, **settings: Any) -> Limits:
    return Limits(
        store=store or MemoryStore(clock=clock),
        clock=clock,
        settings=Settings(**settings),
        telemetry=Telemetry(),
    )


def test_requests_of_a_minute_are_counted_by_user_and_by_tenant() -> None:
    clock = ManualClock()
    some = limits(clock, requests_minute_user_max=3, requests_minute_tenant_max=4)
    for _ in range(3):
        some.count_request(ANN)

    with pytest.raises(LimitReached) as raised:
        some.count_request(ANN)
    assert raised.value.limit == "requests_minute_user_max"
    some.count_request(BOB)
    with pytest.raises(LimitReached, match="requests_minute_tenant_max"):
        some.count_request(BOB)
    some.count_request(EVE)
    assert raised.value.retry_after_seconds is not None
    clock.advance(milliseconds=raised.value.retry_after_seconds * 1000)
    some.count_request(ANN)


def test_what_is_refused_leaves_no_name_behind() -> None:
    """A service asks for whom it likes, and a stranger signs in as anybody."""
    some = limits(ManualClock(), requests_minute_tenant_max=4)
    attempts = SignInAttempts(ManualClock(), attempts_max=1)
    for n in range(1_000):
        with suppress(LimitReached):
            some.count_request(replace(ANN, user_id=UserId(f"user {n}")))
        with suppress(LimitReached):
            attempts.check(ANN.tenant_id, UserId(f"user {n}"), "203.0.113.9")

    assert len(some._rates._counts) == 4 + 1
    assert len(attempts._rates._counts) == 2 * ALONE + 1


@pytest.mark.parametrize(
    ("first", "then", "same"),
    [
        ("203.0.113.9", "203.0.113.9", True),
        ("203.0.113.9", "203.0.113.8", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("a socket", "a socket", True),
        ("a socket", "another", False),
    ],
)
def test_who_may_not_try_to_sign_in_again_comes_from_the_same_network(
    first: str, then: str, same: bool
) -> None:
    attempts = SignInAttempts(ManualClock(600_000), attempts_max=1)
    attempts.check(ANN.tenant_id, ANN.user_id, first)
    attempts.check(ANN.tenant_id, BOB.user_id, first)

    refusal: LimitReached | None = None
    try:
        attempts.check(ANN.tenant_id, ANN.user_id, then)
    except LimitReached as refused:
        refusal = refused

    assert (refusal is not None) == same
    assert refusal is None or (refusal.limit, refusal.retry_after_seconds) == (
        "sign_in_attempts_max",
        120,
    )


@pytest.mark.parametrize("start_ms", [0, 1, 29_999, 59_999])
def test_after_the_time_that_is_told_there_is_room_and_never_for_more(start_ms: int) -> None:
    rates, now_ms, hits = Rates(), 600_000 + start_ms, list[int]()
    for _ in range(400):
        wait_ms = rates.wait("ann", most=10, now_ms=now_ms) * 1000
        assert rates.wait("ann", most=10, now_ms=now_ms + wait_ms) == 0
        rates.count("ann", now_ms=now_ms + wait_ms)
        hits.append(now_ms + wait_ms)
        now_ms += wait_ms or 137
    # A window between two minutes counts the one before it as if its requests were even.
    for at in hits:
        assert sum(at <= other < at + 60_000 for other in hits) <= 20
    minutes = (hits[-1] - hits[0]) / 60_000
    assert len(hits) / minutes <= 11.5


@pytest.mark.parametrize(("now_ms", "seconds"), [(600_000, 75), (660_000, 15), (674_500, 1)])
def test_the_time_that_is_told_is_no_longer_than_needed(now_ms: int, seconds: int) -> None:
    rates = Rates()
    for _ in range(4):
        rates.count("ann", now_ms=600_000)

    assert rates.wait("ann", most=4, now_ms=now_ms) == seconds


def test_a_tenant_has_its_own_number_of_requests(tmp_path: Path) -> None:
    file = tmp_path / "limits.toml"
    file.write_text("[acme]\nrequests_minute_tenant_max = 1\n")
    some = limits(ManualClock(), limits_file=str(file), requests_minute_tenant_max=2)
    some.count_request(ANN)
    some.count_request(EVE)

    with pytest.raises(LimitReached) as raised:
        some.count_request(BOB)
    assert raised.value.limit == "requests_minute_tenant_max"
    some.count_request(EVE)


@virtual
async def test_a_tenant_has_its_own_number_of_sessions_and_of_turns(
    house: House, tmp_path: Path
) -> None:
    file = tmp_path / "limits.toml"
    file.write_text("[acme]\nsessions_user_max = 1\nqueue_user_max = 1\n")
    until = asyncio.Event()
    node = await house.node(waits(until), turns_concurrent_max=1, limits_file=str(file))

    for principal, many in ((EVE, 2), (ANN, 1)):
        for _ in range(many):
            session = await house.open(node, principal)
    assert (await refused(house, house.open(node))).limit == "sessions_user_max"
    await house.submit(node, session)
    await house.submit(node, session)
    assert (await refused(house, house.submit(node, session))).limit == "queue_user_max"
    until.set()


def test_who_is_silent_is_forgotten() -> None:
    rates = Rates()
    for user in range(100):
        rates.count(user, now_ms=60_000)

    rates.count("ann", now_ms=180_000)

    assert len(rates._counts) + len(rates._before) == 1


def test_the_file_of_tenants_is_read_again_and_a_bad_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, file = ManualClock(), tmp_path / "limits.toml"
    file.write_text("[acme]\nsessions_user_max = 7\n")
    some = limits(clock, limits_file=str(file), sessions_user_max=1)
    assert some.of(ANN.tenant_id).sessions_user_max == 7
    assert some.of(EVE.tenant_id).sessions_user_max == 1

    file.write_text("[acme]\nsessions_user_max = 0\n\n[other]\nsessions_user_max = 99\n")
    assert some.of(ANN.tenant_id).sessions_user_max == 7
    clock.advance(milliseconds=5_000)
    assert some.of(ANN.tenant_id).sessions_user_max == 0
    assert some.of(EVE.tenant_id).sessions_user_max == 99

    for bad in ("[acme", "acme = 3", "[acme]\nsessions = 1", "[acme]\nsessions_user_max = -1"):
        file.write_text(bad)
        clock.advance(milliseconds=5_000)
        assert some.of(EVE.tenant_id).sessions_user_max == 99
        with pytest.raises(ValueError, match="limits_file"):
            read_file(file, some._default)
    assert caplog.text.count("were not read") == 4
