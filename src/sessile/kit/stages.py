"""The handlers that an assistant declares before its agent: for buttons, directly, for intents."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from sessile.core.errors import InvalidInput
from sessile.core.events import JsonObject
from sessile.kit.captured import function_name, plain, refuse_captured
from sessile.kit.replies import Reply
from sessile.ports.agent import NAME
from sessile.ports.intents import Classifier, IntentSpec

Handler = Callable[..., Awaitable[Reply | str | None]]


class Press:
    """A declared button: its handler, what it reads as, and the form of its payload."""

    def __init__(self, name: str, handler: Handler, *, label: str | None) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no button name: it has the form {NAME.pattern}")
        _check(handler, "turn", "payload")
        second = list(inspect.signature(handler).parameters)[1]
        form: Any = get_type_hints(plain(handler), include_extras=True).get(second, dict[str, Any])
        self.name = name
        self.label = label or name.replace("_", " ").replace(".", " ").capitalize()
        self.handler = handler
        self._form: TypeAdapter[Any] = TypeAdapter(form)

    def payload(self, given: JsonObject) -> Any:
        """As the handler wants it. Raises InvalidInput where it has another form."""
        try:
            return self._form.validate_python(dict(given))
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False, include_context=False)
            told = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'payload'}: {fault['msg']}"
                for fault in faults
            )
            raise InvalidInput(
                f"the payload of the button {self.name} has another form: {told}",
                field="input.payload",
            ) from error


class Stages:
    """What an assistant declared, in the order declared. Shared by all sessions: it holds none."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.presses: dict[str, Press] = {}
        self.direct: list[Handler] = []
        self.intents: dict[str, tuple[IntentSpec, Handler]] = {}
        self.stale: Handler | None = None

    def __bool__(self) -> bool:
        return bool(self.presses or self.direct or self.intents or self.stale)

    def press(self, name: str, handler: Handler, *, label: str | None) -> None:
        if name in self.presses:
            raise ValueError(f"there is a button {name!r} already")
        self.presses[name] = Press(name, handler, label=label)

    def direct_handler(self, handler: Handler) -> None:
        _check(handler, "turn")
        self.direct.append(handler)

    def stale_handler(self, handler: Handler) -> None:
        _check(handler, "turn")
        if self.stale is not None:
            raise ValueError("there is an answer to stale presses already")
        self.stale = handler

    def intent(self, spec: IntentSpec, handler: Handler) -> None:
        _check(handler, "turn", "intent")
        if spec.name in self.intents:
            raise ValueError(f"there is an intent {spec.name!r} already")
        self.intents[spec.name] = (spec, handler)

    def pressed(self, button: str, payload: JsonObject) -> str:
        """What a press reads as. Raises InvalidInput where it cannot be one."""
        press = self.presses.get(button)
        if press is None and self.stale is not None and NAME.fullmatch(button):
            return button
        if press is None:
            known = sorted(self.presses)
            raise InvalidInput(
                f"there is no button {button[:100]!r}", field="input.button", known=known
            )
        press.payload(payload)
        return press.label


def _check(handler: Any, *parameters: str) -> None:
    refuse_captured(handler)
    name = function_name(handler)
    if not inspect.iscoroutinefunction(handler):
        raise TypeError(f"{name}: a handler is async, and returns a Reply, a text or None")
    taken = inspect.signature(handler).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if [each.kind in positional for each in taken] != [True] * len(parameters):
        raise TypeError(f"{name}: this handler takes {', '.join(parameters)}")
