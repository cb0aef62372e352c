"""What may be declared before an agent, and what a press must be."""

import functools
from datetime import date
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field
from tests.integrations.journal import context

from sessile.core.context import TurnContext
from sessile.core.errors import CapturedContext, InvalidInput
from sessile.kit.assistant import Assistant
from sessile.kit.replies import Button, Intent, Reply, as_reply


class Pick(BaseModel):
    project: str
    due: date | None = None


async def pick(turn: TurnContext, payload: Pick) -> str:
    return payload.project


async def anything(turn: TurnContext, payload) -> str:  # type: ignore[no-untyped-def]
    return ""


async def direct(turn: TurnContext) -> str:
    return ""


async def intent(turn: TurnContext, intent: Intent) -> str:
    return ""


def test_a_press_reads_as_its_label_or_its_name() -> None:
    sites = Assistant("sites")
    sites.button("view_sites", label="View sites")(anything)
    sites.button("sites.pick_project")(pick)

    assert sites.stages.pressed("view_sites", {}) == "View sites"
    assert sites.stages.pressed("sites.pick_project", {"project": "p1"}) == "Sites pick project"


def test_a_payload_has_the_form_of_its_annotation() -> None:
    sites = Assistant("sites")
    sites.button("pick")(pick)
    sites.button("any")(anything)

    taken = sites.stages.presses["pick"].payload({"project": "p1", "due": "2026-11-21"})
    assert taken == Pick(project="p1", due=date(2026, 11, 21))
    assert sites.stages.presses["any"].payload({"a": [1]}) == {"a": [1]}


async def test_a_payload_is_held_to_what_its_annotation_adds() -> None:
    sites = Assistant("sites")

    async def few(
        turn: TurnContext, payload: Annotated[dict[str, str], Field(max_length=1)]
    ) -> str:
        return ""

    sites.button("few")(few)
    sites.button("filled")(functools.partial(few))

    for name in ("few", "filled"):
        assert sites.stages.pressed(name, {"a": "1"})
        with pytest.raises(InvalidInput):
            sites.stages.pressed(name, {"a": "1", "b": "2"})


def test_a_press_that_cannot_be_says_what_it_should_be() -> None:
    sites = Assistant("sites")
    sites.button("pick")(pick)

    with pytest.raises(InvalidInput, match="there is no button 'view'") as unknown:
        sites.stages.pressed("view", {})
    with pytest.raises(InvalidInput, match="the button pick has another form: project: ") as form:
        sites.stages.pressed("pick", {"project": 7, "due": "secret"})

    assert unknown.value.details["known"] == ["pick"]
    assert form.value.details["field"] == "input.payload"
    assert "due: " in str(form.value)
    assert "secret" not in str(form.value)


def test_a_press_of_an_unknown_button_is_taken_where_stale_presses_are_answered() -> None:
    sites = Assistant("sites")
    sites.stale(direct)

    assert sites.stages.pressed("gone", {}) == "gone"
    with pytest.raises(InvalidInput, match="there is no button 'no name'"):
        sites.stages.pressed("no name", {})


@pytest.mark.parametrize("name", ["", "no name", "1st", "x" * 65])
def test_a_button_has_a_name_that_travels(name: str) -> None:
    with pytest.raises(ValueError, match="is no button name"):
        Assistant("sites").button(name)(anything)
    with pytest.raises(ValueError, match="is no button name"):
        Button(name, "Label")


def test_a_name_is_declared_once() -> None:
    sites = Assistant("sites")
    sites.button("pick")(pick)
    sites.intent("greet")(intent)
    sites.stale(direct)

    with pytest.raises(ValueError, match="there is an answer to stale presses already"):
        sites.stale(direct)
    with pytest.raises(ValueError, match="there is a button 'pick' already"):
        sites.button("pick")(anything)
    with pytest.raises(ValueError, match="there is an intent 'greet' already"):
        sites.intent("greet")(intent)


def test_what_no_stage_could_call_is_refused_where_it_is_declared() -> None:
    sites = Assistant("sites")

    def blocking(turn: TurnContext) -> str:
        return ""

    async def yields(turn: TurnContext) -> Any:
        yield ""

    async def by_name(turn: TurnContext, *, payload: dict[str, Any]) -> str:
        return ""

    for handler in (blocking, yields):
        with pytest.raises(TypeError, match="a handler is async"):
            sites.direct(handler)
    for handler in (pick, by_name):
        with pytest.raises(TypeError, match=r"this handler takes turn$"):
            sites.direct(handler)
        with pytest.raises(TypeError, match=r"this handler takes turn$"):
            sites.stale(handler)
    for handler in (direct, by_name):
        with pytest.raises(TypeError, match=r"this handler takes turn, payload$"):
            sites.button("pick")(handler)
        with pytest.raises(TypeError, match=r"this handler takes turn, intent$"):
            sites.intent("pick")(handler)


def test_a_handler_that_holds_a_context_is_refused() -> None:
    held = context()

    async def answer(turn: TurnContext) -> str:
        return held.session_id

    with pytest.raises(CapturedContext):
        Assistant("sites").direct(answer)


def test_an_assistant_without_handlers_has_no_stages() -> None:
    for declare in (
        lambda sites: sites.button("pick")(pick),
        lambda sites: sites.direct(direct),
        lambda sites: sites.stale(direct),
        lambda sites: sites.intent("greet")(intent),
    ):
        sites = Assistant("sites")
        assert not sites.stages
        declare(sites)
        assert sites.stages


# -- answers


def test_an_offer_is_what_a_press_can_bring_back() -> None:
    with pytest.raises(ValueError, match="a button has a label"):
        Button("pick", "")
    with pytest.raises(TypeError, match="pick: its payload is not JSON"):
        Button("pick", "Pick", {"due": date(2026, 11, 21)})


def test_an_answer_is_a_reply_a_text_or_none() -> None:
    reply = Reply("hello")

    assert as_reply(reply) is reply
    assert as_reply("hello") == reply
    assert as_reply(None) is None
    with pytest.raises(TypeError, match="not dict"):
        as_reply({})
    with pytest.raises(ValueError, match="None hands on"):
        as_reply("")
