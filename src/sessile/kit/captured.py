"""No registered function may carry a turn context along: it would name another turn's session."""

import contextlib
import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from sessile.core.context import TurnContext
from sessile.core.errors import CapturedContext

AnyFunction = Callable[..., Any]

_DEPTH = 5
_OBJECTS_MAX = 10_000
_Items = Mapping[Any, Any]


def refuse_captured(function: AnyFunction) -> None:
    """Raises CapturedContext where the function would carry a turn context to other turns.

    A registered function outlives every turn, so that a context in its closure, defaults,
    partial arguments or bound object would give each later caller the first one's session.
    """
    for path, value in _held(function):
        if isinstance(value, TurnContext):
            raise CapturedContext(
                f"{function_name(function)} holds a turn context in {path.strip()};"
                " take it as the first argument instead",
                tool=function_name(function),
            )


def function_name(function: AnyFunction) -> str:
    """The name of the function beneath partials, or of the callable object's class."""
    inner = plain(function)
    return str(getattr(inner, "__name__", type(inner).__name__))


def plain(function: AnyFunction) -> AnyFunction:
    """The function beneath partials."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _held(function: AnyFunction) -> Iterator[tuple[str, Any]]:
    """What can be reached from a function, nearest first, and by which path."""
    seen: dict[int, Any] = {}  # holds the objects too, so that no id is given to another one
    level: list[tuple[str, Any]] = [("", function)]
    for _ in range(_DEPTH + 1):
        level = [(path, value) for path, value in level if id(value) not in seen]
        yield from level
        seen.update((id(value), value) for _, value in level)
        if len(seen) > _OBJECTS_MAX:
            return
        level = [
            (f"{path} {step}", held) for path, value in level for step, held in _references(value)
        ]


def _references(value: Any) -> Iterable[tuple[str, Any]]:
    match value:
        case functools.partial():
            return [
                ("partial", value.func),
                *(("partial argument", each) for each in value.args),
                *((f"partial argument {name!r}", each) for name, each in value.keywords.items()),
            ]
        case types.MethodType():
            return [("self", value.__self__), ("method", value.__func__)]
        case types.FunctionType():
            return [
                *((f"closure {name!r}", each) for name, each in _closure(value)),
                *(("default", each) for each in value.__defaults__ or ()),
                *((f"default {name!r}", each) for name, each in _kwdefaults(value)),
                *((f"attribute {name!r}", each) for name, each in vars(value).items()),
            ]
        case dict():
            return [("item", each) for pair in cast(_Items, value).items() for each in pair]
        case list() | tuple() | set() | frozenset():
            return [("item", each) for each in cast(Iterable[Any], value)]
        case str() | bytes() | int() | float() | type() | None | TurnContext():
            return ()
        case types.ModuleType() | types.BuiltinFunctionType():
            return ()
        case _:
            return [(f"attribute {name!r}", each) for name, each in _attributes(value)]


def _closure(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        # The cell of a name that is bound later, such as the function's own, is still empty.
        with contextlib.suppress(ValueError):
            yield name, cell.cell_contents


def _kwdefaults(function: types.FunctionType) -> Iterable[tuple[str, Any]]:
    return (function.__kwdefaults__ or {}).items()


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name != "__dict__" and hasattr(value, name):
                yield name, getattr(value, name)
