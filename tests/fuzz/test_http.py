"""Nonsense over HTTP: by the OpenAPI document, beside it, and in heads and cursors. What is refused
writes nothing, no reply is a 5xx or late, and nothing is left behind."""

import json
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from tests.fuzz.target import Request, Target, many, target

from sessile.core.errors import SessionNotFound

OPERATIONS = 1_200
HEADS = 2_500
STREAMS = 2_500
BODIES = 1_200
PATHS = 1_500


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Target]:
    with target(tmp_path) as made:
        yield made


# -- by the document

MODES = (GenerationMode.NEGATIVE, GenerationMode.POSITIVE)


def as_request(case: Any) -> Request | None:
    """What it is on the wire; None for what no HTTP client would send."""
    try:
        given = case.as_transport_kwargs(base_url="http://localhost:3006")
        given.pop("cookies", None)
        prepared = requests.Request(**given).prepare()
    except (requests.RequestException, ValueError, TypeError):
        return None
    body = prepared.body or b""
    url = requests.compat.urlsplit(prepared.url)
    return Request(
        method=str(prepared.method),
        path=requests.compat.unquote(str(url.path), errors="replace"),
        query=str(url.query).encode(),
        headers=tuple(
            (str(name).lower().encode("latin-1", "replace"), latin(value))
            for name, value in prepared.headers.items()
            if str(name).lower() not in ("authorization", "host")
        ),
        body=body.encode() if isinstance(body, str) else body,
    )


def latin(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("latin-1", "replace")


def test_operations_of_the_document(there: Target) -> None:
    document = there.run(there.walk.nobody.get("/openapi.json")).json()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # which are about the document's form
        operations = [
            found.ok() for found in schemathesis.openapi.from_dict(document).get_all_operations()
        ]
        each = OPERATIONS // len(operations) // len(MODES)
        for operation in operations:
            for mode in MODES:

                @many(each)
                @given(operation.as_strategy(generation_mode=mode))
                def ask(case: Any) -> None:
                    if (request := as_request(case)) is not None:
                        there.ask(request)

                # There is nothing to ask wrongly where nothing is asked for.
                with suppress(Unsatisfiable):
                    ask()

    assert len(operations) > 30
    assert there.sent > OPERATIONS * 0.8
    assert {200, 404, 422} <= there.statuses.keys()
    there.check_no_growth()


# -- beside the document

TOKEN = st.binary(max_size=40)
NAMES = st.sampled_from(
    "accept authorization content-type content-length content-encoding cookie expect host"
    " idempotency-key if-match last-event-id origin sessile-user te traceparent transfer-encoding"
    " upgrade x-forwarded-for x-request-id".split()
).map(str.encode)
VALUES = (
    TOKEN
    | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.sampled_from(
        [b"", b"chunked", b"gzip", b"0", b"-1", b"9" * 30, b"localhost", b"localhost:3006",
         b"Bearer ", b"Bearer a.b.c", b"text/event-stream", b"application/json", b"null",
         b"http://localhost:3006", b"websocket", b"1.1", b"x" * 20_000]
    )
)  # fmt: skip
HEADERS = st.lists(st.tuples(NAMES | TOKEN, VALUES), max_size=8).map(tuple)
METHODS = st.sampled_from("GET POST PUT PATCH DELETE HEAD OPTIONS TRACE X".split())


def test_heads(there: Target) -> None:
    session_id = there.opened()
    paths = st.sampled_from(
        ["/v1/sessions", f"/v1/sessions/{session_id}", f"/v1/sessions/{session_id}/turns", "/v1/me",
         f"/v1/sessions/{session_id}/events", "/v1/turns", "/pusher/auth", "/apps/1/events",
         "/apps/1/channels", "/metrics", "/", "/healthz"]
    )  # fmt: skip

    @many(HEADS)
    @given(METHODS, paths, HEADERS, st.sampled_from([b"", b"{}", b"[", b"\xff"]))
    def ask(method: str, path: str, headers: Any, body: bytes) -> None:
        there.ask(Request(method, path, b"", headers, body))

    ask()
    assert {200, 401, 404} <= there.statuses.keys()
    there.check_no_growth()


SEGMENTS = st.sampled_from(["v1", "sessions", "turns", "events", "..", ".", "", "%2e%2e", "\0"])


def test_paths(there: Target) -> None:
    parts = st.lists(SEGMENTS | st.text(max_size=20), max_size=8)

    @many(PATHS)
    @given(METHODS, parts, TOKEN)
    def ask(method: str, path: list[str], query: bytes) -> None:
        there.ask(Request(method, "/" + "/".join(path), query))

    ask()
    there.check_no_growth()


CURSORS = (
    st.integers().map(str)
    | st.tuples(st.integers(), st.integers()).map(lambda pair: f"{pair[0]}.{pair[1]}")
    | st.text(max_size=30)
).map(lambda text: text.encode("utf-8", "surrogatepass"))
QUOTED = CURSORS | CURSORS.map(lambda raw: requests.compat.quote(raw).encode())


def test_parameters_of_streams(there: Target) -> None:
    session_id = there.opened()
    names = st.sampled_from([b"after", b"limit", b"kinds", b"ticket", b"before", b"wait", b"x"])
    pairs = st.lists(st.tuples(names, QUOTED), max_size=4)
    accepts = st.sampled_from([b"text/event-stream", b"application/json", b"*/*", b""])

    @many(STREAMS)
    @given(pairs, st.none() | CURSORS, accepts)
    def ask(query: Any, last: bytes | None, accept: bytes) -> None:
        headers = ((b"accept", accept), *(() if last is None else ((b"last-event-id", last),)))
        said = b"&".join(name + b"=" + value for name, value in query)
        answer = there.ask(Request("GET", f"/v1/sessions/{session_id}/events", said, headers))
        assert b"Traceback" not in answer.body

    ask()
    assert {200, 422} <= there.statuses.keys()
    there.check_no_growth()


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES_OF_JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    "input type text button when_busy metadata title assistant grants reason session_id turn_id"
    " name scopes tenant user password payload message_id".split()
)


def test_bodies(there: Target) -> None:
    session_id = there.opened()
    at = f"/v1/sessions/{session_id}"
    paths = st.sampled_from(
        [("POST", "/v1/sessions"), ("POST", "/v1/turns"), ("POST", f"{at}/turns"), ("PATCH", at),
         ("PUT", f"{at}/grants"), ("POST", f"{at}/fork"), ("POST", "/v1/tickets"),
         ("POST", "/v1/keys"), ("POST", "/pusher/auth")]
    )  # fmt: skip
    objects = st.dictionaries(FIELDS, VALUES_OF_JSON, max_size=5).map(json.dumps).map(str.encode)
    bodies = objects | VALUES_OF_JSON.map(json.dumps).map(str.encode) | st.binary(max_size=60)
    deep = st.integers(1, 40_000).map(lambda depth: b"[" * depth + b"]" * depth)

    @many(BODIES)
    @given(paths, bodies | deep)
    def ask(place: tuple[str, str], body: bytes) -> None:
        there.ask(Request(*place, b"", (), body))

    ask()
    assert {400, 422} <= there.statuses.keys()
    there.check_no_growth()


# -- a target that has a fault is seen to have it


def test_a_reply_that_fails_is_seen(there: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: Any, **__: Any) -> Any:
        raise KeyError("a bug")

    monkeypatch.setattr(there.walk.server.reads, "found", fails)
    with pytest.raises(AssertionError):
        there.ask(Request("GET", f"/v1/sessions/{'ses_' + '0' * 32}"))


def test_a_refusal_that_writes_is_seen(there: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    async def writes(*_: Any, **__: Any) -> Any:
        await there.walk.opened()
        raise SessionNotFound()

    monkeypatch.setattr(there.walk.server.reads, "found", writes)
    with pytest.raises(AssertionError):
        there.ask(Request("GET", f"/v1/sessions/{'ses_' + '0' * 32}"))


def test_what_is_left_behind_is_seen(there: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    app = there.walk.app

    async def keeps(scope: Any, receive: Any, send: Any) -> None:
        kept.append([scope])
        await app(scope, receive, send)

    monkeypatch.setattr(there.walk, "app", keeps)
    for _ in range(300):
        there.ask(Request("GET", "/v1/none"))
    with pytest.raises(AssertionError):
        there.check_no_growth()
