"""What a text means, found offline: by phrases that are certain, then by examples that are like it.

Nothing is learnt and nothing is kept of a text: the same text and intents give the same guess.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from sessile.kit.words import LIGHT, fits, phrase_of, words_of
from sessile.ports.intents import Classifier, IntentGuess, IntentSpec, Likeness, quoted

THRESHOLD = 0.4
MARGIN = 0.05
INDEXES_MAX = 64
"""An index is of one assistant's intents; those that were used last are kept."""

_LIGHT_WEIGHT = 0.3
_GRAMS_WEIGHT = 0.8


class PhrasesFirst:
    """Takes the intent whose phrase the text matches, and else asks the next classifier: by
    default, which intent's examples are nearest.

    Of several intents, the one with most words in its phrase is taken; where two have as many,
    the next classifier is asked.
    """

    def __init__(self, then: Classifier | None = None) -> None:
        self._then = then if then is not None else NearestExamples()
        self._phrases = lru_cache(maxsize=INDEXES_MAX)(_Phrases)

    async def classify(self, text: str, intents: Sequence[IntentSpec]) -> IntentGuess:
        specs = tuple(intents)
        found = self._phrases(specs).find(words_of(text))
        return found or await self._then.classify(text, specs)


class NearestExamples:
    """Finds the example with the words and the pieces of words most like those of the text.

    It abstains where the likeness is under `threshold`, or less than `margin` above that of
    another intent: the agent then answers, as it does for whatever nobody has declared.
    """

    def __init__(self, *, threshold: float = THRESHOLD, margin: float = MARGIN) -> None:
        self._threshold = threshold
        self._margin = margin
        self._index = lru_cache(maxsize=INDEXES_MAX)(_Index)

    async def classify(self, text: str, intents: Sequence[IntentSpec]) -> IntentGuess:
        found = self._index(tuple(intents)).find(words_of(text))
        return IntentGuess.nearest(found, threshold=self._threshold, margin=self._margin)


class _Phrases:
    def __init__(self, intents: tuple[IntentSpec, ...]) -> None:
        self._exact: dict[tuple[str, ...], list[tuple[int, str, str]]] = defaultdict(list)
        self._open: list[tuple[tuple[str, ...], tuple[int, str, str]]] = []
        for spec in intents:
            for phrase in spec.phrases:
                words = phrase_of(phrase)
                claim = (sum(word != "*" for word in words), spec.name, phrase)
                if any("*" in word for word in words):
                    self._open.append((words, claim))
                else:
                    self._exact[words].append(claim)

    def find(self, words: tuple[str, ...]) -> IntentGuess | None:
        claims = [claim for phrase, claim in self._open if fits(phrase, words)]
        claims += self._exact.get(words, ())
        most = max((weight for weight, _, _ in claims), default=0)
        best = {intent: phrase for weight, intent, phrase in claims if weight == most > 0}
        if len(best) != 1:
            return None
        ((intent, phrase),) = best.items()
        reason = f"It matches a phrase of {intent}: {quoted(phrase)}."
        return IntentGuess(intent=intent, score=1.0, threshold=1.0, reason=reason)


class _Index:
    """The examples as weighted features, by feature.

    A feature weighs the more, the fewer intents share it. That an intent's examples repeat a word
    does not make it lighter, as counting examples would; and a word that no example has weighs
    most of all, so that what is foreign to all of them takes away from every likeness.
    """

    def __init__(self, intents: tuple[IntentSpec, ...]) -> None:
        self._examples: list[tuple[str, str]] = []
        features: list[dict[str, float]] = []
        owners: dict[str, Counter[str]] = defaultdict(Counter)
        for spec in intents:
            for example in (*spec.examples, *spec.phrases):
                self._examples.append((spec.name, example))
                features.append(_features(words_of(example)))
                for feature in features[-1]:
                    owners[feature][spec.name] += 1
        count = len({spec.name for spec in intents})
        self._foreign = math.log1p(count)
        self._weights = {
            feature: math.log1p(count * _purity(names.values()))
            for feature, names in owners.items()
        }
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for at, each in enumerate(features):
            for feature, value in self._weighted(each).items():
                self._postings[feature].append((at, value))

    def find(self, words: tuple[str, ...]) -> list[Likeness]:
        """The nearest example of each intent that has one like these words."""
        if not self._examples:
            return []
        likeness = [0.0] * len(self._examples)
        for feature, value in self._weighted(_features(words)).items():
            for at, other in self._postings.get(feature, ()):
                likeness[at] += value * other
        best: dict[str, Likeness] = {}
        for (intent, example), score in zip(self._examples, likeness, strict=True):
            if score > 0 and (intent not in best or score > best[intent].score):
                best[intent] = Likeness(min(score, 1.0), intent, example)
        return list(best.values())

    def _weighted(self, features: Mapping[str, float]) -> dict[str, float]:
        weights, foreign = self._weights, self._foreign
        weighted = {each: value * weights.get(each, foreign) for each, value in features.items()}
        length = math.sqrt(sum(value * value for value in weighted.values()))
        return {each: value / length for each, value in weighted.items()}


def _purity(counts: Iterable[int]) -> float:
    """1 where one intent has all, 1/n where n intents have the same share."""
    shares = tuple(counts)
    return sum(share * share for share in shares) / sum(shares) ** 2


def _features(words: Iterable[str]) -> dict[str, float]:
    """Each word once, and its pieces of three letters, which outlive an ending or a slip."""
    features: dict[str, float] = defaultdict(float)
    for word in dict.fromkeys(words):
        weight = _LIGHT_WEIGHT if word in LIGHT or word.isdigit() else 1.0
        features[word] += weight
        framed = f"^{word}$"
        pieces = {framed[at : at + 3] for at in range(len(framed) - 2)}
        for piece in pieces:
            features[f"^{piece}"] += weight * _GRAMS_WEIGHT / math.sqrt(len(pieces))
    return features
