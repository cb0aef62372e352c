"""The tools that every assistant has, without a server."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.integrations.journal import Door, Journal, identity

from sessile.core.context import TurnContext
from sessile.core.events import SessionSummarized
from sessile.core.ids import Seq
from sessile.integrations.functions import FunctionLoop
from sessile.kit.assistant import Assistant
from sessile.ports.agent import Tool, ToolError


@dataclass
class Listens(Door):
    """A door that keeps what a turn asks of it."""

    summaries: list[str] = field(default_factory=list[str])
    asked: list[tuple[str, str, str | None]] = field(
        default_factory=list[tuple[str, str, str | None]]
    )

    def __post_init__(self) -> None:
        super().__init__()

    async def summarize(self, summary: str) -> None:
        self.summaries.append(summary)

    def ask(self, assistant: str, text: str, parent: Any) -> Awaitable[str]:
        async def answer() -> str:
            self.asked.append((assistant, text, parent))
            return "42"

        return answer()


def tools_of(assistant: Assistant) -> dict[str, Tool]:
    return {tool.name: tool for tool in assistant.driven_by(FunctionLoop(_silent)).tools}


async def _silent(turn: TurnContext) -> None: ...


def context_of(journal: Journal, door: Door, **more: Any) -> TurnContext:
    given = identity(journal.session_id, journal.turn_id, **more)
    return TurnContext(given, door, journal.history())  # type: ignore[arg-type]


def test_every_assistant_has_them_behind_the_grant() -> None:
    tools = tools_of(Assistant("any"))

    assert list(tools) == ["context_status", "context_summarize"]
    assert {tool.grant for tool in tools.values()} == {"manage_sessions"}
    assert tools["context_status"].idempotent
    assert not tools["context_summarize"].idempotent


async def test_the_status_counts_what_the_turn_was_given() -> None:
    journal = Journal().asked("x" * 400)
    status = tools_of(Assistant("any", window_tokens=8000))["context_status"]

    assert await status.invoke(context_of(journal, Listens()), {}) == {
        "messages": 1,
        "tokens": 101,
        "window_tokens": 8000,
        "last_summary": None,
    }


async def test_the_status_of_a_summarized_session_starts_at_the_summary() -> None:
    journal = Journal().asked("forgotten")
    journal.events.append(SessionSummarized(summary="They met.", upto_seq=Seq(1)))
    journal.asked("hello", turn_id="trn_2")
    status = tools_of(Assistant("any"))["context_status"]

    told = await status.invoke(context_of(journal, Listens()), {})

    assert told["messages"] == 2
    assert told["last_summary"] == "They met."
    assert told["window_tokens"] == 0


async def test_a_summary_stands_for_what_was_said_before_the_turn() -> None:
    journal = Journal().asked("a" * 40)
    journal.asked("b" * 80, turn_id="trn_2").asked("Summarize!", turn_id="trn_3")
    door = Listens()
    summarize = tools_of(Assistant("any"))["context_summarize"]

    told = await summarize.invoke(context_of(journal, door), {"summary": "Letters."})

    assert door.summaries == ["Letters."]
    assert told == {"messages": 2, "tokens": 11 + 21, "summary_tokens": 3}


async def test_an_empty_summary_stands_for_nothing() -> None:
    door = Listens()
    summarize = tools_of(Assistant("any"))["context_summarize"]

    with pytest.raises(ToolError, match="says what was said"):
        await summarize.invoke(context_of(Journal().asked("hello"), door), {"summary": " \n"})

    assert door.summaries == []


async def test_another_assistant_is_asked_below_the_call_that_asks() -> None:
    bank, cards = Assistant("bank"), Assistant("cards", description="Knows cards.")
    bank.delegate(cards)
    door = Listens()
    tool = tools_of(bank)["ask.cards"]

    turn = context_of(Journal().asked("hello"), door, call_id="call_7")
    answer = await tool.invoke(turn, {"question": "Is it blocked?"})

    assert answer == "42"
    assert door.asked == [("cards", "Is it blocked?", "call_7")]
    assert tool.description == "Ask the assistant cards. Knows cards."
    assert tool.parameters["required"] == ["question"]
    assert "nothing else" in tool.parameters["properties"]["question"]["description"]
    assert tool.grant is None


def test_a_description_of_its_own_may_be_given() -> None:
    bank = Assistant("bank")
    bank.delegate(Assistant("cards"), description="For cards that were lost.")

    assert tools_of(bank)["ask.cards"].description.endswith("For cards that were lost.")
