"""What is wrong with a request is told in a problem document, and nothing has changed."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.walk.people import Walk, message, walking
from tests.walk.test_http_sessions import shaped

from sessile.http import schemas

JSON = {"content-type": "application/json"}
TURN = "trn_019aa4f0c1d17c02a1b2c3d4e5f60718"
OPEN, TURNS, BOTH = "/v1/sessions", "/v1/sessions/{s}/turns", "/v1/turns"
PATCH_TURN, FORK = "/v1/sessions/{s}/turns/{t}", "/v1/sessions/{s}/fork"
SESSION = "/v1/sessions/{s}"


def problem(reply: Any, status: int, code: str, *fields: str) -> dict[str, Any]:
    document: dict[str, Any] = shaped(reply, schemas.Problem, status)
    assert reply.headers["content-type"] == "application/problem+json"
    assert document["code"] == code, document
    assert document["status"] == status
    assert document["type"] == f"urn:sessile:problem:{code}"
    assert document["instance"] == reply.headers["x-request-id"]
    assert tuple(fault["field"] for fault in document["errors"]) == fields, document
    return document


MALFORMED = [
    b"",
    b"{",
    b'{"input": {"type": "message", "text": "hi"}} x',
    b"\xff\xfe",
    '{"input": {"type": "message", "text": "hi"}}'.encode("utf-16"),
    b'\xef\xbb\xbf{"input": {"type": "message", "text": "hi"}}',
    b'{"input": {"type": "message", "text": "raw \x00 NUL"}}',
    b'{"input": {"type": "message", "text": "hi", "text": "ho"}}',
    b'{"input": {"type": "message", "text": "hi", "metadata": {"n": NaN}}}',
    b'{"input": {"type": "message", "text": "hi", "metadata": {"n": -Infinity}}}',
    b'{"input": {"type": "message", "text": "hi", "metadata": {"n": 1e999}}}',
    b'{"input": {"type": "message", "text": "hi", "metadata": {"n": ' + b"9" * 5000 + b"}}}",
    b"[" * 200_000,
    b'{"a":' * 100_000,
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
@pytest.mark.parametrize("path", [OPEN, TURNS, BOTH])
async def test_malformed_json(walk: Walk, path: str, body: bytes) -> None:
    path = path.format(s=await walk.opened())
    before = await walk.everything()

    reply = await walk.alice.post(path, content=body, headers=JSON)

    problem(reply, 400, "malformed_json")
    assert await walk.everything() == before


WRONG: list[tuple[str, str, Any, tuple[str, ...]]] = [
    # Wrong types.
    ("POST", OPEN, [], ("",)),
    ("POST", OPEN, None, ("",)),
    ("POST", OPEN, {"title": 5}, ("title",)),
    ("POST", OPEN, {"metadata": []}, ("metadata",)),
    ("POST", OPEN, {"assistant": True}, ("assistant",)),
    ("POST", TURNS, {"input": "hi"}, ("input",)),
    ("POST", TURNS, {"input": {"type": "message", "text": 5}}, ("input.text",)),
    ("POST", TURNS, {"input": {"type": "message", "text": None}}, ("input.text",)),
    ("POST", TURNS, {"input": {"type": "message", "text": ["hi"]}}, ("input.text",)),
    ("POST", TURNS, {"input": {"type": "shout", "text": "hi"}}, ("input.type",)),
    ("POST", TURNS, {"input": {"type": "button", "text": "hi"}}, ("input.button",)),
    ("POST", TURNS, message("hi", when_busy="panic"), ("when_busy",)),
    ("POST", TURNS, message("hi", when_busy=None), ("when_busy",)),
    ("PATCH", PATCH_TURN, {"input": []}, ("input",)),
    ("POST", FORK, {"turn_id": 1}, ("turn_id",)),
    ("PATCH", SESSION, {"metadata": "x"}, ("metadata",)),
    # What is missing.
    ("POST", TURNS, {}, ("input",)),
    ("POST", TURNS, {"input": {}}, ("input.type",)),
    ("POST", FORK, {}, ("turn_id",)),
    # Unknown fields.
    ("POST", OPEN, {"titel": "x"}, ("titel",)),
    ("POST", OPEN, {"session_id": "ses_mine"}, ("session_id",)),
    ("POST", OPEN, {"user_id": "bob"}, ("user_id",)),
    ("POST", TURNS, message("hi", wait=5), ("wait",)),
    (
        "POST",
        TURNS,
        {"input": {"type": "message", "text": "hi", "role": "system"}},
        ("input.role",),
    ),
    ("POST", BOTH, message("hi", session_id="ses_mine"), ("session_id",)),
    ("PATCH", SESSION, {"status": "closed"}, ("status",)),
    ("POST", SESSION + "/close", {"reason": "x"}, ("reason",)),
    ("POST", PATCH_TURN + "/cancel", {"force": True}, ("force",)),
    # Empty and too long.
    ("POST", TURNS, message(""), ("input.text",)),
    ("POST", TURNS, message(" \n\t"), ("input.text",)),
    ("POST", TURNS, message("x" * 262_145), ("input.text",)),
    ("POST", BOTH, message(""), ("input.text",)),
    ("POST", BOTH, message("x" * 262_145), ("input.text",)),
    ("PATCH", PATCH_TURN, message(""), ("input.text",)),
    ("POST", OPEN, {"title": "x" * 201}, ("title",)),
    ("POST", BOTH, message("hi", title="x" * 201), ("title",)),
    ("POST", OPEN, {"metadata": {"x": "y" * 16_384}}, ("metadata",)),
    (
        "POST",
        TURNS,
        {"input": {"type": "message", "text": "hi", "metadata": {"x": "y" * 16_384}}},
        ("input.metadata",),
    ),
    # NULs and lone surrogates, which JSON can escape and no database takes.
    ("POST", TURNS, message("a\0b"), ("input.text",)),
    ("POST", TURNS, message("a\ud800b"), ("input.text",)),
    ("POST", TURNS, message("\udc00"), ("input.text",)),
    ("POST", BOTH, message("a\0b"), ("input.text",)),
    ("PATCH", PATCH_TURN, message("\0"), ("input.text",)),
    ("POST", OPEN, {"title": "a\0"}, ("title",)),
    ("PATCH", SESSION, {"title": "\udfff"}, ("title",)),
    ("POST", OPEN, {"metadata": {"a\0": 1}}, ("metadata",)),
    ("POST", OPEN, {"metadata": {"a": {"b": [1, "\ud800"]}}}, ("metadata.a.b.1",)),
    ("POST", OPEN, {"\ud800": 1}, ("",)),
    ("POST", OPEN, {"assistant": "echo\0"}, ("assistant",)),
    ("POST", FORK, {"turn_id": "trn_\0"}, ("turn_id",)),
    # Unknown names.
    ("POST", OPEN, {"assistant": "nobody"}, ()),
    ("POST", BOTH, message("hi", assistant="nobody"), ()),
    # Nested past what any reader of it would bear.
    (
        "POST",
        OPEN,
        {"metadata": {"a": json.loads("[" * 40 + "]" * 40)}},
        ("metadata.a" + ".0" * 30,),
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "fields"), WRONG, ids=range(len(WRONG)))
async def test_a_wrong_body(
    walk: Walk, method: str, path: str, body: Any, fields: tuple[str, ...]
) -> None:
    session_id = await walk.opened()
    await walk.queued(session_id, "hold it")
    turn = await walk.queued(session_id, "waits")
    await walk.holds.reached("it")
    before = await walk.everything()

    reply = await walk.alice.request(
        method,
        path.format(s=session_id, t=turn["turn_id"]),
        content=json.dumps(body).encode(),
        headers=JSON,
    )

    code = "invalid_input" if fields else "unknown_assistant"
    problem(reply, 422, code, *fields)
    assert await walk.everything() == before
    walk.holds.go("it")


async def test_what_was_sent_is_not_sent_back(walk: Walk) -> None:
    secret = "hunter2"

    reply = await walk.alice.post("/v1/sessions", json={"title": [secret], "metadata": secret})

    problem(reply, 422, "invalid_input", "title", "metadata")
    assert secret not in reply.text


async def test_a_body_with_countless_faults_is_told_of_a_few(walk: Walk) -> None:
    body = {f"unknown_{number}": 1 for number in range(10_000)}

    reply = await walk.alice.post("/v1/sessions", json=body)

    assert len(shaped(reply, schemas.Problem, 422)["errors"]) == 20


QUERIES = [
    (TURNS, "wait=-1", "wait"),
    (TURNS, "wait=-0.001", "wait"),
    (TURNS, "wait=nan", "wait"),
    (TURNS, "wait=inf", "wait"),
    (TURNS, "wait=1_0", "wait"),
    (TURNS, "wait=%2B1", "wait"),
    (TURNS, "wait=soon", "wait"),
    (TURNS, "wait=", "wait"),
    (TURNS, "wait=1&wait=2", ""),
    (TURNS, "wiat=1", "wiat"),
    (TURNS, "%00=1", "\0"),
    (TURNS, "wait=%ff", ""),
    (TURNS, "&".join(f"a{n}=1" for n in range(50)), ""),
    (BOTH, "wait=-1", "wait"),
]


@pytest.mark.parametrize(("path", "query", "field"), QUERIES)
async def test_a_wrong_wait(walk: Walk, path: str, query: str, field: str) -> None:
    path = path.format(s=await walk.opened())
    before = await walk.everything()

    reply = await walk.alice.post(f"{path}?{query}", json=message("hi"))

    problem(reply, 422, "invalid_input", field.replace("\0", "\ufffd"))
    assert await walk.everything() == before


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("", "limit=0", "limit"),
        ("", "limit=201", "limit"),
        ("", "limit=x", "limit"),
        ("", "before=trn_1", "before"),
        ("", "before=%00", "before"),
        ("/{s}/turns", "limit=0", "limit"),
        ("/{s}/turns", "limit=1000000000000", "limit"),
        ("/{s}/turns", "after=-1", "after"),
        ("/{s}/turns", "after=1.5", "after"),
        ("/{s}/turns", "after=1.0", "after"),
        ("/{s}/turns", "after=1_0", "after"),
        ("/{s}/turns", "after=1e3", "after"),
        ("/{s}/turns", "after=+1", "after"),
        ("/{s}/turns", "after=%201", "after"),
        ("/{s}/turns", "after=%D9%A1", "after"),
        ("/{s}/turns", "limit=1_0", "limit"),
        pytest.param("/{s}/turns", f"after={'9' * 5_000}", "after", id="5000 digits"),
        ("/{s}/turns", "queued=maybe", "queued"),
        ("/{s}/messages", "limit=-5", "limit"),
        ("/{s}/messages", "limit=201", "limit"),
        ("/{s}/messages", "before=0", "before"),
        ("/{s}/messages", "before=99999999999999999999", "before"),
        ("/{s}/turns", "after=99999999999999999999", "after"),
        ("/{s}/events", "after=-1", "after"),
        ("/{s}/events", "after=x", "after"),
        ("/{s}/events", "after=99999999999999999999", "after"),
        ("/{s}/events", "limit=1001", "limit"),
        ("/{s}", "wait=1", "wait"),
    ],
)
async def test_a_wrong_query(walk: Walk, path: str, query: str, field: str) -> None:
    path = path.format(s=await walk.opened())

    reply = await walk.alice.get(
        f"/v1/sessions{path}?{query}", headers={"accept": "application/json"}
    )

    problem(reply, 422, "invalid_input", field)


@pytest.mark.parametrize("key", ["", "x" * 201, "tab\t", "caf\xe9", "\x7f"])
async def test_a_wrong_idempotency_key(walk: Walk, key: str) -> None:
    path = TURNS.format(s=await walk.opened())
    before = await walk.everything()

    for each in (path, OPEN, BOTH):
        body = {} if each == OPEN else message("hi")
        headers = [(b"idempotency-key", key.encode("latin-1"))]
        reply = await walk.alice.post(each, json=body, headers=headers)
        problem(reply, 422, "invalid_input", "Idempotency-Key")

    assert await walk.everything() == before


async def test_a_session_id_comes_from_one_place(walk: Walk) -> None:
    session_id, other = await walk.opened(), await walk.opened()
    path = TURNS.format(s=session_id)
    before = await walk.everything()

    in_body = await walk.alice.post(path, json=message("hi", session_id=other))
    in_query = await walk.alice.post(f"{path}?session_id={other}", json=message("hi"))
    on_events = await walk.alice.get(f"/v1/sessions/{session_id}/events?session_id={other}")

    for reply in (in_body, in_query, on_events):
        problem(reply, 400, "session_mismatch")
    assert await walk.everything() == before
    same = await walk.alice.post(path, json=message("hi", session_id=session_id))
    assert same.status_code == 202


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_a_body_of_another_kind(walk: Walk, headers: dict[str, str]) -> None:
    path = TURNS.format(s=await walk.opened())
    before = await walk.everything()

    reply = await walk.alice.post(path, content=json.dumps(message("hi")), headers=headers)

    problem(reply, 415, "unsupported_media_type")
    assert await walk.everything() == before


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON; charset=utf-8", 'application/json;charset="UTF-8"'],
)
async def test_json_may_name_its_charset(walk: Walk, media_type: str) -> None:
    reply = await walk.alice.post(OPEN, content=b"{}", headers={"content-type": media_type})

    assert reply.status_code == 201


async def test_two_mebibytes_are_too_many(walk: Walk) -> None:
    path = TURNS.format(s=await walk.opened())
    before = await walk.everything()

    reply = await walk.alice.post(path, json=message("x" * 2**21))

    document = problem(reply, 413, "body_too_large")
    assert document["details"] == {"bytes_max": 2**20}
    assert reply.headers["connection"] == "close"
    assert await walk.everything() == before


async def test_a_body_without_a_length_is_measured_while_it_comes(walk: Walk) -> None:
    path = TURNS.format(s=await walk.opened())
    before = await walk.everything()
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b" " * 65_536

    reply = await walk.alice.post(path, content=endless(), headers=JSON)

    problem(reply, 413, "body_too_large")
    assert sent <= 2**20 + 2 * 65_536
    assert await walk.everything() == before


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "0x10"])
async def test_a_length_that_is_none(walk: Walk, length: str) -> None:
    headers = {**JSON, "content-length": length}

    problem(await walk.alice.post(OPEN, content=b"{}", headers=headers), 400, "invalid_header")


@pytest.mark.parametrize("length", [str(2**20 + 1), "9" * 5000])
async def test_a_length_that_is_too_large(walk: Walk, length: str) -> None:
    headers = {**JSON, "content-length": length}

    problem(await walk.alice.post(OPEN, content=b"{}", headers=headers), 413, "body_too_large")


async def test_a_length_that_is_not_kept_to(walk: Walk) -> None:
    """Servers below us refuse both headers together; where one does not, the bytes count."""
    headers = {**JSON, "content-length": "2", "transfer-encoding": "chunked"}
    body = b" " * (2**20 + 1)

    problem(await walk.alice.post(OPEN, content=body, headers=headers), 413, "body_too_large")


@pytest.mark.parametrize("name", ["authorization", "idempotency-key", "host"])
async def test_a_header_that_may_stand_once(walk: Walk, name: str) -> None:
    headers = [(name, "a"), (name, "b"), ("content-type", "application/json")]

    problem(await walk.nobody.post(OPEN, content=b"{}", headers=headers), 400, "invalid_header")


ILL_FORMED = [
    "x",
    "ses_",
    "trn_1",
    "ses_%00",
    "ses_%F0%9F%98%80",
    "ses_" + "a" * 65,
    "SES_1",
    "%20",
]


@pytest.mark.parametrize("bad", ILL_FORMED)
async def test_an_ill_formed_id_is_the_same_as_an_absent_one(walk: Walk, bad: str) -> None:
    session_id = await walk.opened()
    absent = "0" * 32

    for path in ("", "/turns", "/messages", "/events", "/export", "/tools", "/context"):
        ill = await walk.alice.get(f"/v1/sessions/{bad}{path}")
        none = await walk.alice.get(f"/v1/sessions/ses_{absent}{path}")
        assert same_but_for_its_id(ill) == same_but_for_its_id(none)
        problem(ill, 404, "session_not_found")
    ill = await walk.alice.get(f"/v1/sessions/{session_id}/turns/{bad}")
    none = await walk.alice.get(f"/v1/sessions/{session_id}/turns/trn_{absent}")
    assert same_but_for_its_id(ill) == same_but_for_its_id(none)
    problem(ill, 404, "turn_not_found")


def same_but_for_its_id(reply: Any) -> tuple[int, str, dict[str, str]]:
    request_id = reply.headers["x-request-id"]
    headers = {n: v for n, v in reply.headers.items() if n != "x-request-id"}
    length = int(headers.pop("content-length")) - len(request_id)
    return reply.status_code, reply.text.replace(request_id, ""), {**headers, "length": str(length)}


async def test_a_turn_of_another_session_is_not_found(walk: Walk) -> None:
    one, other = await walk.opened(), await walk.opened()
    turn = await walk.said(one, "hello")

    for method, path in (("GET", ""), ("POST", "/cancel")):
        reply = await walk.alice.request(
            method, f"/v1/sessions/{other}/turns/{turn['turn_id']}{path}"
        )
        problem(reply, 404, "turn_not_found")
    forked = await walk.alice.post(f"/v1/sessions/{other}/fork", json={"turn_id": turn["turn_id"]})
    problem(forked, 404, "turn_not_found")
    for bad in ("x", "", "trn_" + "0" * 32):
        forked = await walk.alice.post(f"/v1/sessions/{one}/fork", json={"turn_id": bad})
        problem(forked, 404, "turn_not_found")


async def test_a_fork_is_cut_at_an_ended_turn(walk: Walk) -> None:
    session_id = await walk.opened()
    turn = await walk.queued(session_id, "hold it")
    before = await walk.everything()

    reply = await walk.alice.post(
        f"/v1/sessions/{session_id}/fork", json={"turn_id": turn["turn_id"]}
    )

    problem(reply, 409, "turn_not_ended")
    assert await walk.everything() == before
    walk.holds.go("it")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/v2/sessions", 404, None),
        ("GET", "/v1/sessions/", 404, None),
        ("GET", "/v1", 404, None),
        ("GET", "//v1/sessions", 404, None),
        ("POST", "/v1/sessions/ses_1/nothing", 404, None),
        ("PUT", "/v1/sessions", 405, "GET, POST"),
        ("GET", "/v1/turns", 405, "POST"),
        ("POST", "/v1/sessions/ses_1", 405, "DELETE, GET, PATCH"),
        ("TRACE", "/v1/sessions", 405, "GET, POST"),
        ("OPTIONS", "/v1/sessions", 405, "GET, POST"),
    ],
)
async def test_an_unknown_path_or_method(
    walk: Walk, method: str, path: str, status: int, allow: str | None
) -> None:
    reply = await walk.alice.request(method, path)

    problem(reply, status, "not_found" if status == 404 else "method_not_allowed")
    assert reply.headers.get("allow") == allow


async def test_a_cursor_ahead_of_the_log(walk: Walk) -> None:
    reply = await walk.alice.get(
        f"/v1/sessions/{await walk.opened()}/events?after=2", headers={"accept": "application/json"}
    )

    assert problem(reply, 400, "cursor_ahead")["details"] == {"head": 1}


async def test_a_fault_of_ours_tells_nothing_of_itself(
    walk: Walk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret path /etc/shadow")

    monkeypatch.setattr(walk.server.reads, "found", broken)

    reply = await walk.alice.get(f"/v1/sessions/{await walk.opened()}")

    problem(reply, 500, "internal_server_error")
    assert "secret" not in reply.text
    (logged,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert logged.__dict__["request_id"] == reply.headers["x-request-id"]
    assert logged.exc_info is not None


async def test_a_limit_is_a_setting(tmp_path: Any) -> None:
    limits = {"body_bytes_max": 100, "page_items_max": 3, "text_chars_max": 5}
    async with walking(data_dir=tmp_path, **limits) as walk:
        session_id = await walk.opened()
        url = f"/v1/sessions/{session_id}/turns"

        problem(await walk.alice.post(url, json=message("x" * 100)), 413, "body_too_large")
        problem(
            await walk.alice.post(url, json=message("123456")), 422, "invalid_input", "input.text"
        )
        problem(await walk.alice.get(f"{url}?limit=4"), 422, "invalid_input", "limit")
        assert (await walk.alice.get(url)).status_code == 200


async def test_what_is_told_of_a_field_is_in_the_words_of_json(walk: Walk) -> None:
    for body in ([], "text", {"input": []}, {"input": {}, "x": 1}):
        told = (await walk.alice.post("/v1/turns", json=body)).json()["errors"]
        assert told
        for each in told:
            assert not re.search("dictionary|instance|Extra|Field|Turn|Message", each["message"])
