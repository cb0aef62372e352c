"""The demo assistant: it says what it is, and knows what its session knows."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from tests.integrations.journal import Journal

from sessile import Principal, Server, SessionId, Settings, TenantId, UserId
from sessile.core.events import Progress, ToolCompleted, ToolFailed, ToolStarted
from sessile.demo import support
from sessile.demo.assistant import demo_assistant
from sessile.demo.support import STEPS
from sessile.integrations import demo_model as model
from sessile.integrations.demo_model import demo_model
from sessile.integrations.pydantic_ai import PydanticLoop
from sessile.ports.agent import TextDelta

DEMO = demo_assistant(model=demo_model(word_seconds=0), step_seconds=0)
LOOP = PydanticLoop(DEMO)
ANA = Principal(tenant_id=TenantId("acme"), user_id=UserId("ana"))
PATIENCE_SECONDS = 30


async def talk(*texts: str, tools: Sequence[Any] = DEMO.tools) -> tuple[Journal, list[str]]:
    journal = Journal(tools=tuple(tools))
    replies: list[str] = []
    for place, text in enumerate(texts):
        journal.asked(text, turn_id=f"trn_{place}")
        replies.append(await journal.run(LOOP))
    return journal, replies


@pytest.mark.parametrize("text", ["Hello!", "who are you?", "are you an AI?", "Something else"])
async def test_it_says_that_it_follows_rules(text: str) -> None:
    _, (reply,) = await talk(text)

    assert "There is no language model behind me: I follow a few fixed rules" in reply


async def test_it_greets_once() -> None:
    _, replies = await talk("Hi", "hello")

    assert replies[1] == "Hello again!"


async def test_a_name_told_in_this_session_is_known_in_no_other() -> None:
    _, here = await talk("Hi, my name is Ana.", "What is my name?", "what's my name")
    _, there = await talk("What is my name?")

    assert here == ["Nice to meet you, Ana.", "Your name is Ana.", "Your name is Ana."]
    assert there == ["You have not told me your name in this session."]


async def test_the_last_name_told_counts() -> None:
    _, replies = await talk("my name is Ana", "no, my name is Émile", "what is my name?")

    assert replies[-1] == "Your name is Émile."


async def test_it_counts_the_messages_of_the_session() -> None:
    _, replies = await talk("how many messages?", "hm", "how many messages?")

    assert replies[0] == "You have sent 1 message in this session."
    assert replies[2] == "You have sent 3 messages in this session."


async def test_it_looks_up_an_order() -> None:
    journal, (reply,) = await talk("Where is my order 7?")

    assert reply == "Order 7 is shipped: 3 items, 55.3 EUR."
    assert [e.arguments for e in journal.of(ToolCompleted)] == [{"number": 7}]


async def test_it_looks_up_again_what_is_asked_again() -> None:
    journal, replies = await talk("look up order 7", "look up order 7")

    assert replies[0] == replies[1]
    assert len(journal.of(ToolCompleted)) == 2


async def test_it_compares_orders_by_calls_side_by_side() -> None:
    journal, (reply,) = await talk("compare orders 1 and 2")

    assert (
        reply == "Order 1 is shipped: 2 items, 7.9 EUR. Order 2 is being packed: 3 items, 15.8 EUR."
    )
    assert [e.arguments for e in journal.of(ToolStarted)] == [{"number": 1}, {"number": 2}]
    assert journal.kinds()[1:4] == ["message.added", "tool.started", "tool.completed"]


async def test_an_order_that_there_is_not_is_a_failure_in_words() -> None:
    journal, (reply,) = await talk("look up order 1000")

    assert reply == "The tool orders_lookup did not succeed: There is no order 1000."
    assert len(journal.of(ToolFailed)) == 1


async def test_it_refunds_orders_and_says_what_came_of_it() -> None:
    journal, replies = await talk("refund order 7", "please refund orders 8 and 9999")

    assert replies == [
        "Order 7 is refunded: 55.3 EUR.",
        "Order 8 is refunded: 63.2 EUR."
        " The tool orders_refund did not succeed: There is no order 9999.",
    ]
    assert [e.name for e in journal.of(ToolStarted)] == ["orders.refund"] * 3


async def test_it_calls_no_tool_that_it_is_not_offered() -> None:
    journal, replies = await talk(
        "look up order 7",
        "show debug info",
        "refund order 7",
        "ask support to sing",
        "hand me to support",
        tools=(),
    )

    assert replies[0].startswith("I cannot look up orders here")
    assert replies[1].startswith('You said: "show debug info".')
    assert replies[2].startswith("I cannot refund orders here")
    assert replies[3].startswith('You said: "ask support to sing".')
    assert replies[4].startswith('You said: "hand me to support".')
    assert journal.of(ToolStarted) == []


async def test_the_slow_report_says_how_far_it_is() -> None:
    journal, (reply,) = await talk("run the slow report")

    assert reply == f"The slow report is done, in {STEPS} steps."
    assert journal.door.reports == [
        (Progress(), f"Step {n} of {STEPS}") for n in range(1, STEPS + 1)
    ]


async def test_the_failing_tool_fails() -> None:
    journal, (reply,) = await talk("try the failing tool")

    assert reply.startswith("The tool debug_fail did not succeed: This tool always fails")
    assert [e.name for e in journal.of(ToolFailed)] == ["debug.fail"]


async def test_debug_info_is_that_of_the_asking_session() -> None:
    journal, (reply,) = await talk("show debug info")

    (completed,) = journal.of(ToolCompleted)
    assert completed.result == {
        "session_id": "ses_1",
        "turn_id": "trn_0",
        "company": "acme",
        "user_id": "ana",
        "assistant": "demo",
        "attempt": 1,
    }
    assert '"session_id": "ses_1"' in reply


async def test_it_writes_as_many_words_as_it_is_asked_for_one_at_a_time() -> None:
    journal, (reply,) = await talk("write 200 words")
    _, (again,) = await talk("write 200 words")
    _, (most,) = await talk("write 999999 words")

    assert len(reply.split()) == 200
    assert reply == again
    assert sum(isinstance(e, TextDelta) for e in journal.yielded) == 200
    assert len(most.split()) == 2_000


async def test_it_pauses_after_each_word(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(model.asyncio, "sleep", pause)
    demo = demo_assistant(model=demo_model(word_seconds=0.5))
    await Journal().asked("write 3 words").run(PydanticLoop(demo))

    assert pauses == [0.5] * 3


async def test_what_is_steered_in_is_answered_too() -> None:
    journal = Journal(tools=DEMO.tools, to_steer=["what is my name?", "look up order 7"])
    journal.asked("my name is Ana and I want to look up order 1")

    reply = await journal.run(LOOP)

    assert reply == (
        "Order 1 is shipped: 2 items, 7.9 EUR. Your name is Ana."
        " Order 7 is shipped: 3 items, 55.3 EUR."
    )


async def test_what_is_steered_in_behind_a_call_is_answered_too() -> None:
    whole, _ = await talk("look up order 1")
    journal = whole.cut(4).asked("how many messages?", turn_id="trn_0")

    reply = await journal.run(LOOP)

    assert reply == (
        "Order 1 is shipped: 2 items, 7.9 EUR. You have sent 2 messages in this session."
    )


async def test_it_goes_on_after_a_loss_from_wherever_it_was() -> None:
    whole, (reply,) = await talk("compare orders 1, 2 and 3")

    for length in range(1, len(whole.events) + 1):
        journal = whole.cut(length)
        await journal.run(LOOP)

        assert journal.transcript()[-1] == ("assistant", reply), f"cut at {length}"
        assert len(journal.of(ToolCompleted)) == 3, f"cut at {length}"


async def test_fifty_sessions_share_it_and_nothing_else() -> None:
    async def one(n: int) -> list[str]:
        journal = Journal(session_id=f"ses_{n}", tools=DEMO.tools)
        replies: list[str] = []
        for text in (f"my name is Ana{n}", "show debug info", "what is my name?"):
            replies.append(await journal.asked(text).run(LOOP))
        return replies

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(n)) for n in range(50)]

    for n, task in enumerate(tasks):
        assert f'"session_id": "ses_{n}"' in task.result()[1]
        assert task.result()[2] == f"Your name is Ana{n}."


async def test_the_default_model_is_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pause(seconds: float) -> None: ...

    monkeypatch.setattr(model.asyncio, "sleep", pause)
    monologue = Journal(tools=()).asked("who are you?")

    assert (await monologue.run(PydanticLoop(demo_assistant()))).startswith("I am Sessile's demo")
    assert demo_assistant().model == "demo"


# -- on the real runtime


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    desk = support.assistants(step_seconds=0)
    demo = demo_assistant(model=demo_model(word_seconds=0), step_seconds=0, others=desk[:1])
    async with Server(demo, *desk, settings=Settings(store_url="memory")) as server:
        yield server


async def opened(server: Server) -> SessionId:
    return (await server.open(ANA)).found.head.key.session_id


async def said(server: Server, session_id: SessionId, text: str) -> str | None:
    submitted = await server.submit(ANA, session_id, text, wait_seconds=PATIENCE_SECONDS)
    assert submitted.turn.status == "completed"
    return submitted.turn.output


async def asked_for(server: Server, session_id: SessionId, count: int) -> list[Any]:
    """The calls that an approval is asked for."""
    calls: list[Any] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for item in server.follow(ANA, session_id):
            for entry in getattr(item, "entries", ()):
                if entry.kind == "approval.requested":
                    calls.append(json.loads(entry.body)["call_id"])
            if len(calls) >= count:
                break
    return calls


@pytest.mark.parametrize(
    ("answers", "reply"),
    [
        ([True, True], "Order 7 is refunded: 55.3 EUR. Order 8 is refunded: 63.2 EUR."),
        (
            [True, False],
            "Order 7 is refunded: 55.3 EUR. The tool orders_refund did not succeed:"
            " Refused: The user did not approve it: Not this one.",
        ),
    ],
)
async def test_a_refund_waits_for_an_approval_and_is_told_with_what_came_of_it(
    server: Server, answers: list[bool], reply: str
) -> None:
    session_id = await opened(server)
    submitted = await server.submit(ANA, session_id, "refund orders 7 and 8")
    calls = await asked_for(server, session_id, len(answers))

    for call_id, granted in zip(calls, answers, strict=True):
        await server.gates.answer(
            ANA, session_id, call_id, granted=granted, reason="" if granted else "Not this one."
        )
    turn = await server.sessions.wait(
        ANA, session_id, submitted.turn.turn_id, seconds=PATIENCE_SECONDS
    )

    assert (turn.status, turn.output) == ("completed", reply)


async def test_another_assistant_is_asked_and_answers_by_its_own_tools(server: Server) -> None:
    session_id = await opened(server)

    reply = await said(server, session_id, "Ask support to look up order 7")

    assert reply is not None
    assert reply.startswith("orders.lookup: ")
    assert '"number": 7' in reply


async def test_a_session_is_handed_over_and_stays_there(server: Server) -> None:
    session_id = await opened(server)

    replies = [
        await said(server, session_id, text)
        for text in ("Please hand me to support", "Show debug info")
    ]

    assert replies[0] == support.HELP
    assert '"assistant": "support"' in str(replies[1])


async def test_whom_it_does_not_know_it_hands_nothing_to(server: Server) -> None:
    session_id = await opened(server)

    reply = await said(server, session_id, "hand me to nobody")

    assert str(reply).startswith("The tool session_hand_off did not succeed: ")
    assert '"assistant": "demo"' in str(await said(server, session_id, "show debug info"))
