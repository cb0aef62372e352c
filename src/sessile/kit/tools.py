"""Typed tools: a function, the schema of its arguments, and nothing of any session."""

import functools
import inspect
import json
import re
from collections.abc import Mapping
from typing import Any, cast, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ArgsKwargs, PydanticSerializationError, to_json

from sessile.core.context import TurnContext
from sessile.kit.captured import AnyFunction, function_name, plain, refuse_captured
from sessile.ports.agent import NAME, ToolError

IDENTITY_ARGUMENTS = frozenset({"session_id", "sessionId", "turn_id", "turnId"})
"""What a model may never fill in: they come with the turn."""


class FunctionTool:
    """A function as a tool. Shared by all sessions: each call brings its turn along."""

    def __init__(
        self,
        function: AnyFunction,
        *,
        name: str | None = None,
        idempotent: bool = False,
        grant: str | None = None,
        approval: bool = False,
        timeout_seconds: float | None = None,
    ) -> None:
        refuse_captured(function)
        self.name = function_name(function) if name is None else name
        if not NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no tool name: it has the form {NAME.pattern}")
        if timeout_seconds is not None and timeout_seconds <= 0:
            raise ValueError(f"{self.name}: a tool's timeout is longer than 0 seconds")
        self.idempotent = idempotent
        self.grant = grant
        self.approval = approval
        self.timeout_seconds = timeout_seconds
        self.blocking = not is_async(function)
        self._function = function
        arguments = _arguments(function, tool=self.name)
        self.description, told = _docstring(inspect.getdoc(_code_of(function)) or "")
        self._arguments = _validator(arguments, told)
        self.parameters: Mapping[str, Any] = self._arguments.json_schema(schema_generator=_Schema)

    def check(self, arguments: Mapping[str, Any]) -> None:
        self._validated(arguments)

    async def invoke(self, turn: TurnContext, arguments: Mapping[str, Any]) -> Any:
        assert not self.blocking, f"{self.name} blocks: it is called in a thread"
        return self._to_json(await self._function(turn, **self._validated(arguments)))

    def call_blocking(self, turn: TurnContext, arguments: Mapping[str, Any]) -> Any:
        assert self.blocking, f"{self.name} is awaited"
        return self._to_json(self._function(turn, **self._validated(arguments)))

    def _validated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            validated: dict[str, Any] = self._arguments.validate_python(
                ArgsKwargs((), dict(arguments))
            )
        except ValidationError as error:
            raise ToolError(_told(self.name, error)) from error
        return validated

    def _to_json(self, value: Any) -> Any:
        try:
            return json.loads(to_json(value, inf_nan_mode="null"))
        except PydanticSerializationError as error:
            raise ToolError(f"{self.name} returned what is not JSON: {error}") from error

    def __repr__(self) -> str:
        return f"FunctionTool({self.name!r})"


def is_async(function: AnyFunction) -> bool:
    return inspect.iscoroutinefunction(_code_of(function))


class _Schema(GenerateJsonSchema):
    """Without titles: they repeat the names, and a model reads each word."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _arguments(function: AnyFunction, *, tool: str) -> dict[str, inspect.Parameter]:
    """The parameters that the model fills in: all but the turn, with their types resolved."""
    code = _code_of(function)
    if inspect.isasyncgenfunction(code) or inspect.isgeneratorfunction(code):
        raise TypeError(f"{tool}: a tool returns its answer; it does not yield")
    hints = get_type_hints(code, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or not _takes_turn(parameters.pop(0), hints):
        raise TypeError(f"{tool}: the first parameter of a tool is its `turn: TurnContext`")
    bound = _bound_names(function)
    for parameter in parameters:
        name = parameter.name
        if name in IDENTITY_ARGUMENTS or hints.get(name) is TurnContext:
            raise TypeError(
                f"{tool}: {name!r} cannot be an argument, which a model fills in:"
                " read it from the turn"
            )
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{tool}: {name!r} cannot be passed by name, as a model does")
    return {
        parameter.name: parameter.replace(
            annotation=hints.get(parameter.name, Any), kind=parameter.KEYWORD_ONLY
        )
        for parameter in parameters
        if parameter.name not in bound
    }


def _takes_turn(first: inspect.Parameter, hints: Mapping[str, Any]) -> bool:
    untyped = TurnContext if first.name == "turn" else None
    positional = first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD)
    return positional and hints.get(first.name, untyped) is TurnContext


def _validator(
    arguments: Mapping[str, inspect.Parameter], told: Mapping[str, str]
) -> TypeAdapter[Any]:
    """Validates keyword arguments into a dict, and knows their JSON Schema."""

    def collected(**validated: Any) -> dict[str, Any]:
        return validated

    described = [
        argument.replace(default=_described(argument.default, told[name]))
        if name in told
        else argument
        for name, argument in arguments.items()
    ]
    collected.__signature__ = inspect.Signature(described)  # type: ignore[attr-defined]
    collected.__annotations__ = {name: each.annotation for name, each in arguments.items()}
    adapter: TypeAdapter[Any] = TypeAdapter(cast(Any, collected))
    return adapter


def _described(default: Any, description: str) -> Any:
    if isinstance(default, FieldInfo):
        return default
    if default is inspect.Parameter.empty:
        return Field(description=description)
    return Field(default=default, description=description)


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """The description and what is said of each argument, after `Args:` or by `:param x:`."""
    described: list[str] = []
    told: dict[str, str] = {}
    section = ""
    name = ""
    for line in text.splitlines():
        if match := re.fullmatch(r"(Args|Arguments|Parameters|Returns|Raises|Yields):", line):
            section, name = match[1], ""
        elif match := re.fullmatch(r":param (?:[^:]* )?(\w+): *(.*)", line):
            section, name, told[match[1]] = "Args", match[1], match[2]
        elif line.startswith(":"):
            section, name = "other", ""
        elif not section:
            described.append(line)
        elif section[0] in "AP" and (
            match := re.fullmatch(r" {1,4}\*{0,2}(\w+)(?: *\([^)]*\))?: *(.*)", line)
        ):
            name, told[match[1]] = match[1], match[2]
        elif name and line.strip():
            told[name] = f"{told[name]} {line.strip()}".strip()
        elif line and not line.startswith(" "):
            section = ""
            described.append(line)
    return "\n".join(described).strip(), told


def _told(tool: str, error: ValidationError) -> str:
    """What is wrong with the arguments, without what was passed: the model knows it."""
    faults = (
        f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    )
    return f"Invalid arguments for {tool}: {'; '.join(faults)}"


def _bound_names(function: AnyFunction) -> set[str]:
    """What partials have filled in already."""
    names: set[str] = set()
    while isinstance(function, functools.partial):
        names |= function.keywords.keys()
        function = function.func
    return names


def _code_of(function: AnyFunction) -> Any:
    """The plain function beneath partials, bound methods and callable objects."""
    inner: Any = plain(function)
    if inspect.isroutine(inner) or inspect.isclass(inner):
        return getattr(inner, "__func__", inner)
    return getattr(type(inner).__call__, "__func__", type(inner).__call__)
