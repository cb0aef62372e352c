"""How a turn goes through an assistant's stages, and what is said of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.integrations.journal import Door, identity

from sessile.core.context import TurnContext
from sessile.core.errors import ContextExpired, ContextMismatch, LeaseLost, SessionNotFound
from sessile.core.events import Progress
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.kit.pipeline import Pipeline
from sessile.kit.replies import Button, Intent, Reply
from sessile.ports.agent import (
    AgentEvent,
    AgentFailed,
    IntentDecision,
    TextDelta,
    Tools,
)
from sessile.ports.intents import IntentGuess, IntentSpec

Answer = Reply | str | None


class Loop:
    """An agent's loop that answers `agent`, and is known to have been closed."""

    reads_history = False
    restarts = True

    def __init__(self) -> None:
        self.turns: list[TurnContext] = []
        self.closed = False

    async def run(
        self, turn: TurnContext, history: History, tools: Tools
    ) -> AsyncIterator[AgentEvent]:
        self.turns.append(turn)
        try:
            yield TextDelta("agent")
            yield TextDelta(" speaks")
        finally:
            self.closed = True


class Counting(Loop):
    """One that says what it used, as agents do: by itself."""

    async def run(
        self, turn: TurnContext, history: History, tools: Tools
    ) -> AsyncIterator[AgentEvent]:
        yield Progress(current_iteration=1, tokens_used=5)
        yield TextDelta("agent")


@dataclass
class Desk:
    """What the stages ask of a turn's tools: who answers by the log, and whose the session is."""

    decided: str | None = None
    handed_off: bool = False


@dataclass
class Walk:
    """One assistant, and what a run of it yields."""

    assistant: Assistant = field(default_factory=lambda: Assistant("sites"))
    loop: Loop = field(default_factory=Loop)
    desk: Any = field(default_factory=Desk)
    door: Door = field(default_factory=Door)

    async def of(self, given: Mapping[str, Any] | str) -> list[AgentEvent]:
        if isinstance(given, str):
            given = {"type": "message", "text": given}
        turn = TurnContext(identity(input=given), self.door, History(()))
        pipeline = Pipeline(self.assistant.stages, self.loop)
        return [event async for event in pipeline.run(turn, History(()), self.desk)]

    async def decision(self, given: Mapping[str, Any] | str) -> IntentDecision:
        event = (await self.of(given))[0]
        assert isinstance(event, IntentDecision)
        return event


def press(button: str = "view", **payload: Any) -> dict[str, Any]:
    return {"type": "button", "button": button, "payload": payload, "text": "View"}


SPOKEN: list[AgentEvent] = [TextDelta("agent"), TextDelta(" speaks")]


# -- the order


async def test_without_stages_the_agent_answers_and_nothing_is_decided() -> None:
    assert await Walk().of("hello") == SPOKEN


async def test_a_press_is_answered_by_its_button_with_what_it_offers() -> None:
    walk = Walk()

    @walk.assistant.button("view")
    async def view(turn: TurnContext, payload: dict[str, Any]) -> Answer:
        offered = Button("pick", "Maple Tower", {"project": payload["first"]})
        return Reply("Your sites", (offered, Button("more", "More")), reason="two are known")

    assert await walk.of(press(first="p1")) == [
        IntentDecision(path="button", reason="button view answered: two are known"),
        TextDelta("Your sites"),
        Button("pick", "Maple Tower", {"project": "p1"}),
        Button("more", "More"),
    ]
    assert walk.loop.turns == []


async def test_a_press_nobody_answers_goes_through_all_stages_in_one_turn() -> None:
    walk = Walk()
    seen: list[tuple[str, str]] = []

    def note(stage: str, turn: TurnContext) -> None:
        seen.append((stage, turn.turn_id))

    @walk.assistant.intent("sites", phrases=("view",))
    async def sites(turn: TurnContext, intent: Intent) -> Answer:
        note("intent", turn)
        return None

    @walk.assistant.direct
    async def first(turn: TurnContext) -> Answer:
        note("first", turn)
        return None

    @walk.assistant.direct
    async def second(turn: TurnContext) -> Answer:
        note("second", turn)
        return None

    @walk.assistant.button("view")
    async def view(turn: TurnContext, payload: dict[str, Any]) -> Answer:
        note("button", turn)
        return None

    decision, *spoken = await walk.of(press())

    assert seen == [(stage, "trn_1") for stage in ("button", "first", "second", "intent")]
    assert [turn.turn_id for turn in walk.loop.turns] == ["trn_1"]
    assert spoken == SPOKEN
    assert decision == IntentDecision(
        path="agent",
        intent="sites",
        score=1.0,
        threshold=1.0,
        reason="button view had no answer; direct first had no answer;"
        " direct second had no answer; It matches a phrase of sites: 'view';"
        " intent sites had no answer",
    )


async def test_the_first_that_answers_is_the_last_that_is_asked() -> None:
    walk = Walk()

    @walk.assistant.direct
    async def first(turn: TurnContext) -> Answer:
        return "first"

    @walk.assistant.direct
    async def second(turn: TurnContext) -> Answer:
        raise AssertionError("it is asked all the same")

    @walk.assistant.intent("hello", phrases=("hello",))
    async def hello(turn: TurnContext, intent: Intent) -> Answer:
        raise AssertionError("it is asked all the same")

    assert await walk.of("hello") == [
        IntentDecision(path="direct", reason="direct first answered"),
        TextDelta("first"),
    ]


async def test_an_intent_gets_what_the_text_was_taken_for() -> None:
    walk = Walk()

    @walk.assistant.intent("greet", phrases=("bonjour",))
    async def greet(turn: TurnContext, intent: Intent) -> Answer:
        return f"{intent.name} {intent.score} {intent.text}"

    decision, text = await walk.of("Bonjour !")

    assert text == TextDelta("greet 1.0 Bonjour !")
    assert decision == IntentDecision(
        path="intent",
        intent="greet",
        score=1.0,
        threshold=1.0,
        reason="It matches a phrase of greet: 'bonjour'; intent greet answered",
    )


async def test_a_text_that_is_like_no_intent_is_the_agents_and_its_score_is_told() -> None:
    walk = Walk(Assistant("sites", classifier=Says(IntentGuess(
        intent=None, score=0.3, threshold=0.4, reason="Too far.", runner_up=None
    ))))  # fmt: skip

    @walk.assistant.intent("greet")
    async def greet(turn: TurnContext, intent: Intent) -> Answer:
        raise AssertionError("it is asked all the same")

    decision, *spoken = await walk.of("pour the concrete")

    assert decision == IntentDecision(path="agent", score=0.3, threshold=0.4, reason="Too far")
    assert spoken == SPOKEN


async def test_g13_what_a_classifier_used_is_counted_with_what_the_agent_uses() -> None:
    guess = IntentGuess(intent=None, score=0.3, threshold=0.4, reason="Too far.", tokens_used=30)
    walk = Walk(Assistant("sites", classifier=Says(guess)), loop=Counting())

    @walk.assistant.intent("greet")
    async def greet(turn: TurnContext, intent: Intent) -> Answer:
        raise AssertionError("it is asked all the same")

    _, *told = await walk.of("pour the concrete")

    counted = Progress(current_iteration=1, tokens_used=5 + 30)
    assert told == [Progress(tokens_used=30), counted, TextDelta("agent")]


async def test_g13_what_a_classifier_used_is_counted_where_a_stage_answers() -> None:
    guess = IntentGuess(intent="greet", score=0.9, threshold=0.4, reason="It is.", tokens_used=30)
    walk = Walk(Assistant("sites", classifier=Says(guess)))

    @walk.assistant.intent("greet")
    async def greet(turn: TurnContext, intent: Intent) -> Answer:
        return "Hello"

    _, *told = await walk.of("good day")

    assert told == [Progress(tokens_used=30), TextDelta("Hello")]


async def test_a_task_goes_straight_to_the_agent() -> None:
    walk = Walk()

    @walk.assistant.direct
    async def first(turn: TurnContext) -> Answer:
        raise AssertionError("it is asked all the same")

    assert await walk.of({"type": "task", "text": "hello"}) == SPOKEN


async def test_a_message_is_no_press_though_it_names_a_button() -> None:
    walk = Walk()

    @walk.assistant.button("view")
    async def view(turn: TurnContext, payload: dict[str, Any]) -> Answer:
        raise AssertionError("it is asked all the same")

    decision = await walk.decision({**press(), "type": "message"})

    assert decision == IntentDecision(path="agent")


# -- what fails hands on


@pytest.mark.parametrize(
    "failure",
    [ValueError("secret"), SessionNotFound(), TimeoutError(), asyncio.CancelledError()],
    ids=["any", "a refusal", "a time-out", "its own cancellation"],
)
async def test_a_stage_that_fails_hands_on(
    failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    walk = Walk()

    @walk.assistant.button("view")
    async def view(turn: TurnContext, payload: dict[str, Any]) -> Answer:
        raise failure

    @walk.assistant.direct
    async def direct(turn: TurnContext) -> Answer:
        return "still here"

    decision, text = await walk.of(press())

    assert text == TextDelta("still here")
    assert decision == IntentDecision(
        path="direct",
        reason=f"button view failed: {type(failure).__name__}; direct direct answered",
    )
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [(record.getMessage(), record.__dict__["turn_id"]) for record in logged] == [
        ("a stage failed", "trn_1")
    ]


@pytest.mark.parametrize("answer", ["", 7, {"text": "hello"}])
async def test_what_is_no_answer_hands_on(answer: Any) -> None:
    walk = Walk()

    @walk.assistant.direct
    async def direct(turn: TurnContext) -> Any:
        return answer

    decision, *spoken = await walk.of("hello")

    assert spoken == SPOKEN
    assert isinstance(decision, IntentDecision)
    assert decision.reason.startswith("direct direct failed: ")


@pytest.mark.parametrize(
    "over",
    [
        LeaseLost(),
        ContextExpired(),
        ContextMismatch(),
        AgentFailed("too_much", "The handler gave up."),
    ],
    ids=lambda over: type(over).__name__,
)
async def test_a_turn_that_is_over_asks_no_further_stage(over: BaseException) -> None:
    walk = Walk()

    @walk.assistant.direct
    async def direct(turn: TurnContext) -> Answer:
        raise over

    with pytest.raises(type(over)):
        await walk.of("hello")
    assert walk.loop.turns == []


async def test_a_stage_that_outlived_its_turn_is_not_heard_when_it_fails() -> None:
    walk = Walk()

    @walk.assistant.direct
    async def direct(turn: TurnContext) -> Answer:
        walk.door.is_open = False
        raise ValueError

    with pytest.raises(ContextExpired):
        await walk.of("hello")


async def test_a_stage_in_which_a_group_failed_hands_on_and_is_not_a_turn_that_is_stopped() -> None:
    """Before Python 3.13 its task goes on counting as cancelled."""
    walk = Walk()

    async def broken() -> None:
        raise ValueError

    @walk.assistant.direct
    async def direct(turn: TurnContext) -> Answer:
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(broken())
        return None

    _, *spoken = await walk.of("hello")

    assert spoken == SPOKEN


async def test_a_turn_that_is_stopped_is_not_a_stage_that_failed() -> None:
    walk = Walk()
    begun = asyncio.Event()

    @walk.assistant.direct
    async def direct(turn: TurnContext) -> Answer:
        begun.set()
        await asyncio.Event().wait()
        return "never"

    async with asyncio.TaskGroup() as group:
        running = group.create_task(walk.of("hello"))
        await begun.wait()
        running.cancel()

    assert running.cancelled()
    assert walk.loop.turns == []


@pytest.mark.parametrize("raises", [True, False])
async def test_a_stage_that_does_not_heed_that_it_is_stopped_is_the_last(raises: bool) -> None:
    walk = Walk()
    begun = asyncio.Event()

    @walk.assistant.direct
    async def direct(turn: TurnContext) -> Answer:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if raises:
                raise ValueError from None
        return None

    async with asyncio.TaskGroup() as group:
        running = group.create_task(walk.of("hello"))
        await begun.wait()
        running.cancel()

    assert running.cancelled()
    assert walk.loop.turns == []


@dataclass
class Says:
    """A classifier that guesses as it was told, or fails."""

    guess: IntentGuess | Exception

    async def classify(self, text: str, intents: Sequence[IntentSpec]) -> IntentGuess:
        if isinstance(self.guess, Exception):
            raise self.guess
        return self.guess


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (RuntimeError("down"), "classifier failed: RuntimeError"),
        (
            IntentGuess(intent="gone", score=0.9, threshold=0.4, reason="Like gone."),
            "Like gone; there is no intent 'gone'",
        ),
    ],
    ids=["it fails", "it names what there is not"],
)
async def test_a_broken_classifier_hands_on_to_the_agent(
    said: IntentGuess | Exception, reason: str
) -> None:
    walk = Walk(Assistant("sites", classifier=Says(said)))

    @walk.assistant.intent("greet")
    async def greet(turn: TurnContext, intent: Intent) -> Answer:
        raise AssertionError("it is asked all the same")

    decision, *spoken = await walk.of("hello")

    assert isinstance(decision, IntentDecision)
    assert (decision.path, decision.reason) == ("agent", reason)
    assert spoken == SPOKEN


async def test_a_press_that_was_queued_for_another_version_hands_on() -> None:
    """Its button is gone, or takes another payload by now."""
    walk = Walk()

    @walk.assistant.button("view")
    async def view(turn: TurnContext, payload: dict[str, int]) -> Answer:
        raise AssertionError("it is asked all the same")

    gone = await walk.decision(press("gone"))
    changed = await walk.decision(press(first="no number"))

    assert (gone.path, gone.reason) == ("agent", "no handler of the button gone")
    assert (changed.path, changed.reason) == ("agent", "button view failed: InvalidInput")


async def test_a_stale_press_has_the_answer_that_was_declared_for_it() -> None:
    """Of a button that its message does not offer, and of one that is not known any more."""
    walk = Walk()
    walk.assistant.button("view")(_answers_a_press)

    @walk.assistant.stale
    async def late(turn: TurnContext) -> Answer:
        return Reply(f"Trop tard : {turn.input['button']}", (Button("view", "Voir"),))

    assert await walk.of({**press(), "message_id": "msg_1"}) == [
        IntentDecision(path="button", reason="stale; stale late answered"),
        TextDelta("Trop tard : view"),
        Button("view", "Voir"),
    ]
    assert await walk.of(press("gone")) == [
        IntentDecision(path="button", reason="no handler of the button gone; stale late answered"),
        TextDelta("Trop tard : gone"),
        Button("view", "Voir"),
    ]
    assert (await walk.of(press()))[1] == TextDelta("button")


async def test_a_stale_press_without_an_answer_hands_on() -> None:
    walk = Walk()

    @walk.assistant.stale
    async def late(turn: TurnContext) -> Answer:
        return None

    for given in ({**press(), "message_id": "msg_1"}, press("gone")):
        decision, *spoken = await walk.of(given)

        assert isinstance(decision, IntentDecision)
        assert (decision.path, decision.reason.partition("; ")[2]) == (
            "agent",
            "stale late had no answer",
        )
        assert spoken == SPOKEN


# -- what the log says already


@pytest.mark.parametrize("decided", ["button", "intent", "direct"])
async def test_what_a_stage_was_to_answer_is_gone_through_again(decided: str) -> None:
    """The turn lost its node behind the decision; what is decided now may be another's, to whom
    the session went meanwhile, and is told in any case."""
    walk = Walk(desk=Desk(decided=decided))
    walk.assistant.button("view")(_answers_a_press)
    walk.assistant.intent("hello", phrases=("hello",))(_answers_an_intent)

    @walk.assistant.direct
    async def direct(turn: TurnContext) -> Answer:
        return "direct" if turn.input["text"] == "direct" else None

    given: Any = {"button": press(), "intent": "hello", "direct": "direct"}[decided]
    decision, text = await walk.of(given)

    assert isinstance(decision, IntentDecision)
    assert decision.path == decided
    assert text == TextDelta(decided)


async def test_once_the_agent_has_begun_the_stages_are_not_gone_through_again() -> None:
    walk = Walk(desk=Desk(decided="agent"))
    walk.assistant.intent("hello", phrases=("hello",))(_answers_an_intent)

    assert await walk.of("hello") == SPOKEN


async def test_a_stage_that_decides_otherwise_after_a_loss_says_so() -> None:
    """Else a second loss would run the stages again although the agent has begun."""
    walk = Walk(desk=Desk(decided="direct"))

    @walk.assistant.direct
    async def direct(turn: TurnContext) -> Answer:
        raise ConnectionError

    decision, *spoken = await walk.of("hello")

    assert decision == IntentDecision(path="agent", reason="direct direct failed: ConnectionError")
    assert spoken == SPOKEN


# -- the session goes to another assistant


@pytest.mark.parametrize("path", ["button", "direct", "intent"])
async def test_a_stage_that_hands_the_session_on_is_the_last(path: str) -> None:
    """The other assistant answers, and no agent or later stage of this one."""
    walk = Walk()

    async def hand_on(turn: TurnContext) -> Answer:
        walk.desk.handed_off = True
        return None

    async def never(turn: TurnContext) -> Answer:
        raise AssertionError("it is asked all the same")

    @walk.assistant.button("view")
    async def view(turn: TurnContext, payload: dict[str, Any]) -> Answer:
        return await hand_on(turn) if path == "button" else None

    if path == "direct":
        walk.assistant.direct(hand_on)
    if path != "intent":
        walk.assistant.direct(never)

    @walk.assistant.intent("view", phrases=("view",))
    async def intent(turn: TurnContext, intent: Intent) -> Answer:
        return await hand_on(turn)

    events = await walk.of(press())

    (decision,) = events
    assert isinstance(decision, IntentDecision)
    assert decision.path == path
    assert decision.reason.endswith("handed the session on")
    assert walk.loop.turns == []


async def test_a_stage_may_hand_the_session_on_and_have_the_last_word() -> None:
    walk = Walk()

    @walk.assistant.direct
    async def direct(turn: TurnContext) -> Answer:
        walk.desk.handed_off = True
        return "Cards will help you."

    decision, text = await walk.of("hello")

    assert isinstance(decision, IntentDecision)
    assert decision.reason == "direct direct answered"
    assert text == TextDelta("Cards will help you.")


# -- what drives it


async def test_the_agents_run_is_closed_where_nobody_listens_on() -> None:
    walk = Walk()
    turn = TurnContext(identity(), walk.door, History(()))

    run: Any = Pipeline(walk.assistant.stages, walk.loop).run(turn, History(()), walk.desk)
    await anext(run)
    await run.aclose()

    assert walk.loop.closed


def test_a_history_is_read_for_the_stages_though_the_agent_reads_none() -> None:
    assistant = Assistant("sites")
    pipeline = Pipeline(assistant.stages, Loop())

    assert not pipeline.reads_history
    assistant.intent("hello")(_answers_an_intent)
    assert pipeline.reads_history
    assert pipeline.restarts


async def _answers_a_press(turn: TurnContext, payload: dict[str, Any]) -> Answer:
    return "button"


async def _answers_an_intent(turn: TurnContext, intent: Intent) -> Answer:
    return "intent"
