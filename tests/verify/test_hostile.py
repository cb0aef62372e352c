"""Replies that are made to do harm end in a verdict, and nothing of theirs is followed or kept in
full; nor is what a principal signs in by."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from io import StringIO
from typing import Any

import pytest

from sessile.verify import backend, loading, runner
from sessile.verify.checker import judge
from sessile.verify.history import History, Op, write

TOKEN = "the-token-of-p"
MAPPING: dict[str, Any] = {
    "name": "hostile",
    "settle_seconds": 0.2,
    "principals": {"p": {"Authorization": f"Bearer {TOKEN}", "X-User": "somebody-else"}},
    "open": {"request": "POST /chats", "session": ["id"]},
    "send": {"request": {"call": "POST /chats/{session}", "form": {"text": "{text}"}},
             "session": ["id"], "reply": "text"},
    "reads": {"said": {"request": "GET /chats/{session}", "items": "items[*]"}},
}  # fmt: skip
Answer = Callable[[str, str], bytes]


def replied(body: str | bytes, *, status: int = 200, more: str = "") -> bytes:
    raw = body if isinstance(body, bytes) else body.encode()
    return f"HTTP/1.1 {status} X\r\n{more}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


@asynccontextmanager
async def answering(answer: Answer) -> AsyncIterator[tuple[str, list[str]]]:
    """The address, and the first lines of what was asked."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                size = head.lower().partition("content-length: ")[2].partition("\r\n")[0]
                await reader.readexactly(int(size or 0))
                line = head.partition("\r\n")[0]
                asked.append(line)
                writer.write(answer(line, head))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def played(answer: Answer) -> tuple[History, list[str]]:
    async with answering(answer) as (url, asked):
        target = loading.read_mapping(MAPPING)
        plan = runner.Plan(url=url, target=target, limits=runner.LIMITS, only=("basics",))
        return await runner.play(plan), asked


def kinds(history: History, kind: str) -> list[Op]:
    ops = [op for op in history.ops if op.kind == kind]
    assert ops
    return ops


async def test_a_reply_that_goes_elsewhere_is_not_followed() -> None:
    history, asked = await played(
        lambda *_: replied("", status=307, more="Location: http://127.0.0.2:9/elsewhere\r\n")
    )

    assert {op.outcome for op in kinds(history, "open")} == {"unknown"}
    assert all("elsewhere" not in line for line in asked)
    assert not any(each.findings for each in judge(history))


@pytest.mark.parametrize("body", ["[" * 100_000, "NaN", '{"id": 1e999}', b"\xff\xfe\x00", "<html>"])
async def test_what_is_no_reply_ends_in_a_verdict(body: str | bytes) -> None:
    history, _ = await played(lambda *_: replied(body))

    assert judge(history)


async def test_a_reply_that_has_no_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "REPLY_BYTES_MAX", 10_000)

    history, _ = await played(
        lambda line, _: replied('{"id": 7}' if line.startswith("POST /chats ") else "x" * 50_000)
    )

    sends = kinds(history, "send")
    assert {op.outcome for op in sends} == {"unknown"}
    assert all("TooMuch" in op.reply and len(op.reply) < 200 for op in sends)


async def test_an_id_may_have_any_characters_and_half_a_surrogate() -> None:
    history, asked = await played(
        lambda *_: replied('{"id": "a\\ud800/..\\r\\n\\u00e9", "text": "hi", "items": []}')
    )

    assert all(op.ok for op in kinds(history, "send"))
    assert any("/chats/a%3F%2F..%0D%0A%C3%A9 " in line for line in asked)
    json.dumps([op.said for op in history.ops], ensure_ascii=False).encode()


async def test_a_token_is_in_no_history_wherever_it_comes_back() -> None:
    def echo(_: str, head: str) -> bytes:
        return replied(json.dumps({"id": 7, "text": head, "items": [{"text": head}]}))

    history, _ = await played(echo)

    kept = StringIO()
    write(history, kept)
    assert "somebody-else" in kept.getvalue()
    assert TOKEN not in kept.getvalue()


async def test_one_principal_s_cookie_is_not_another_s() -> None:
    heads: list[str] = []

    def baking(_: str, head: str) -> bytes:
        heads.append(head)
        return replied('{"id": 7, "items": []}', more="Set-Cookie: who=p; Path=/\r\n")

    await played(baking)

    assert len(heads) > 5
    assert not any("cookie" in head.lower() for head in heads)


async def test_nobody_stands_between_this_machine_and_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    history, _ = await played(lambda *_: replied('{"id": 7, "items": []}'))

    assert all(op.ok for op in kinds(history, "open"))
