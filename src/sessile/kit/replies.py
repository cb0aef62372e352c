"""What a handler answers with: text, and buttons that offer the next step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sessile.kit.tools import NAME


@dataclass(frozen=True, slots=True)
class Button:
    """A button as it is offered. A press comes back with its name and payload."""

    button: str
    label: str
    payload: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.button):
            raise ValueError(f"{self.button!r} is no button name: it has the form {NAME.pattern}")
        if not self.label:
            raise ValueError(f"{self.button}: a button has a label")


@dataclass(frozen=True, slots=True)
class Reply:
    """The turn's answer."""

    text: str
    buttons: tuple[Button, ...] = ()


@dataclass(frozen=True, slots=True)
class Intent:
    """What the classifier took a text for. `score`: from 0 to 1."""

    name: str
    score: float
    text: str
