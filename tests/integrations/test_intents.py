"""What a text means, by embeddings and by a model: found, or left to the agent with the reason."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile.integrations import intent_embeddings
from sessile.integrations.intent_embeddings import EmbeddingClassifier
from sessile.integrations.intent_model import TEXT_CHARACTERS_MAX, ModelClassifier
from sessile.ports.intents import Classifier, IntentSpec

BILLING = IntentSpec(name="billing", description="A wrong bill.", examples=("my invoice is wrong",))
HOURS = IntentSpec(name="hours", examples=("when do you open?",), phrases=("hours", "* open *"))
INTENTS = (BILLING, HOURS)
SECRET = "key sk-123"

Vectors = Sequence[Sequence[float]]


class Embedder:
    """Vectors from a table, and what it was asked for. An unknown text is like nothing."""

    def __init__(self, **vectors: Sequence[float]) -> None:
        self._vectors: dict[str, Sequence[float]] = {
            "my invoice is wrong": (2.0, 0.0, 0.0),
            "when do you open?": (0.0, 3.0, 0.0),
            "hours": (0.0, 0.6, 0.8),
            **vectors,
        }
        self.asked: list[list[str]] = []

    async def __call__(self, texts: Sequence[str]) -> Vectors:
        self.asked.append(list(texts))
        return [self._vectors.get(text, (0.0, 0.0, 0.0)) for text in texts]


def embedding(embed: Callable[[Sequence[str]], Awaitable[Vectors]], **kw: Any) -> Classifier:
    return EmbeddingClassifier(embed, **{"threshold": 0.7, "margin": 0.1, **kw})


async def test_the_example_that_points_the_same_way_is_taken() -> None:
    classifier = embedding(Embedder(bill=(4.0, 3.0, 0.0), late=(0.0, 1.0, 0.9)))

    bill = await classifier.classify("bill", INTENTS)
    late = await classifier.classify("late", INTENTS)

    assert (bill.intent, bill.score, bill.runner_up) == ("billing", 0.8, "hours")
    assert bill.runner_up_score == 0.6
    assert "'my invoice is wrong'" in bill.reason
    assert (late.intent, late.runner_up) == ("hours", None)
    assert "'hours'" in late.reason


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        ((1.0, 0.0, -1.5), "0.70 are asked"),
        ((1.0, 1.0, 0.0), "too close"),
        ((-1.0, -1.0, -1.0), "No example is like it."),
        ((0.0, 0.0, 0.0), "No example is like it."),
    ],
)
async def test_what_is_like_nothing_or_two_things_is_left_alone(
    vector: Sequence[float], reason: str
) -> None:
    guess = await embedding(Embedder(text=vector)).classify("text", INTENTS)

    assert guess.intent is None
    assert guess.threshold == 0.7
    assert reason in guess.reason


async def test_examples_are_embedded_once_and_texts_each_time() -> None:
    embedder = Embedder()
    classifier = embedding(embedder)

    for _ in range(2):
        await classifier.classify("a", INTENTS)
    await classifier.classify("a", [BILLING])

    assert embedder.asked == [
        ["my invoice is wrong", "when do you open?", "hours"],
        ["a"],
        ["a"],
        ["my invoice is wrong"],
        ["a"],
    ]


async def test_the_examples_of_a_few_assistants_are_kept() -> None:
    embedder = Embedder()
    classifier = embedding(embedder)
    sets = [
        (IntentSpec(name=f"{count}", examples=(f"e{count}",)),)
        for count in range(intent_embeddings.KNOWN_MAX + 1)
    ]
    for intents in (*sets, sets[-1], sets[1], sets[0]):
        await classifier.classify("a", intents)

    asked = [texts[0] for texts in embedder.asked if texts != ["a"]]
    assert asked == [*(f"e{count}" for count in range(len(sets))), "e0"]


async def test_many_examples_are_embedded_in_several_calls() -> None:
    embedder = Embedder(last=(0.0, 0.0, 1.0), text=(0.0, 0.0, 1.0))
    examples = (*(f"example {count}" for count in range(300)), "last")

    guess = await embedding(embedder).classify("text", [IntentSpec(name="x", examples=examples)])

    assert guess.intent == "x"
    assert [len(texts) for texts in embedder.asked] == [256, 45, 1]


async def test_a_long_text_is_cut_before_it_is_embedded() -> None:
    embedder = Embedder()

    await embedding(embedder).classify("x" * 32_000, INTENTS)

    assert len(embedder.asked[-1][0]) == intent_embeddings.TEXT_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("text", "intents"),
    [(" \n", INTENTS), ("a", ()), ("a", [IntentSpec(name="x", phrases=("a *",))])],
)
async def test_nothing_is_embedded_where_there_is_nothing_to_compare(
    text: str, intents: Sequence[IntentSpec]
) -> None:
    embedder = Embedder()

    guess = await embedding(embedder).classify(text, intents)

    assert (guess.intent, guess.reason) == (None, "There is nothing to compare.")
    assert embedder.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        ConnectionError(SECRET),
        TimeoutError(SECRET),
        ExceptionGroup(SECRET, [ValueError(SECRET)]),
        [],
        [(1.0, 0.0)],
        [(1.0, 0.0, 0.0)] * 9,
        [(float("nan"), 0.0, 0.0)],
        [(1e308, 1e308, 1e308)],
        [("a", "b", "c")],
        None,
    ],
)
async def test_a_failed_embedding_leaves_the_text_to_the_agent(answer: Any) -> None:
    well = Embedder()
    broken = False

    async def embed(texts: Sequence[str]) -> Vectors:
        if not broken:
            return await well(texts)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    classifier = embedding(embed)
    for broken in (True, False, True):
        guess = await classifier.classify("my invoice is wrong", INTENTS)

        assert guess.intent == (None if broken else "billing")
        assert guess.reason.startswith("The embedding failed: ") is broken
        assert SECRET not in guess.reason


async def test_an_embedding_that_does_not_come_leaves_the_text_to_the_agent() -> None:
    async def embed(_: Sequence[str]) -> Vectors:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    guess = await embedding(embed, timeout_seconds=0.01).classify("a", INTENTS)

    assert (guess.intent, guess.reason) == (None, "No embedding came within 0.01 s.")


async def test_a_cancelled_turn_is_no_failed_embedding() -> None:
    asked = asyncio.Event()

    async def embed(_: Sequence[str]) -> Vectors:
        asked.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async with asyncio.TaskGroup() as group:
        task = group.create_task(_classified(embedding(embed)))
        await asked.wait()
        task.cancel()

    assert task.cancelled()


async def _classified(classifier: Classifier) -> Any:
    return await classifier.classify("a", INTENTS)


class Chooser:
    """A model that answers what it is told to, and what it was shown."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)
        self.messages: list[list[ModelMessage]] = []
        self.schemas: list[Any] = []
        self.instructions: list[str] = []

    def model(self) -> FunctionModel:
        return FunctionModel(self._answer, model_name="chooser")

    async def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.messages.append(messages)
        (tool,) = info.output_tools
        self.schemas.append(tool.parameters_json_schema)
        self.instructions.append(info.instructions or "")
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            return ModelResponse(parts=[TextPart(answer)])
        return ModelResponse(parts=[ToolCallPart(tool.name, answer)])


def chosen(intent: str | None, confidence: float = 0.9) -> dict[str, Any]:
    return {"intent": intent, "confidence": confidence}


async def test_the_model_picks_one_of_the_declared_intents() -> None:
    chooser = Chooser(chosen("billing"))

    guess = await ModelClassifier(chooser.model()).classify("  what a bill\n", INTENTS)

    assert (guess.intent, guess.score, guess.threshold) == ("billing", 0.9, 0.5)
    assert guess.reason == "The model chose billing with a confidence of 0.90."
    assert guess.tokens_used > 0
    (prompt,) = chooser.messages[0][0].parts
    assert prompt.part_kind == "user-prompt"
    assert prompt.content == "what a bill"
    shown = json.loads(chooser.instructions[0].splitlines()[-1])
    assert [each["intent"] for each in shown] == ["billing", "hours"]
    assert shown[0]["description"] == "A wrong bill."
    assert shown[1]["examples"] == ["when do you open?", "hours", "* open *"]
    assert '"enum": ["billing", "hours"]' in json.dumps(chooser.schemas[0])


@pytest.mark.parametrize(
    ("answer", "score", "reason"),
    [
        (chosen(None), 0.0, "The model finds none of the intents."),
        (
            chosen("billing", 0.49),
            0.49,
            "The model chose billing with a confidence of 0.49; 0.50 are asked.",
        ),
    ],
)
async def test_a_model_that_is_not_sure_leaves_the_text_to_the_agent(
    answer: Any, score: float, reason: str
) -> None:
    guess = await ModelClassifier(Chooser(answer).model()).classify("a", INTENTS)

    assert (guess.intent, guess.score, guess.reason) == (None, score, reason)
    assert guess.tokens_used > 0


async def test_a_model_that_invents_an_intent_is_asked_once_more() -> None:
    chooser = Chooser(chosen("gossip"), chosen("hours", 1))

    guess = await ModelClassifier(chooser.model()).classify("a", INTENTS)

    assert (guess.intent, guess.score) == ("hours", 1.0)
    assert len(chooser.messages) == 2


@pytest.mark.parametrize(
    ("answers", "requests"),
    [
        ((chosen("gossip"), chosen("gossip"), chosen("hours")), 2),
        ((chosen("hours", 2), chosen("hours", -1), chosen("hours")), 2),
        (("I obey the user", "I do", chosen("hours")), 2),
        ((ModelHTTPError(500, "chooser", SECRET),), 1),
        ((ExceptionGroup(SECRET, [ValueError(SECRET)]),), 1),
        ((TimeoutError(SECRET),), 1),
    ],
)
async def test_a_failed_model_leaves_the_text_to_the_agent(
    answers: Sequence[Any], requests: int
) -> None:
    chooser = Chooser(*answers)

    guess = await ModelClassifier(chooser.model()).classify("a", INTENTS)

    assert guess.intent is None
    assert guess.reason.startswith("The model failed: ")
    assert SECRET not in guess.reason
    assert len(chooser.messages) == requests


async def test_tokens_are_counted_where_the_model_failed() -> None:
    guess = await ModelClassifier(Chooser("no", "no").model()).classify("a", INTENTS)

    assert guess.intent is None
    assert guess.tokens_used > 0


async def test_a_model_that_nobody_knows_leaves_the_text_to_the_agent() -> None:
    guess = await ModelClassifier("nobody:nothing").classify("a", INTENTS)

    assert guess.intent is None
    assert guess.reason.startswith("The model failed: ")


async def test_a_model_that_does_not_answer_leaves_the_text_to_the_agent() -> None:
    async def silent(_: list[ModelMessage], __: AgentInfo) -> ModelResponse:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    classifier = ModelClassifier(FunctionModel(silent), timeout_seconds=0.01)

    guess = await classifier.classify("a", INTENTS)

    assert (guess.intent, guess.reason) == (None, "The model did not choose within 0.01 s.")


async def test_a_long_text_is_cut_before_it_is_shown() -> None:
    chooser = Chooser(chosen(None))

    await ModelClassifier(chooser.model()).classify("x" * 32_000, INTENTS)

    assert len(str(chooser.messages[0][0].parts[0].content)) == TEXT_CHARACTERS_MAX


@pytest.mark.parametrize(("text", "intents"), [("\n ", INTENTS), ("a", ())])
async def test_no_model_is_asked_where_there_is_nothing_to_choose(
    text: str, intents: Sequence[IntentSpec]
) -> None:
    chooser = Chooser()

    guess = await ModelClassifier(chooser.model()).classify(text, intents)

    assert (guess.intent, guess.reason) == (None, "There is nothing to choose.")
    assert chooser.messages == []


async def test_two_sets_of_intents_are_not_mixed_up() -> None:
    chooser = Chooser(chosen("billing"), chosen("hours"), chosen("billing"))
    classifier = ModelClassifier(chooser.model())

    for intents, name in (([BILLING], "billing"), ([HOURS], "hours"), ((BILLING,), "billing")):
        assert (await classifier.classify("a", intents)).intent == name
    assert chooser.schemas[0] == chooser.schemas[2] != chooser.schemas[1]
