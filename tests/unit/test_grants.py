"""What a session may use: giving and taking grants, and calls that need one."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.machines import (
    ADMIN,
    KEY,
    LEASE_MS,
    NO_SUCH_SESSION,
    OTHER_NODE,
    OUTSIDERS,
    OWNER,
    Ledger,
    Row,
    refusal_of,
)

from sessile.core.attempts import authorised
from sessile.core.commands import CloseSession, Decision, SetGrants, View
from sessile.core.context import Principal
from sessile.core.errors import Forbidden, LeaseLost, SessionClosed
from sessile.core.events import (
    SessionGranted,
    SessionRevoked,
    ToolInterrupted,
    ToolRefused,
    ToolStarted,
)
from sessile.core.ids import CallId
from sessile.core.policy import needs_grant

CLOSE = CloseSession(principal=OWNER)


@pytest.fixture
def ledger() -> Ledger:
    """One session, which is idle."""
    ledger = Ledger()
    ledger.open()
    return ledger


@pytest.fixture
def row(ledger: Ledger) -> Row:
    return ledger.rows[KEY]


def give(ledger: Ledger, *grants: str) -> Decision:
    return ledger.transact(KEY, SetGrants(principal=ADMIN, grants=grants))


def granted(row: Row) -> tuple[str, ...]:
    assert row.session is not None
    return row.session.grants


def needing(ledger: Ledger) -> ToolStarted:
    """A call of the running turn that needs a grant."""
    return ledger.call(ledger.holding().turn_id, grant="refund")


# Giving and taking --------------------------------------------------------------------------------


def test_the_grants_of_a_session_are_those_that_were_set(ledger: Ledger, row: Row) -> None:
    give(ledger, "refund", "export")
    before = row.head.head

    give(ledger, "manage", "export")

    assert granted(row) == ("export", "manage")
    assert row.events[before:] == [
        SessionGranted(grant="manage", by=ADMIN.user_id),
        SessionRevoked(grant="refund", by=ADMIN.user_id),
    ]


def test_setting_the_same_grants_writes_nothing(ledger: Ledger, row: Row) -> None:
    give(ledger, "refund", "export")
    before = row.head

    give(ledger, "export", "refund")

    assert row.head == before


def test_a_grant_that_is_named_twice_is_given_once(ledger: Ledger, row: Row) -> None:
    give(ledger, "refund", "refund")

    assert row.kinds == ["session.opened", "session.granted"]


def test_setting_no_grants_takes_all(ledger: Ledger, row: Row) -> None:
    give(ledger, "refund", "export")

    give(ledger)

    assert granted(row) == ()


@pytest.mark.parametrize(
    "grants",
    [("export",), ("export", "note"), ("export", "refund", "note"), ("money",), ()],
)
def test_who_may_change_some_grants_alone_leaves_the_others_as_they_are(
    grants: tuple[str, ...], ledger: Ledger, row: Row
) -> None:
    """Judged in the transaction: what an operator took meanwhile is not given back."""
    give(ledger, "export", "refund")
    may = frozenset({"refund", "note"})
    before = row.head
    command = SetGrants(principal=OWNER, grants=grants, changeable=may)

    if "export" in grants:
        ledger.transact(KEY, command)
        assert granted(row) == tuple(sorted(grants))
        return
    with pytest.raises(Forbidden) as refused:
        ledger.transact(KEY, command)
    assert refused.value.details == {"grants": sorted({*grants, "export"} - may)}
    assert row.head == before


def test_a_closed_session_gets_no_grants(ledger: Ledger, row: Row) -> None:
    ledger.transact(KEY, CLOSE)
    before = row.head

    with pytest.raises(SessionClosed):
        give(ledger, "refund")

    assert row.head == before


@pytest.mark.parametrize("outsider", OUTSIDERS)
def test_g11_an_outsider_gives_nothing(outsider: Principal, ledger: Ledger, row: Row) -> None:
    command = SetGrants(principal=outsider, grants=("refund",))

    assert refusal_of(ledger, KEY, command) == NO_SUCH_SESSION
    assert granted(row) == ()


def test_grants_are_set_while_a_turn_runs_and_take_no_step_of_it(ledger: Ledger, row: Row) -> None:
    ledger.run()
    lease = row.lease

    give(ledger, "refund")

    assert row.lease == lease


# Calls that need a grant --------------------------------------------------------------------------


def test_a_call_starts_while_the_session_has_its_grant(ledger: Ledger, row: Row) -> None:
    give(ledger, "refund")
    holding = ledger.run()
    call = needing(ledger)

    assert ledger.append(holding, 0, call)

    assert row.events[-1] == call
    assert row.lease.step == 1


@pytest.mark.parametrize("had", [False, True])
@pytest.mark.parametrize("parent", [None, CallId("call_outer")])
def test_g12_a_call_without_its_grant_is_refused_in_the_log_with_the_reason(
    had: bool, parent: CallId | None, ledger: Ledger, row: Row
) -> None:
    if had:
        give(ledger, "refund")
    holding = ledger.run()
    give(ledger, "export")
    call = replace(needing(ledger), parent_call_id=parent)

    ledger.append(holding, 0, call)

    refused = row.events[-1]
    assert refused == ToolRefused(
        turn_id=call.turn_id,
        call_id=call.call_id,
        message_id=call.message_id,
        name=call.name,
        arguments=call.arguments,
        verdict="needs_grant",
        reason=needs_grant("refund"),
        parent_call_id=parent,
    )
    assert "'refund'" in refused.reason
    assert "tool.started" not in row.kinds
    assert row.lease.step == 1


def test_what_is_appended_beside_a_refused_call_is_written_as_it_is(
    ledger: Ledger, row: Row
) -> None:
    give(ledger, "export")
    holding = ledger.run()
    reply, free = ledger.message(holding.turn_id), ledger.call(holding.turn_id)
    exporting = ledger.call(holding.turn_id, grant="export")

    ledger.append(holding, 0, reply, needing(ledger), exporting, free)

    assert [row.events[-4], *row.events[-2:]] == [reply, exporting, free]
    assert row.kinds[-3] == "tool.refused"
    assert row.lease.step == 1


def test_who_is_shown_no_session_starts_no_call_that_needs_a_grant(ledger: Ledger) -> None:
    holding = ledger.run()
    free, call = ledger.call(holding.turn_id), needing(ledger)

    written = authorised(View(now_ms=0), (free, call))

    assert [event.kind for event in written] == ["tool.started", "tool.refused"]


@pytest.mark.parametrize("has", [False, True])
@pytest.mark.parametrize("has_later", [False, True])
def test_a_call_that_is_sent_again_starts_once_whatever_was_granted_since(
    has: bool, has_later: bool, ledger: Ledger, row: Row
) -> None:
    give(ledger, *(("refund",) if has else ()))
    holding = ledger.run()
    call = needing(ledger)
    ledger.append(holding, 0, call)
    give(ledger, *(("refund",) if has_later else ()))
    before = row.head, row.lease

    assert not ledger.append(holding, 0, call)

    assert (row.head, row.lease) == before
    assert row.kinds.count("tool.started" if has else "tool.refused") == 1


def lost(ledger: Ledger) -> None:
    ledger.now_ms += LEASE_MS
    ledger.start(OTHER_NODE)


@pytest.mark.parametrize(
    "meanwhile",
    [
        lost,
        lambda ledger: ledger.finish(ledger.holding()),
        lambda ledger: ledger.transact(KEY, CLOSE),
    ],
    ids=["taken over", "ended", "closed"],
)
def test_g7_an_old_fence_starts_no_call(
    meanwhile: Callable[[Ledger], object], ledger: Ledger, row: Row
) -> None:
    give(ledger, "refund")
    holding = ledger.run()
    call = needing(ledger)
    meanwhile(ledger)
    before = row.head, row.lease

    with pytest.raises(LeaseLost):
        ledger.append(holding, 0, call)

    assert (row.head, row.lease) == before


@pytest.mark.parametrize("step", [1, 2])
def test_a_call_whose_step_does_not_follow_does_not_start(step: int, ledger: Ledger) -> None:
    holding = ledger.run()

    with pytest.raises(LeaseLost):
        ledger.append(holding, step, needing(ledger))


def test_appends_go_on_after_a_call_was_refused(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    call = needing(ledger)
    ledger.append(holding, 0, call)

    assert ledger.append(holding, 1, ledger.message(holding.turn_id))
    with pytest.raises(LeaseLost):
        ledger.append(holding, 0, call)

    assert row.kinds.count("tool.refused") == 1


@pytest.mark.parametrize("has", [False, True])
def test_a_call_that_is_first_written_with_the_end_is_held_to_its_grant_and_has_one_outcome(
    has: bool, ledger: Ledger, row: Row
) -> None:
    """Its append did not get through: the call never ran, and the end gives it its outcome."""
    give(ledger, *(("refund",) if has else ()))
    holding = ledger.run()
    call, reply = needing(ledger), ledger.message(holding.turn_id)
    given_up = ToolInterrupted(
        turn_id=call.turn_id,
        call_id=call.call_id,
        message_id=call.message_id,
        name=call.name,
        arguments=call.arguments,
        reason="The turn ended while this call ran.",
    )

    ledger.finish(holding, closing=(call, reply, given_up))

    closing = row.events[-4 if has else -3 : -1]
    if has:
        assert closing == [call, reply, given_up]
    else:
        refused, said = closing
        assert isinstance(refused, ToolRefused)
        assert (refused.call_id, refused.verdict) == (call.call_id, "needs_grant")
        assert said == reply
