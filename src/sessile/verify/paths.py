"""Where in a reply something stands, and where in a request something goes.

A path is names with dots between: `turn.output.text`. `items[*].text` is each of a list, `[0]` the
first, `[-1]` the last. `{name}` in a request is put in; a member whose value is `{name}` alone is
left out where there is nothing to put in.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import quote

_STEP = re.compile(r"([^.\[\]]+)|\[(\*|-?\d+)\]")
_NAME = re.compile(r"\{([a-z_]+)\}")
LEFT_OUT: Any = object()


def steps(path: str) -> tuple[str | int | None, ...]:
    """As `each` takes them; None is `[*]`. Raises ValueError for what is no path."""
    found: list[str | int | None] = []
    at = 0
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            raise ValueError(f"{path!r} is no path: see it at {path[at:]!r}")
        name, index = step.groups()
        found.append(name if name is not None else None if index == "*" else int(index))
        at = step.end() + (path[step.end() : step.end() + 1] == ".")
    return tuple(found)


def each(value: Any, path: str) -> Iterator[Any]:
    """All that stands there, but for null."""
    yield from _each(value, steps(path))


def first(value: Any, path: str | None) -> Any:
    """None where nothing stands there."""
    return None if path is None else next(each(value, path), None)


def text(value: Any, path: str | None) -> str:
    """Every text that stands there, put together."""
    if path is None:
        return ""
    return "".join(map(as_text, each(value, path)))


def as_text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else "" if value is None else str(value)
    except RecursionError:
        return ""


def _each(value: Any, rest: tuple[str | int | None, ...]) -> Iterator[Any]:
    if not rest:
        if value is not None:
            yield value
        return
    step, rest = rest[0], rest[1:]
    if isinstance(step, str):
        if isinstance(value, Mapping) and step in value:
            yield from _each(cast(Mapping[str, Any], value)[step], rest)
    elif isinstance(value, list):
        items = cast(Sequence[Any], value)
        if step is None:
            for item in items:
                yield from _each(item, rest)
        elif -len(items) <= step < len(items):
            yield from _each(items[step], rest)


def put_in(template: Any, values: Mapping[str, str | None], *, for_url: bool = False) -> Any:
    """The template with the values in it. Raises KeyError for a name that nothing is known of."""
    if isinstance(template, str):
        alone = _NAME.fullmatch(template)
        if alone is not None and values[alone[1]] is None:
            return LEFT_OUT
        return _NAME.sub(lambda found: _quoted(values[found[1]], for_url=for_url), template)
    if isinstance(template, Mapping):
        members = cast(Mapping[str, Any], template).items()
        filled = {name: put_in(value, values, for_url=for_url) for name, value in members}
        return {name: value for name, value in filled.items() if value is not LEFT_OUT}
    if isinstance(template, list):
        items = cast(Sequence[Any], template)
        return [put_in(value, values, for_url=for_url) for value in items]
    return template


def names(template: Any) -> Iterator[str]:
    """What is to be put in, of a request or a part of one."""
    if isinstance(template, str):
        yield from _NAME.findall(template)
    elif isinstance(template, Mapping):
        for value in cast(Mapping[str, Any], template).values():
            yield from names(value)
    elif isinstance(template, list):
        for value in cast(Sequence[Any], template):
            yield from names(value)


def _quoted(value: str | None, *, for_url: bool) -> str:
    return quote(value or "", safe="") if for_url else value or ""
