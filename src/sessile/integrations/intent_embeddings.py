"""What a text means, by embeddings: any async function that turns texts into vectors will do.

async def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
    answer = await client.embeddings.create(model="…", input=list(texts))
    return [each.embedding for each in answer.data]

classifier = EmbeddingClassifier(embed, threshold=0.55)
"""

import asyncio
import math
from array import array
from collections.abc import Awaitable, Callable, Sequence
from operator import mul

from sessile.ports.intents import IntentGuess, IntentSpec, Likeness

TEXT_CHARACTERS_MAX = 2_000
EXAMPLES_A_CALL_MAX = 256
KNOWN_MAX = 16
"""The vectors of so many assistants' examples are kept; those that came first are dropped."""

Vector = Sequence[float]
Embed = Callable[[Sequence[str]], Awaitable[Sequence[Vector]]]


class EmbeddingClassifier:
    """Finds the example whose vector is nearest to that of the text, by the cosine.

    Examples and phrases are embedded when a text first needs them, and kept; a text never is.
    What likeness is enough depends on the model: measure `threshold` with texts of your own.
    """

    def __init__(
        self,
        embed: Embed,
        *,
        threshold: float,
        margin: float = 0.03,
        timeout_seconds: float = 5.0,
    ) -> None:
        self._embed = embed
        self._threshold = threshold
        self._margin = margin
        self._timeout_seconds = timeout_seconds
        self._known: dict[tuple[IntentSpec, ...], list[Vector]] = {}

    async def classify(self, text: str, intents: Sequence[IntentSpec]) -> IntentGuess:
        specs = tuple(intents)
        said = text[:TEXT_CHARACTERS_MAX].strip()
        if not said or not any(_texts(spec) for spec in specs):
            return self._abstain("There is nothing to compare.")
        limit = asyncio.timeout(self._timeout_seconds)
        try:
            async with limit:
                known = await self._examples(specs)
                (vector,) = await self._vectors([said])
                found = await _nearest(vector, specs, known)
        except Exception as error:  # noqa: BLE001 - the user's function ends here
            if isinstance(error, TimeoutError) and limit.expired():
                return self._abstain(f"No embedding came within {self._timeout_seconds:g} s.")
            # Its message may hold the text, or a key.
            return self._abstain(f"The embedding failed: {type(error).__name__}.")
        return IntentGuess.nearest(found, threshold=self._threshold, margin=self._margin)

    async def _examples(self, specs: tuple[IntentSpec, ...]) -> list[Vector]:
        if (known := self._known.get(specs)) is not None:
            return known
        texts = [text for spec in specs for text in _texts(spec)]
        vectors: list[Vector] = []
        for start in range(0, len(texts), EXAMPLES_A_CALL_MAX):
            vectors += await self._vectors(texts[start : start + EXAMPLES_A_CALL_MAX])
        while len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[specs] = vectors
        return vectors

    async def _vectors(self, texts: Sequence[str]) -> list[Vector]:
        vectors = [_unit(vector) for vector in await self._embed(texts)]
        if len(vectors) != len(texts):
            raise ValueError(f"{len(vectors)} vectors for {len(texts)} texts")
        return vectors

    def _abstain(self, reason: str) -> IntentGuess:
        return IntentGuess.abstained(reason, threshold=self._threshold)


async def _nearest(
    vector: Vector, specs: Sequence[IntentSpec], known: Sequence[Vector]
) -> list[Likeness]:
    """The nearest example of each intent. Between intents, other sessions get a turn: long vectors
    take a tenth of a millisecond each."""
    best: dict[str, Likeness] = {}
    vectors = iter(known)
    for spec in specs:
        for text in _texts(spec):
            other = next(vectors)
            if len(other) != len(vector):
                raise ValueError("vectors of different lengths")
            score = min(sum(map(mul, vector, other)), 1.0)
            if spec.name not in best or score > best[spec.name].score:
                best[spec.name] = Likeness(score, spec.name, text)
        await asyncio.sleep(0)
    return list(best.values())


def _texts(spec: IntentSpec) -> tuple[str, ...]:
    """What is embedded of an intent; a phrase with a gap in it is no sentence."""
    return (*spec.examples, *(phrase for phrase in spec.phrases if "*" not in phrase))


def _unit(vector: Vector) -> Vector:
    length = math.sqrt(sum(value * value for value in vector))
    if not math.isfinite(length):
        raise ValueError("a vector that is not finite")
    return array("d", (value / length for value in vector) if length else vector)
