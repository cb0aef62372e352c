"""What a session may use: giving and taking grants, and calls that need one."""

from collections.abc import Callable

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

from sessile.core.commands import CloseSession, Decision, SetGrants, StartCall
from sessile.core.context import Principal
from sessile.core.errors import Forbidden, LeaseLost, SessionClosed
from sessile.core.events import SessionGranted, SessionRevoked, ToolRefused

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


def start_call(ledger: Ledger, *, step: int = 0) -> StartCall:
    holding = ledger.holding()
    call = ledger.call(holding.turn_id)
    return StartCall(holding=holding, step=step, started=call, grant="refund")


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


@pytest.mark.parametrize("grants", [("export",), ("export", "refund", "note"), ("money",), ()])
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
    ledger.run()
    command = start_call(ledger)

    decision = ledger.transact(KEY, command)

    assert decision.events == (command.started,)
    assert row.events[-1] == command.started
    assert row.lease.step == 1


@pytest.mark.parametrize("had", [False, True])
def test_g12_a_call_without_its_grant_is_refused_in_the_log_with_the_reason(
    had: bool, ledger: Ledger, row: Row
) -> None:
    if had:
        give(ledger, "refund")
    ledger.run()
    give(ledger, "export")
    command = start_call(ledger)

    ledger.transact(KEY, command)

    call, refused = command.started, row.events[-1]
    assert isinstance(refused, ToolRefused)
    assert refused.verdict == "needs_grant"
    assert "'refund'" in refused.reason
    of_event = refused.turn_id, refused.call_id, refused.message_id, refused.name, refused.arguments
    assert of_event == (call.turn_id, call.call_id, call.message_id, call.name, call.arguments)
    assert "tool.started" not in row.kinds
    assert row.lease.step == 1


@pytest.mark.parametrize("has", [False, True])
@pytest.mark.parametrize("has_later", [False, True])
def test_a_call_that_is_sent_again_starts_once_whatever_was_granted_since(
    has: bool, has_later: bool, ledger: Ledger, row: Row
) -> None:
    give(ledger, *(("refund",) if has else ()))
    ledger.run()
    command = start_call(ledger)
    ledger.transact(KEY, command)
    give(ledger, *(("refund",) if has_later else ()))
    before = row.head, row.lease

    decision = ledger.transact(KEY, command)

    assert decision == Decision(repeated=True)
    assert (row.head, row.lease) == before


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
    ledger.run()
    command = start_call(ledger)
    meanwhile(ledger)
    before = row.head, row.lease

    with pytest.raises(LeaseLost):
        ledger.transact(KEY, command)

    assert (row.head, row.lease) == before


@pytest.mark.parametrize("step", [1, 2])
def test_a_call_whose_step_does_not_follow_does_not_start(step: int, ledger: Ledger) -> None:
    ledger.run()

    with pytest.raises(LeaseLost):
        ledger.transact(KEY, start_call(ledger, step=step))


def test_appends_go_on_after_a_call_was_started(ledger: Ledger, row: Row) -> None:
    holding = ledger.run()
    command = start_call(ledger)
    ledger.transact(KEY, command)

    assert ledger.append(holding, 1, ledger.message(holding.turn_id))
    with pytest.raises(LeaseLost):
        ledger.transact(KEY, command)

    assert row.kinds.count("tool.refused") == 1
