"""The classifier: which of an assistant's declared intents does a text mean, if any?"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

QUOTED_CHARACTERS_MAX = 80

_TWO_STARS = re.compile(r"\*\S*\*")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentSpec:
    """One thing that users ask for, as an assistant declares it.

    `phrases` are certain: a text that matches one has this intent. Case, accents and punctuation
    do not count; `*` stands for any words or none, and `cancel*` for a word that begins so.
    `examples` are what users may say: a classifier finds what is like them.
    """

    name: str
    description: str = ""
    examples: tuple[str, ...] = ()
    phrases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for texts in (self.examples, self.phrases):
            # A text alone would be taken for a tuple of letters.
            if not _are_texts(texts):
                raise TypeError(f"intent {self.name!r}: examples and phrases are tuples of texts")
        for phrase in self.phrases:
            if _TWO_STARS.search(phrase) or not any(char.isalnum() for char in phrase):
                raise ValueError(
                    f"intent {self.name!r}: {phrase!r} is no phrase: it has words, and one * at"
                    " most in each"
                )


class Likeness(NamedTuple):
    """How like a text is to an intent, from 0 to 1, by its example that is nearest."""

    score: float
    intent: str
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentGuess:
    """What a classifier says of a text: its turn's log keeps it.

    `intent`: None where it abstains, and the agent answers. `score`: of the best intent, taken or
    not, from 0 to 1; below `threshold` none is taken. `runner_up`: the next best intent.
    `reason`: a sentence that may quote what was declared, but never the text, which may be
    redacted later. `tokens_used`: by the model, where one was asked.
    """

    intent: str | None
    score: float
    threshold: float
    reason: str
    runner_up: str | None = None
    runner_up_score: float = 0.0
    tokens_used: int = 0

    @classmethod
    def abstained(cls, reason: str, *, threshold: float, tokens_used: int = 0) -> Self:
        """Nothing was found, or could be asked."""
        return cls(
            intent=None, score=0.0, threshold=threshold, reason=reason, tokens_used=tokens_used
        )

    @classmethod
    def nearest(cls, found: Iterable[Likeness], *, threshold: float, margin: float) -> Self:
        """The best of one likeness an intent, if it reaches the threshold and leads by the
        margin. Scores are taken to four decimals; of equals, the first found is named first."""
        ranked = sorted(
            (each._replace(score=round(each.score, 4)) for each in found if each.score > 0),
            key=lambda each: -each.score,
        )
        if not ranked:
            return cls.abstained("No example is like it.", threshold=threshold)
        best, *others = ranked
        score, second = best.score, others[0].score if others else 0.0
        intent, lead = None, round(score - second, 4)
        like = f"The nearest example, of {best.intent}, is {quoted(best.example)} with {score:.2f}"
        if score < threshold:
            reason = f"{like}; {threshold:.2f} are asked."
        elif others and lead < margin:
            reason = f"{like}, too close to {others[0].intent} with {second:.2f}."
        else:
            intent = best.intent
            reason = f"{like}, {lead:.2f} ahead of {others[0].intent}." if others else f"{like}."
        return cls(
            intent=intent,
            score=score,
            threshold=threshold,
            reason=reason,
            runner_up=others[0].intent if others else None,
            runner_up_score=second,
        )


def quoted(declared: str) -> str:
    """A phrase or an example, as a reason quotes it: not longer than a line."""
    shown = declared[:QUOTED_CHARACTERS_MAX]
    return repr(shown if shown == declared else f"{shown}…")


def _are_texts(given: Sequence[Any]) -> bool:
    return isinstance(given, tuple) and all(isinstance(each, str) for each in given)


class Classifier(Protocol):
    """Made once and shared by all sessions: it holds none, and nothing that was said in one."""

    async def classify(self, text: str, intents: Sequence[IntentSpec]) -> IntentGuess:
        """Guess what `text` means, or abstain. It ends in bounded time, however long the text is,
        and raises nothing: what fails is an abstention, with the reason."""
        ...
