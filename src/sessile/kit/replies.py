"""What a handler answers with: text, and buttons that offer the next step."""

from dataclasses import dataclass
from typing import Any

from sessile.ports.agent import Button


@dataclass(frozen=True, slots=True)
class Reply:
    """The turn's answer.

    `reason`: why it is this one. The log keeps it with the decision, and redaction does not reach
    it: quote nothing there that was said.
    """

    text: str
    buttons: tuple[Button, ...] = ()
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("a reply has a text; None hands on to the next stage")


@dataclass(frozen=True, slots=True)
class Intent:
    """What the classifier took a text for. `score`: from 0 to 1."""

    name: str
    score: float
    text: str


def as_reply(answered: Any) -> Reply | None:
    """What a handler returned. Raises TypeError where that is no answer."""
    if answered is None or isinstance(answered, Reply):
        return answered
    if isinstance(answered, str):
        return Reply(answered)
    raise TypeError(f"a handler returns a Reply, a text or None, not {type(answered).__name__}")
