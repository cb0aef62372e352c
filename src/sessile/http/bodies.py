"""A request's body: bounded while it is read, and parsed more strictly than JSON parsers do."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from sessile.http.problems import InvalidFields, MalformedJson, UnsupportedMediaType
from sessile.runtime.inputs import DEPTH_MAX, storable


async def read_body(receive: Receive) -> bytes:
    """The whole body; its size is bounded by `guard`."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return bytes(message.get("body", b""))
    chunks: list[bytes] = []
    while message["type"] == "http.request":
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()
    raise ClientDisconnect()


def check_media_type(headers: Mapping[bytes, bytes]) -> None:
    media_type = headers.get(b"content-type", b"")
    if media_type != b"application/json":
        kind, _, rest = media_type.partition(b";")
        charset = rest.strip().lower().replace(b'"', b"")
        if kind.strip().lower() != b"application/json" or charset not in (b"", b"charset=utf-8"):
            raise UnsupportedMediaType()
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise UnsupportedMediaType()


def parse_json(data: bytes) -> Any:
    """JSON as RFC 8259 has it: UTF-8, no name twice in an object, no NaN and no Infinity."""
    try:
        text = data.decode()
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
        )
    except (ValueError, RecursionError) as error:
        raise MalformedJson() from error
    # Only an escape can bring what may not be stored: raw controls are no JSON, and lone
    # surrogates no UTF-8.
    escaped = "\\u" in text
    if escaped or text.count("[") + text.count("{") > DEPTH_MAX:
        faults = list(_faults(value))
        if faults:
            raise InvalidFields(faults)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def _faults(value: Any) -> Iterator[tuple[str, str]]:
    """The first text that holds what no database takes, or the first place that is too deep."""
    waiting: list[tuple[str, int, Any]] = [("", 1, value)]
    while waiting:
        path, depth, value = waiting.pop()
        if depth > DEPTH_MAX:
            yield path, f"Nested more than {DEPTH_MAX} deep"
            return
        kind = cast("type[object]", type(value))
        if kind is str and not storable(value):
            yield path, "Has a NUL or a lone surrogate"
            return
        if kind is dict:
            for name, each in value.items():
                if not storable(name):
                    yield path, "A name has a NUL or a lone surrogate"
                    return
                waiting.append((f"{path}.{name}" if path else name, depth + 1, each))
        elif kind is list:
            for place, each in enumerate(value):
                waiting.append((f"{path}.{place}", depth + 1, each))
