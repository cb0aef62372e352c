"""What a tool's function may look like, and what a model is told of it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from tests.integrations.journal import Door, context

from sessile.core.context import TurnContext
from sessile.core.errors import CapturedContext, ContextExpired
from sessile.kit import FunctionTool
from sessile.ports.agent import ToolError


class Address(BaseModel):
    street: str
    city: str = "Nantes"


@dataclass
class Order:
    number: int
    due: date


async def order(
    turn: TurnContext,
    number: int,
    to: Address | None = None,
    *,
    speed: Literal["slow", "fast"] = "slow",
    note: Annotated[str, Field(max_length=5)] = "",
) -> Order:
    """Order a thing.

    It is sent at once.

    Args:
        number: how many,
            counted in pieces
        speed (str): the kind of post

    Returns:
        The order.
    """
    return Order(number, date(2026, 1, 2))


def test_the_schema_is_that_of_the_signature_without_the_turn() -> None:
    tool = FunctionTool(order)

    assert tool.parameters["type"] == "object"
    assert tool.parameters["required"] == ["number"]
    assert tool.parameters["additionalProperties"] is False
    assert set(tool.parameters["properties"]) == {"number", "to", "speed", "note"}
    assert tool.parameters["properties"]["speed"]["enum"] == ["slow", "fast"]
    assert tool.parameters["properties"]["note"] == {
        "default": "",
        "maxLength": 5,
        "type": "string",
    }
    assert set(tool.parameters["$defs"]["Address"]["properties"]) == {"street", "city"}


def test_the_docstring_describes_the_tool_and_its_arguments() -> None:
    tool = FunctionTool(order)

    assert tool.description == "Order a thing.\n\nIt is sent at once."
    properties = tool.parameters["properties"]
    assert properties["number"]["description"] == "how many, counted in pieces"
    assert properties["speed"]["description"] == "the kind of post"
    assert "description" not in properties["to"]


def test_a_docstring_in_fields_is_read_too() -> None:
    async def look(turn: TurnContext, what: str) -> None:
        """Look.

        :param what: the thing
            that is seen
        :returns: nothing
        """

    tool = FunctionTool(look)

    assert tool.description == "Look."
    assert tool.parameters["properties"]["what"]["description"] == "the thing that is seen"


def test_a_tool_without_arguments_has_an_empty_object_for_schema() -> None:
    async def ping(turn: TurnContext) -> str:
        return "pong"

    tool = FunctionTool(ping)

    assert tool.parameters == {"additionalProperties": False, "properties": {}, "type": "object"}
    assert tool.name == "ping"
    assert tool.description == ""


async def test_arguments_come_in_the_types_of_the_signature() -> None:
    got: list[Any] = []

    async def take(turn: TurnContext, day: date, to: Address, count: int = 3) -> None:
        got.extend((turn.session_id, day, to, count))

    await FunctionTool(take).invoke(context(), {"day": "2026-02-03", "to": {"street": "Rue A"}})

    assert got == ["ses_1", date(2026, 2, 3), Address(street="Rue A"), 3]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "number: Missing required keyword only argument"),
        ({"number": "many"}, "number: Input should be a valid integer"),
        ({"number": 1, "colour": "red"}, "colour: Unexpected keyword argument"),
        ({"number": 1, "to": {}}, "to.street: Field required"),
        ({"number": 1, "speed": "idle"}, "speed: Input should be 'slow' or 'fast'"),
        ({"number": 1, "turn": "trn_9"}, "turn: Unexpected keyword argument"),
    ],
)
async def test_wrong_arguments_are_told_in_words(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ToolError) as caught:
        await FunctionTool(order).invoke(context(), arguments)

    assert str(caught.value).startswith("Invalid arguments for order: ")
    assert told in str(caught.value)


async def test_an_answer_is_dumped_to_json() -> None:
    async def answer(turn: TurnContext) -> Any:
        return {
            "order": Order(1, date(2026, 1, 2)),
            "to": Address(street="Rue A"),
            2: (float("nan"), {3}),
        }

    assert await FunctionTool(answer).invoke(context(), {}) == {
        "order": {"number": 1, "due": "2026-01-02"},
        "to": {"street": "Rue A", "city": "Nantes"},
        "2": [None, [3]],
    }


async def test_an_answer_that_is_not_json_is_the_tools_failure() -> None:
    async def answer(turn: TurnContext) -> object:
        return object()

    with pytest.raises(ToolError, match="answer returned what is not JSON"):
        await FunctionTool(answer).invoke(context(), {})


def test_a_plain_function_blocks_and_is_called_in_a_thread() -> None:
    def double(turn: TurnContext, number: int) -> int:
        return 2 * number

    tool = FunctionTool(double)

    assert tool.blocking
    assert tool.call_blocking(context(), {"number": "4"}) == 8
    assert not FunctionTool(order).blocking


async def test_methods_partials_and_callable_objects_are_functions_too() -> None:
    class Shop:
        name = "shop"

        async def sell(self, turn: TurnContext, what: str) -> str:
            """Sell it."""
            return f"{self.name} {what}"

        async def __call__(self, turn: TurnContext, what: str) -> str:
            """Call it."""
            return what

    bound = FunctionTool(Shop().sell)
    called = FunctionTool(Shop(), name="shop")
    partial = FunctionTool(functools.partial(order, speed="fast"))

    assert (bound.name, bound.description, bound.blocking) == ("sell", "Sell it.", False)
    assert await bound.invoke(context(), {"what": "tea"}) == "shop tea"
    assert (called.description, called.blocking) == ("Call it.", False)
    assert await called.invoke(context(), {"what": "tea"}) == "tea"
    assert set(partial.parameters["properties"]) == {"number", "to", "note"}
    assert partial.name == "order"
    assert await partial.invoke(context(), {"number": 2}) == {"number": 2, "due": "2026-01-02"}


def with_session_id(turn: TurnContext, session_id: str) -> None: ...
def with_turn_id(turn: TurnContext, turnId: str) -> None: ...  # noqa: N803
def with_two_turns(turn: TurnContext, other: TurnContext) -> None: ...
def with_no_turn() -> None: ...
def with_turn_last(number: int, turn: TurnContext) -> None: ...
def with_keyword_turn(*, turn: TurnContext) -> None: ...
def with_other_turn(turn: str) -> None: ...
def with_anything(turn: TurnContext, **rest: str) -> None: ...
def with_many(turn: TurnContext, *rest: str) -> None: ...
def with_yield(turn: TurnContext) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (with_session_id, "'session_id' cannot be an argument, which a model fills in"),
        (with_turn_id, "'turnId' cannot be an argument"),
        (with_two_turns, "'other' cannot be an argument"),
        (with_no_turn, "the first parameter of a tool is its `turn: TurnContext`"),
        (with_turn_last, "the first parameter of a tool is its `turn: TurnContext`"),
        (with_keyword_turn, "the first parameter of a tool is its `turn: TurnContext`"),
        (with_other_turn, "the first parameter of a tool is its `turn: TurnContext`"),
        (with_anything, "'rest' cannot be passed by name"),
        (with_many, "'rest' cannot be passed by name"),
        (with_yield, "it does not yield"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused(
    function: Callable[..., Any], why: str
) -> None:
    with pytest.raises(TypeError) as caught:
        FunctionTool(function)

    assert why in str(caught.value)
    assert function.__name__ in str(caught.value)


@pytest.mark.parametrize("name", ["", "2nd", "a b", "x" * 65, "ünder"])
def test_a_name_that_no_provider_takes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no tool name"):
        FunctionTool(order, name=name)


def test_a_timeout_that_is_over_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 0 seconds"):
        FunctionTool(order, timeout_seconds=0)


async def plain(turn: TurnContext, *extra: Any, **named: Any) -> None: ...


def in_closure(held: TurnContext) -> Callable[..., Any]:
    async def tool(turn: TurnContext) -> str:
        return held.session_id

    return tool


def in_default(held: TurnContext) -> Callable[..., Any]:
    async def tool(turn: TurnContext, first: TurnContext = held) -> str:
        return first.session_id

    return tool


def in_keyword_default(held: TurnContext) -> Callable[..., Any]:
    async def tool(turn: TurnContext, *, first: Any = held) -> str:
        return str(first)

    return tool


def in_partial(held: TurnContext) -> Callable[..., Any]:
    return functools.partial(plain, held)


def in_partial_keyword(held: TurnContext) -> Callable[..., Any]:
    return functools.partial(plain, first=held)


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held

    async def tool(self, turn: TurnContext) -> None: ...

    async def __call__(self, turn: TurnContext) -> None: ...


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held

    async def tool(self, turn: TurnContext) -> None: ...


def in_self(held: TurnContext) -> Callable[..., Any]:
    return Holder(held).tool


def in_slot(held: TurnContext) -> Callable[..., Any]:
    return Slotted(held).tool


def in_callable(held: TurnContext) -> Callable[..., Any]:
    return Holder(held)


def in_attribute(held: TurnContext) -> Callable[..., Any]:
    async def tool(turn: TurnContext) -> None: ...

    tool.held = held  # type: ignore[attr-defined]
    return tool


def in_wrapped(held: TurnContext) -> Callable[..., Any]:
    inner = in_closure(held)

    @functools.wraps(inner)
    async def tool(turn: TurnContext) -> Any:
        return await inner(turn)

    return tool


def in_container(held: TurnContext) -> Callable[..., Any]:
    kept = {"turns": [(held,)]}

    async def tool(turn: TurnContext) -> str:
        return str(kept)

    return tool


def in_object(held: TurnContext) -> Callable[..., Any]:
    return Holder(Holder({"first": held})).tool


@pytest.mark.parametrize(
    "capture",
    [
        in_closure,
        in_default,
        in_keyword_default,
        in_partial,
        in_partial_keyword,
        in_self,
        in_slot,
        in_callable,
        in_attribute,
        in_wrapped,
        in_container,
        in_object,
    ],
)
def test_a_tool_that_holds_a_context_is_refused(
    capture: Callable[[TurnContext], Callable[..., Any]],
) -> None:
    with pytest.raises(CapturedContext, match="holds a turn context in"):
        FunctionTool(capture(context()), name="tool")


def test_a_refusal_says_where_the_context_is_held() -> None:
    with pytest.raises(CapturedContext) as caught:
        FunctionTool(in_object(context()))

    assert str(caught.value) == (
        "tool holds a turn context in self attribute 'held' attribute 'held' item;"
        " take it as the first argument instead"
    )
    assert caught.value.details == {"tool": "tool"}


async def test_a_refusal_of_arguments_does_not_repeat_them() -> None:
    with pytest.raises(ToolError) as caught:
        await FunctionTool(order).invoke(context(), {"number": "a secret"})

    assert "secret" not in str(caught.value)
    assert "http" not in str(caught.value)


def test_a_tool_that_holds_anything_else_is_taken() -> None:
    loop: list[Any] = []
    loop.append(loop)

    async def tool(turn: TurnContext, depth: int = 1) -> str:
        return f"{loop} {tool} {Holder} {pytest}"

    assert FunctionTool(tool).name == "tool"


async def test_a_context_kept_past_its_turn_raises() -> None:
    kept: list[TurnContext] = []
    door = Door()

    async def keep(turn: TurnContext) -> None:
        kept.append(turn)

    async def use(turn: TurnContext) -> str:
        return kept[0].session_id

    keeper, user = FunctionTool(keep), FunctionTool(use)
    await keeper.invoke(context("ses_1", door=door), {})
    door.is_open = False

    with pytest.raises(ContextExpired):
        await user.invoke(context("ses_2"), {})
