"""Reads a mapping: a YAML file, or a Python file with a name MAPPING of the same shape."""

import dataclasses
import runpy
from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Map
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from sessile.verify import paths
from sessile.verify.mapping import (
    Approvals,
    BadMapping,
    Events,
    Grants,
    Listing,
    Mapping,
    Open,
    Press,
    Read,
    Request,
    Send,
    SignIn,
    Turn,
    with_probe,
)

SHIPPED = Path(__file__).parent / "targets"
PROBES = Path(__file__).parent / "probes"
KNOWN: Map[str, frozenset[str]] = {
    "open": frozenset({"key", "user"}),
    "send": frozenset({"key", "session", "text", "user"}),
    "press": frozenset({"user"}),
    "reads": frozenset({"session", "user"}),
    "turn": frozenset({"session", "turn", "user"}),
    "stream": frozenset({"session", "user"}),
    "list": frozenset({"user"}),
    "grants": frozenset({"session", "user"}),
    "approvals": frozenset({"call", "session", "user"}),
    **dict.fromkeys(("cancel", "close", "delete"), frozenset({"session", "turn", "user"})),
}
"""What there is to put into each request."""
PATHS: Map[type, tuple[str, ...]] = {
    Approvals: ("calls",),
    Grants: ("names",),
    Events: ("name", "id", "seq", "session", "turn", "text", "message", "call", "progress"),
    Listing: ("sessions",),
    Open: ("session",),
    Press: ("session",),
    Read: ("items", "id", "role", "text", "turn"),
    Send: ("session", "turn", "reply"),
    SignIn: ("token",),
    Turn: ("state", "reply", "session", "progress"),
}
"""Which of their fields say where in a reply something stands."""


def shipped() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def probes() -> dict[str, Path]:
    """The file of each framework's probe, to be put into place by whoever has the framework."""
    return {path.stem.removesuffix("_probe"): path for path in sorted(PROBES.glob("*_probe.py"))}


def load(name_or_file: str) -> Mapping:
    """One that is shipped, by its name, or a file. Raises BadMapping."""
    path = SHIPPED / f"{name_or_file}.yaml"
    if name_or_file not in shipped():
        path = Path(name_or_file)
        if not path.is_file():
            known = ", ".join(shipped())
            raise BadMapping(f"{name_or_file} is neither a file nor one of: {known}")
    try:
        return read_mapping(_raw(path))
    except BadMapping as error:
        raise BadMapping(f"{path.name}: {error}") from None


def read_mapping(raw: Any) -> Mapping:
    """Raises BadMapping."""
    found = cast(Mapping, _read(Mapping, raw, ""))
    if found.open is None and not found.send.opens:
        raise BadMapping("there is no way to get a session: neither `open` nor `send.opens`")
    if found.open is not None and found.open.request is not None and not found.open.session:
        raise BadMapping("open.session: is missing, so that no session's id is known")
    for place, request in _requests(found):
        names = set(paths.names([request.call, request.headers, request.json, request.form]))
        unknown = names - KNOWN[place.partition(".")[0]]
        if unknown:
            raise BadMapping(f"{place}: nothing is known to put in for {{{min(unknown)}}}")
        if place == "stream" and "session" not in names:
            raise BadMapping("stream.request: does not say which {session}")
    return with_probe(found) if found.probe else found


def _requests(found: Mapping) -> Iterator[tuple[str, Request]]:
    """With their places, all that names are put into."""
    for name in KNOWN:
        part = getattr(found, name)
        if isinstance(part, Request):
            yield name, part
        elif isinstance(part, Map):
            for each, read in cast(Map[str, Read], part).items():
                yield f"{name}.{each}", read.request
        elif part is not None:
            for its in dataclasses.fields(part):
                if isinstance(request := getattr(part, its.name), Request):
                    yield name if its.name == "request" else f"{name}.{its.name}", request


def _texts(value: Any) -> Iterator[str]:
    """The paths in a field; `@event` and `@id` are none."""
    if isinstance(value, str) and not value.startswith("@"):
        yield value
    elif isinstance(value, tuple | list):
        yield from cast(Sequence[str], value)
    elif isinstance(value, dict):
        yield from cast(Map[str, str], value).values()


def _raw(path: Path) -> object:
    """With what the mapping is based on: `base: sessile`, and what differs from that one."""
    raw: Any = _parsed(path)
    if isinstance(raw, dict) and "base" in raw:
        own = dict(cast(Map[str, Any], raw))
        base = own.pop("base")
        if base not in shipped():
            raise BadMapping(f"base: {base!r} is none of {', '.join(shipped())}")
        return _merged(_raw(SHIPPED / f"{base}.yaml"), own)
    return cast(object, raw)


def _merged(base: object, over: object) -> object:
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    merged = dict(cast(Map[str, Any], base))
    for name, value in cast(Map[str, Any], over).items():
        merged[name] = _merged(merged.get(name), value)
    return merged


def _parsed(path: Path) -> Any:
    if path.suffix == ".py":
        try:
            names = runpy.run_path(str(path))
        except Exception as error:  # noqa: BLE001  it is its writer's
            raise BadMapping(f"{type(error).__name__}: {error}") from None
        if "MAPPING" not in names:
            raise BadMapping("has no MAPPING")
        return names["MAPPING"]
    import yaml  # noqa: PLC0415

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeError) as error:
        raise BadMapping(str(error)) from None
    except RecursionError:
        raise BadMapping("it is too deep") from None


def _read(kind: Any, raw: Any, place: str) -> Any:
    """A value of the type, made from YAML's. Raises BadMapping."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if raw is None:
            return None
        (kind,) = (each for each in arguments if each is not NoneType)
        return _read(kind, raw, place)
    if dataclasses.is_dataclass(kind):
        return _read_class(cast(type, kind), raw, place)
    if kind is Any:
        return raw
    if origin is tuple:
        items = cast(Sequence[Any], raw) if isinstance(raw, list | tuple) else [raw]
        return tuple(_read(arguments[0], each, place) for each in items)
    if origin is not None:
        if not isinstance(raw, dict):
            raise BadMapping(f"{place}: should be names and values")
        members = cast(Map[Any, Any], raw)
        return {
            str(name): _read(arguments[1], each, f"{place}.{name}")
            for name, each in members.items()
        }
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        return float(raw)
    if not isinstance(raw, kind) or (kind is int and isinstance(raw, bool)):
        raise BadMapping(f"{place}: should be {kind.__name__}, not {raw!r}")
    return raw


def _read_class(kind: type, raw: Any, place: str) -> Any:
    if kind is Request and isinstance(raw, str):
        raw = {"call": raw}
    if not isinstance(raw, dict):
        raise BadMapping(f"{place or 'the mapping'}: should be names and values, not {raw!r}")
    given = cast(dict[str, Any], raw)
    hints = get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}
    within = f"{place}." if place else ""
    for name in given:
        if name not in fields:
            raise BadMapping(f"{within}{name}: there is no such thing; known: {', '.join(fields)}")
    for name, each in fields.items():
        missing = each.default is dataclasses.MISSING
        if missing and each.default_factory is dataclasses.MISSING and name not in given:
            raise BadMapping(f"{within}{name}: is missing")
    values = {name: _read(hints[name], value, within + name) for name, value in given.items()}
    for name in PATHS.get(kind, ()):
        for path in _texts(values.get(name)):
            try:
                paths.steps(path)
            except ValueError as error:
                raise BadMapping(f"{within}{name}: {error}") from None
    try:
        return kind(**values)
    except BadMapping as error:
        raise BadMapping(f"{place}: {error}") from None
