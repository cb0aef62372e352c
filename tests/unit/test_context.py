"""Who asks, and the context of a turn: frozen, and closed when the turn ends."""

import inspect
from collections.abc import Awaitable, Callable, Generator
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from tests.unit.machines import ADMIN, FOREIGN_ADMIN, KEY, NAMESAKE, OWNER, STRANGER

from sessile.core.context import SCOPES, Holding, Identity, Principal, TurnContext
from sessile.core.errors import (
    ContextExpired,
    ContextMismatch,
    InvalidInput,
    RoleRequired,
    SessileError,
)
from sessile.core.events import Progress
from sessile.core.ids import (
    CallId,
    Fence,
    NodeId,
    SessionId,
    SessionKey,
    TenantId,
    TurnId,
    UserId,
)
from sessile.core.transcript import History

IDENTITY = Identity(
    tenant_id=KEY.tenant_id,
    user_id=OWNER.user_id,
    session_id=KEY.session_id,
    turn_id=TurnId("trn_1"),
    fence=Fence(3),
    attempt=2,
    assistant="support",
    grants=("manage_sessions",),
    input={"type": "message", "text": "hello"},
    metadata={"provider": "plain"},
    reached=Progress(tokens_used=7),
    call_id=CallId("call_1"),
)
FIELDS = (
    "tenant_id",
    "user_id",
    "session_id",
    "turn_id",
    "fence",
    "attempt",
    "assistant",
    "grants",
    "input",
    "metadata",
    "reached",
    "call_id",
)


class At:
    """Something to await whose answer is there at once."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class Door:
    """The runtime's side: it writes down what came through, until it is shut."""

    def __init__(self) -> None:
        self.shut: type[SessileError] | None = None
        self.came: list[object] = []

    def check(self) -> None:
        if self.shut is not None:
            raise self.shut()

    def progress(self, progress: Progress, note: str) -> Awaitable[None]:
        self.came.append((progress, note))
        return At()

    def emit(self, text: str) -> Awaitable[None]:
        self.came.append(text)
        return At()

    def call(self, name: str, arguments: object, parent: CallId | None) -> Awaitable[Any]:
        self.came.append((name, arguments, parent))
        return At()

    def ask(self, assistant: str, text: str, parent: CallId | None) -> Awaitable[Any]:
        self.came.append((assistant, text, parent))
        return At()

    def hand_off(self, assistant: str, reason: str) -> Awaitable[None]:
        self.came.append((assistant, reason))
        return At()

    def summarize(self, summary: str) -> Awaitable[None]:
        self.came.append(summary)
        return At()


def wait(awaitable: Awaitable[None]) -> None:
    """Awaits what never pauses, without an event loop."""
    assert list(awaitable.__await__()) == []


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def turn(door: Door) -> TurnContext:
    return TurnContext(IDENTITY, door, History(()))


USES: dict[str, Callable[[TurnContext], object]] = {
    **{name: lambda turn, name=name: getattr(turn, name) for name in (*FIELDS, "history")},
    "progress": lambda turn: wait(turn.progress(tokens_used=1)),
    "emit": lambda turn: wait(turn.emit("text")),
    "call": lambda turn: wait(turn.call("orders.lookup", order=7)),
    "ask": lambda turn: wait(turn.ask("sales", "How many?")),
    "hand_off": lambda turn: wait(turn.hand_off("sales", reason="not ours")),
    "summarize": lambda turn: wait(turn.summarize("They met.")),
}


def test_a_turn_knows_its_identity(turn: TurnContext) -> None:
    assert {name: getattr(turn, name) for name in FIELDS} == {
        name: getattr(IDENTITY, name) for name in FIELDS
    }


def test_a_turn_hands_out_the_history_that_it_was_given(door: Door) -> None:
    history = History(())

    assert TurnContext(IDENTITY, door, history).history is history


def test_nothing_public_is_left_untested() -> None:
    """The tests below go through USES: a new attribute must join it."""
    public = {name for name, _ in inspect.getmembers(TurnContext) if not name.startswith("_")}

    assert public == USES.keys()


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("why", [ContextExpired, ContextMismatch])
def test_g3_a_context_that_is_not_this_turns_raises_whatever_is_asked(
    use: str, why: type[SessileError], turn: TurnContext, door: Door
) -> None:
    USES[use](turn)
    before = list(door.came)
    door.shut = why

    with pytest.raises(why):
        USES[use](turn)

    assert door.came == before


@pytest.mark.parametrize("name", [*FIELDS, "history", "progress", "call", "_identity", "session"])
def test_a_context_is_frozen(name: str, turn: TurnContext) -> None:
    with pytest.raises(AttributeError):
        setattr(turn, name, "other")

    assert turn.session_id == KEY.session_id


@pytest.mark.parametrize("name", ["_identity", "_door", "_history", "session_id"])
def test_nothing_of_a_context_can_be_deleted(name: str, turn: TurnContext) -> None:
    with pytest.raises(AttributeError):
        delattr(turn, name)

    assert turn.session_id == KEY.session_id


def test_a_context_has_no_room_for_more(turn: TurnContext) -> None:
    assert not hasattr(turn, "__dict__")


def test_an_expired_context_can_be_looked_at(turn: TurnContext, door: Door) -> None:
    """A traceback or a log line must not fail over the context that it shows."""
    door.shut = ContextExpired

    assert repr(turn) == "TurnContext(ses_1, trn_1)"
    assert "hello" not in repr(turn)


@pytest.mark.parametrize(
    "say",
    [
        lambda turn: turn.progress(current_iteration=Decimal(1)),
        lambda turn: turn.progress(total_iterations="2"),
        lambda turn: turn.progress(tokens_used=0.5),
        lambda turn: turn.progress(total_tokens=None),
        lambda turn: turn.progress(note=1),
        lambda turn: turn.hand_off("billing", reason=KeyError("why")),
        lambda turn: turn.summarize(["what", "was", "said"]),
    ],
)
def test_what_no_log_can_hold_is_refused_where_it_is_said(
    turn: TurnContext, door: Door, say: Callable[[TurnContext], object]
) -> None:
    with pytest.raises(TypeError):
        say(turn)

    assert door.came == []


def test_progress_goes_through_the_door(turn: TurnContext, door: Door) -> None:
    wait(turn.progress(current_iteration=1, total_iterations=2, tokens_used=3, note="half"))
    wait(turn.progress(total_tokens=4))

    assert door.came == [
        (Progress(current_iteration=1, total_iterations=2, tokens_used=3), "half"),
        (Progress(total_tokens=4), ""),
    ]


def test_text_goes_through_the_door(turn: TurnContext, door: Door) -> None:
    wait(turn.emit("so "))
    wait(turn.emit("far"))

    assert door.came == ["so ", "far"]


def test_what_a_tool_asks_for_goes_through_the_door_below_its_call(
    turn: TurnContext, door: Door
) -> None:
    wait(turn.call("orders.lookup", order=7))
    wait(turn.ask("sales", "How many?"))
    wait(turn.hand_off("sales", reason="not ours"))
    wait(turn.hand_off("sales"))
    wait(turn.summarize("They met."))

    assert door.came == [
        ("orders.lookup", {"order": 7}, CallId("call_1")),
        ("sales", "How many?", CallId("call_1")),
        ("sales", "not ours"),
        ("sales", ""),
        "They met.",
    ]


@pytest.mark.parametrize(
    ("principal", "may"),
    [
        (OWNER, True),
        (ADMIN, True),
        (STRANGER, False),
        (NAMESAKE, False),
        (FOREIGN_ADMIN, False),
        (Principal(tenant_id=KEY.tenant_id, user_id=UserId("OWNER")), False),
        (
            Principal(
                tenant_id=KEY.tenant_id,
                user_id=UserId("bob"),
                roles=frozenset({"administrator", "Admin", "admin "}),
            ),
            False,
        ),
        (Principal(tenant_id=TenantId(""), user_id=OWNER.user_id), False),
    ],
)
def test_g11_a_caller_reaches_its_own_sessions_and_an_admin_its_tenants(
    principal: Principal, may: bool
) -> None:
    assert principal.may_reach(KEY, OWNER.user_id) is may


def test_who_asks_cannot_be_changed() -> None:
    values: list[tuple[Any, str]] = [
        (OWNER, "roles"),
        (IDENTITY, "session_id"),
        (Holding(KEY, TurnId("trn_1"), Fence(1), 1, NodeId("n1")), "fence"),
    ]
    for value, name in values:
        with pytest.raises(AttributeError):
            setattr(value, name, "other")


@pytest.mark.parametrize("name", ["input", "metadata"])
def test_what_a_guest_writes_into_what_it_was_given_is_its_own(name: str) -> None:
    given = {"type": "message", "list": [{"a": 1}], "object": {"b": [2]}}
    whole = replace(IDENTITY, **{name: deepcopy(given)})
    turn = TurnContext(whole, Door(), None)

    mine = getattr(turn, name)
    mine["type"] = mine["new"] = "changed"
    mine["list"].append(3)
    mine["list"][0]["a"] = mine["object"]["b"][0] = "changed"

    assert getattr(turn, name) == getattr(whole, name) == given


@pytest.mark.parametrize("name", ["a\0", "\ud800", "x" * 201])
@pytest.mark.parametrize("field", ["tenant_id", "user_id"])
def test_a_name_that_no_database_takes_is_nobodys(field: str, name: str) -> None:
    names = {"tenant_id": "acme", "user_id": "ünï\n" * 40} | {field: name}

    with pytest.raises(InvalidInput) as refused:
        Principal(tenant_id=TenantId(names["tenant_id"]), user_id=UserId(names["user_id"]))

    assert refused.value.details == {"field": field}


def test_g11_a_principal_of_one_session_reaches_no_other() -> None:
    only = replace(OWNER, only=SessionId("ses_1"), roles=frozenset({"admin"}))

    assert only.may_reach(SessionKey(OWNER.tenant_id, SessionId("ses_1")), UserId("bob"))
    assert not only.may_reach(SessionKey(OWNER.tenant_id, SessionId("ses_2")), OWNER.user_id)


@pytest.mark.parametrize(
    ("scopes", "good_for"),
    [(None, "read write admin"), ([], ""), (["read"], "read"), (["write"], "read write"),
     (["admin"], "read write admin"), (["read", "admin"], "read write admin"), (["other"], "")],
)  # fmt: skip
def test_a_scope_has_those_below_it_in_it(scopes: list[str] | None, good_for: str) -> None:
    who = replace(OWNER, scopes=None if scopes is None else frozenset(scopes))

    assert [scope for scope in SCOPES if who.has_scope(scope)] == good_for.split()
    for scope in SCOPES:
        if scope not in good_for.split():
            with pytest.raises(RoleRequired) as refused:
                who.check_scope(scope)
            assert refused.value.details == {"scope": scope}
            assert str(refused.value).endswith(scope)


def test_a_service_acts_as_a_plain_user_of_its_tenant() -> None:
    service = replace(OWNER, roles=frozenset({"service", "admin"}), scopes=frozenset({"read"}))

    bob = service.acting_for(UserId("bob"))

    assert (bob.tenant_id, bob.user_id, bob.roles) == (OWNER.tenant_id, "bob", frozenset())
    assert (bob.scopes, bob.by) == ({"read"}, OWNER.user_id)
    with pytest.raises(RoleRequired) as refused:
        replace(OWNER, roles=frozenset({"admin"})).acting_for(UserId("bob"))
    assert refused.value.details == {"role": "service"}
