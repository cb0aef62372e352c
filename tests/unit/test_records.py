"""Which acts are remembered, and as what."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.machines import ADMIN, KEY, TENANT

from sessile.core.commands import (
    AnswerApproval,
    CloseSession,
    Decision,
    DeleteSession,
    ExpireSession,
    SetGrants,
)
from sessile.core.events import ApprovalDenied
from sessile.core.ids import AuditId, CallId, Seq, TurnId, UserId
from sessile.core.notes import AuditRecord, Note
from sessile.core.records import record_of

NOTE = Note(audit_id=AuditId("aud_1"), request_id="req_1")
DENIED = ApprovalDenied(turn_id=TurnId("trn_1"), call_id=CallId("call_1"), by=None, unanswered=0)
DONE = Decision(events=(DENIED,))


def answer(granted: bool, **more: Any) -> AnswerApproval:
    return AnswerApproval(
        **{
            "principal": ADMIN,
            "call_id": CallId("call_1"),
            "granted": granted,
            "note": NOTE,
            **more,
        }
    )


@pytest.mark.parametrize("by", [None, UserId("desk")])
@pytest.mark.parametrize(
    ("command", "action", "details"),
    [
        (answer(True), "approval.granted", {"call_id": "call_1"}),
        (answer(False), "approval.denied", {"call_id": "call_1"}),
        (
            SetGrants(principal=ADMIN, grants=("b", "a"), note=NOTE),
            "grants.set",
            {"grants": ["b", "a"]},
        ),
        (DeleteSession(principal=ADMIN, note=NOTE), "session.deleted", {}),
        (ExpireSession(principal=ADMIN, head=Seq(1), note=NOTE), "session.expired", {}),
    ],
)
def test_an_act_is_remembered_with_who_did_it_and_which_service_asked(
    command: Any, action: str, details: dict[str, Any], by: UserId | None
) -> None:
    asked = replace(command, principal=replace(ADMIN, by=by))

    assert record_of(KEY, asked, DONE, now_ms=7) == AuditRecord(
        tenant_id=TENANT,
        audit_id=NOTE.audit_id,
        at_ms=7,
        actor=ADMIN.user_id,
        action=action,
        subject=KEY.session_id,
        request_id="req_1",
        details={**details, **({} if by is None else {"by": by})},
    )


@pytest.mark.parametrize(
    ("command", "decision"),
    [
        (answer(True), Decision(repeated=True)),
        (answer(True), Decision()),
        (answer(True, note=None), DONE),
        (CloseSession(principal=ADMIN), DONE),
    ],
)
def test_what_changes_nothing_or_is_not_noted_is_not_remembered(
    command: Any, decision: Decision
) -> None:
    assert record_of(KEY, command, decision, now_ms=7) is None
