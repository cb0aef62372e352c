"""Which sessions a node claims next, and what a sweep takes from them."""

import pytest

from sessile.core.ids import SessionId, SessionKey, TenantId, UserId
from sessile.runtime import due as due_module
from sessile.runtime.due import Due


def key(name: str) -> SessionKey:
    return SessionKey(TenantId("acme"), SessionId(f"ses_{name}"))


def keys(names: str) -> tuple[SessionKey, ...]:
    return tuple(map(key, names))


def waiting(names: str) -> Due:
    due = Due()
    for each in keys(names):
        due.add(each)
    return due


def swept(due: Due, names: str, *, free: int = 0) -> None:
    """A sweep that shows these."""
    asked = due.ask(free=free)
    assert len(names) <= asked, "a store shows no more than it is asked for"
    due.shown(keys(names), asked=asked)


def left(due: Due) -> str:
    """Who waits for a slot, in order."""
    taken = iter(due.pop, None)
    return "".join(each.session_id.removeprefix("ses_") for each in taken)


def test_who_is_told_first_is_first_and_keeps_its_place() -> None:
    assert left(waiting("bcab")) == "bca"


def test_no_more_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_module, "KEPT_MAX", 2)

    assert left(waiting("abca")) == "ab"


def test_what_a_whole_answer_does_not_show_was_run_elsewhere() -> None:
    due = waiting("abcd")

    swept(due, "db")

    assert left(due) == "bd"


def test_what_came_first_in_a_part_of_an_answer_is_known_to_the_next() -> None:
    due = waiting("ab")

    swept(due, "bac")
    swept(due, "b")

    assert left(due) == "b"


def test_who_is_set_apart_while_a_sweep_is_on_its_way_is_not_taken_for_gone() -> None:
    due, user = Due(), (TenantId("acme"), UserId("ann"))
    asked = due.ask(free=0)
    due.set_apart(key("a"), user)

    due.shown((), asked=asked)

    assert due.waits_apart(user)
    swept(due, "")
    assert not due.waits_apart(user)


def of(tenant: str, name: str) -> SessionKey:
    return SessionKey(TenantId(tenant), SessionId(f"ses_{name}"))


def test_tenants_take_turns_and_of_each_the_longest_due_is_first() -> None:
    due = waiting("abc")
    for name in "xy":
        due.add(of("other", name))

    assert left(due) == "axbyc"


def test_a_tenant_that_is_full_is_passed_over_and_keeps_its_place() -> None:
    due = waiting("ab")
    due.add(of("other", "x"))

    assert due.pop(lambda tenant: tenant == "acme") == of("other", "x")
    assert due.pop(lambda tenant: tenant == "acme") is None
    assert not due.has_next(lambda tenant: tenant == "acme")
    assert left(due) == "ab"


def test_where_there_is_no_room_the_tenant_with_most_gives_up_its_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(due_module, "KEPT_MAX", 4)
    due = waiting("abcd")

    for name in "xyz":
        due.add(of("other", name))

    assert len(due) == 4
    assert left(due) == "axby"


def test_who_waits_apart_waits_for_no_slot_until_the_user_has_one_to_give() -> None:
    due = waiting("a")
    ann = (TenantId("acme"), UserId("ann"))
    due.set_apart(key("b"), ann)
    due.set_apart(key("c"), ann)
    due.add(key("b"))

    assert left(due) == "a"
    assert key("b") in due
    assert due.waits_apart(ann)
    assert due.ask(free=0) == 1 + 2
    assert due.pop_apart((TenantId("acme"), UserId("bob"))) is None
    assert due.pop_apart(ann) == key("b")
    swept(due, "")
    swept(due, "")
    assert due.pop_apart(ann) is None, "it was run elsewhere"


def test_a_sweep_asks_for_one_more_than_is_known_so_that_its_answer_is_whole() -> None:
    assert waiting("abcd").ask(free=0) == 5
    assert waiting("abcd").ask(free=3) == 7
    assert Due().ask(free=0) == 1


def test_an_answer_that_is_as_long_as_it_may_be_drops_nobody_and_comes_first() -> None:
    due = waiting("abcd")

    swept(due, "dxyzb")

    assert left(due) == "dbac"


def test_a_sweep_of_very_many_is_asked_for_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_module, "ASKED_MAX", 2)
    due = waiting("abcd")

    swept(due, "dcb")

    assert left(due) == "dcba"


def test_what_is_told_while_the_sweep_is_asked_is_kept_though_it_does_not_show_it() -> None:
    due = waiting("ab")
    asked = due.ask(free=0)
    for each in keys("ca"):
        due.add(each)

    due.shown((), asked=asked)

    assert left(due) == "ac"


def test_it_is_kept_until_the_next_sweep_only() -> None:
    due = waiting("ab")
    asked = due.ask(free=0)
    due.add(key("a"))
    due.shown((), asked=asked)

    swept(due, "")

    assert left(due) == ""


def test_the_right_is_with_one_until_it_is_given_back_to_who_waits_longest() -> None:
    due = Due()
    assert due.take_right(key("a"))
    assert due.take_right(key("a"))
    assert not due.take_right(key("b"))
    due.set_aside(key("c"))
    due.set_aside(key("b"))

    assert due.give_back(key("b")) is None
    assert due.give_back(key("a")) == key("c")
    assert due.take_right(key("c"))
    assert key("c") not in due
    assert key("b") in due


def test_who_waits_aside_waits_for_no_slot_and_is_looked_past() -> None:
    due = waiting("a")
    due.set_aside(key("b"))

    assert due.ask(free=0) == 1 + 2 + 1
    assert left(due) == "a"


def test_who_is_told_of_again_waits_for_a_slot_and_no_more_aside() -> None:
    due = Due()
    due.set_aside(key("a"))

    due.add(key("a"))

    assert due.pop_aside() is None
    assert left(due) == "a"


def test_who_waits_aside_is_dropped_as_others_are() -> None:
    due = Due()
    due.set_aside(key("a"))
    due.set_aside(key("b"))
    asked = due.ask(free=0)
    due.set_aside(key("c"))

    due.shown(keys("b"), asked=asked)

    assert [due.pop_aside() for _ in range(3)] == [key("b"), key("c"), None]


def test_a_node_that_drains_keeps_nobody_waiting() -> None:
    due = waiting("ab")

    due.clear()

    assert not due
