"""Verdicts on tools: each with its reason."""

import pytest

from sessile.core.policy import verdict


@pytest.mark.parametrize(
    ("tool", "pattern"),
    [
        ("orders.lookup", "orders.lookup"),
        ("debug.getSessionInfo", "debug.*"),
        ("debug.a.b", "debug.*"),
        ("orders.lookup", "*"),
        ("orders.lookup", "*.lookup"),
        ("tool_1", "tool_?"),
        ("tool_1", "tool_[12]"),
    ],
)
def test_a_tool_on_the_allow_list_is_allowed(tool: str, pattern: str) -> None:
    given = verdict(tool, known=True, allowed=("other", pattern))

    assert given.status == "allowed"
    assert given.tool == tool
    assert repr(pattern) in given.reason


@pytest.mark.parametrize(
    ("tool", "pattern"),
    [
        ("debug", "debug.*"),
        ("orders.lookup2", "orders.lookup"),
        ("xorders.lookup", "orders.lookup"),
        ("Debug.info", "debug.*"),
        ("orders.refund", "debug.*"),
        ("orders.lookup", ""),
        ("tool_12", "tool_?"),
    ],
)
def test_a_tool_outside_the_allow_list_is_denied(tool: str, pattern: str) -> None:
    given = verdict(tool, known=True, allowed=(pattern,))

    assert given.status == "denied"
    assert given.tool == tool
    assert "allow-list" in given.reason


def test_an_empty_allow_list_allows_nothing() -> None:
    assert verdict("orders.lookup", known=True, allowed=()).status == "denied"


def test_a_tool_that_the_assistant_does_not_have_is_denied_whatever_the_list_says() -> None:
    given = verdict("orders.lookup", known=False, allowed=("*",))

    assert given.status == "denied"
    assert "no such tool" in given.reason


def test_the_first_pattern_that_fits_is_the_reason() -> None:
    given = verdict("debug.info", known=True, allowed=("debug.*", "*"))

    assert "'debug.*'" in given.reason
    assert "'*'" not in given.reason


def test_g12_every_verdict_says_why() -> None:
    for known in (True, False):
        for allowed in ((), ("a",), ("b",)):
            assert verdict("a", known=known, allowed=allowed).reason.endswith(".")


def test_a_tool_whose_grant_the_session_has_is_allowed() -> None:
    given = verdict("refund", known=True, allowed=("*",), grant="money", grants=("money",))

    assert (given.status, given.grant) == ("allowed", "money")


def test_g12_a_tool_whose_grant_the_session_has_not_says_which_and_how_to_get_it() -> None:
    given = verdict("refund", known=True, allowed=("*",), grant="money", grants=("export",))

    assert given.status == "needs_grant"
    assert "'money'" in given.reason
    assert "PUT /v1/sessions/{session_id}/grants" in given.reason


def test_g12_a_tool_whose_calls_are_approved_says_so() -> None:
    given = verdict("refund", known=True, allowed=("*",), approval=True)

    assert given.status == "needs_approval"
    assert "approves" in given.reason


@pytest.mark.parametrize(
    ("known", "allowed", "grants", "status"),
    [
        (False, ("*",), ("money",), "denied"),
        (True, (), ("money",), "denied"),
        (True, ("*",), (), "needs_grant"),
        (True, ("*",), ("money",), "needs_approval"),
    ],
)
def test_what_cannot_be_given_is_said_before_what_can(
    known: bool, allowed: tuple[str, ...], grants: tuple[str, ...], status: str
) -> None:
    """Nobody is asked to approve a call that would be refused."""
    given = verdict(
        "refund", known=known, allowed=allowed, grant="money", grants=grants, approval=True
    )

    assert (given.tool, given.status) == ("refund", status)
    assert given.grant == ("money" if known else None)
