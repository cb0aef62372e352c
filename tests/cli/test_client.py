"""The client outlives lost connections: it comes back with its cursor, and nothing is missed."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sessile.cli.client import (
    Client,
    Connected,
    Ended,
    Entry,
    Followed,
    Lost,
    Refused,
    Reset,
    Unreachable,
    connected,
    token_of,
)
from sessile.cli.failure import CommandFailed


def frame(seq: int, kind: str = "message.delta", *, epoch: int = 0) -> str:
    wire = {"seq": seq, "kind": kind, "turn_id": None, "at": "", "body": {}}
    behind = f"{epoch}.{seq}" if epoch else seq
    return f"id: {behind}\nevent: {kind}\ndata: {json.dumps(wire)}\n\n"


class Script:
    """A server that answers in turn what it was told to; a stream may break off."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[httpx2.Request] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        match answer:
            case Exception():
                raise answer
            case httpx2.Response():
                return answer
            case [*frames]:
                headers = {"content-type": "text/event-stream"}
                return httpx2.Response(200, headers=headers, content=_stream(frames))
            case _:
                raise AssertionError(answer)

    def client(self) -> Client:
        http = httpx2.AsyncClient(
            base_url="http://test", transport=httpx2.MockTransport(self.__call__)
        )
        return Client(http)


async def _stream(frames: list[Any]) -> AsyncIterator[bytes]:
    for each in frames:
        if isinstance(each, Exception):
            raise each
        yield each.encode()


async def followed(script: Script, *, after: int = 0) -> list[Followed]:
    return [each async for each in script.client().follow("ses_1", after=after)]


def cursors(script: Script) -> list[tuple[str, str | None]]:
    """Behind what was asked for, each time."""
    return [
        (request.url.params["after"], request.headers.get("last-event-id"))
        for request in script.asked
    ]


RETRY = "retry: 1\n\n"
END = 'event: end\ndata: {"reason": "closed"}\n\n'


async def test_a_stream_that_breaks_off_is_asked_for_again_behind_the_last_entry() -> None:
    script = Script(
        [RETRY, frame(1), frame(2), httpx2.ReadError("cut")],
        [RETRY, frame(2), frame(3), END],
    )

    found = await followed(script)

    assert [each.seq for each in found if isinstance(each, Entry)] == [1, 2, 3]
    kinds = [type(each) for each in found]
    assert kinds == [Connected, Entry, Entry, Lost, Connected, Entry, Ended]
    assert cursors(script) == [("0", None), ("0", "2")]


async def test_a_stream_that_the_server_ends_is_asked_for_again() -> None:
    script = Script([RETRY, frame(1)], [END])

    found = await followed(script)

    assert isinstance(found[2], Lost)
    assert found[-1] == Ended("closed")


async def test_the_wait_is_what_the_server_asks_for_and_grows_while_nothing_comes() -> None:
    refused = httpx2.ConnectError("refused")
    script = Script(["retry: 2\n\n"], refused, refused, httpx2.Response(503), [END])

    waits = [each.seconds for each in await followed(script) if isinstance(each, Lost)]

    for wait, around in zip(waits, [0.002, 0.004, 0.008, 0.016], strict=True):
        assert around * 0.7 < wait < around * 1.3


async def test_a_reset_is_handed_on_and_gives_the_new_cursor() -> None:
    snapshot = {"session": {"head": 9}}
    reset = f"id: 9\nevent: reset\ndata: {json.dumps(snapshot)}\n\n"
    script = Script([RETRY, reset], [frame(10), END])

    found = await followed(script, after=99)

    assert Reset(snapshot) in found
    assert cursors(script) == [("99", None), ("99", "9")]


async def test_after_a_restore_it_comes_back_with_the_cursor_that_it_was_given() -> None:
    snapshot = {"session": {"head": 3}}
    reset = f"id: 2.3\nevent: reset\ndata: {json.dumps(snapshot)}\n\n"
    script = Script(
        [RETRY, frame(7, epoch=1), httpx2.ReadError("cut")],
        [RETRY, reset, frame(4, epoch=2), httpx2.ReadError("cut")],
        [frame(4, epoch=2), frame(5, epoch=2), END],
    )

    found = await followed(script, after=6)

    assert [each.seq for each in found if isinstance(each, Entry)] == [7, 4, 5]
    assert cursors(script) == [("6", None), ("6", "1.7"), ("6", "2.4")]


async def test_a_closed_session_ends_it() -> None:
    assert await followed(Script(httpx2.Response(204))) == [Ended("closed")]


async def test_a_refusal_is_not_asked_again() -> None:
    problem = {"code": "session_not_found", "detail": "There is no such session."}

    with pytest.raises(Refused) as refused:
        await followed(Script(httpx2.Response(404, json=problem)))

    assert (refused.value.status, refused.value.code) == (404, "session_not_found")


async def test_a_message_whose_answer_was_lost_is_sent_again_under_the_same_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sessile.cli.client.RETRY_SECONDS", 0.001)
    turn = {"turn_id": "trn_1"}
    script = Script(httpx2.ReadError("cut"), httpx2.Response(503), httpx2.Response(202, json=turn))

    assert await script.client().submit("ses_1", "hello") == turn

    keys = {request.headers["idempotency-key"] for request in script.asked}
    assert len(script.asked) == 3
    assert len(keys) == 1


async def test_two_messages_have_two_keys() -> None:
    script = Script(httpx2.Response(202, json={}), httpx2.Response(202, json={}))
    client = script.client()

    await client.submit("ses_1", "hello")
    await client.submit("ses_1", "hello")

    assert len({request.headers["idempotency-key"] for request in script.asked}) == 2


async def test_no_answer_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessile.cli.client.RETRY_SECONDS", 0.001)
    script = Script(*[httpx2.ConnectError("refused")] * 4)

    with pytest.raises(Unreachable, match="refused"):
        await script.client().submit("ses_1", "hello")
    with pytest.raises(Unreachable, match="refused"):
        await script.client().session("ses_1")
    assert script.answers == []


async def test_an_answer_that_is_no_problem_document_is_told_by_its_status() -> None:
    with pytest.raises(Refused) as refused:
        await Script(httpx2.Response(502, text="<html>")).client().session("ses_1")

    assert "502" in refused.value.detail


async def test_a_session_id_cannot_lead_to_another_place() -> None:
    script = Script(httpx2.Response(200, json={}))

    await script.client().session("../../metrics?x=")

    assert script.asked[0].url.raw_path == b"/v1/sessions/..%2F..%2Fmetrics%3Fx%3D"


async def test_the_log_is_read_page_by_page() -> None:
    def page(*seqs: int, next_after: str | None) -> httpx2.Response:
        items = [{"seq": n, "kind": "k", "turn_id": None, "at": "", "body": {}} for n in seqs]
        return httpx2.Response(200, json={"items": items, "next": next_after})

    script = Script(page(5, 6, next_after="1.6"), page(7, next_after=None))

    found = [entry.seq async for entry in script.client().entries("ses_1", after=4)]

    assert found == [5, 6, 7]
    assert "after=1.6" in str(script.asked[1].url)


@pytest.mark.parametrize("url", ["localhost:3006", "ftp://localhost", "http://", "http://[::"])
async def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(CommandFailed, match="--url"):
        async with connected(url, "token"):
            pass


class Tokens:
    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SESSILE_DEV_TOKEN", raising=False)
        (directory / "dev-tokens").write_text(
            "# comment\nt1 demo admin admin\nt2 demo alice user # Alice\n"
        )


def test_a_token_is_the_flags_the_variables_or_of_the_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Tokens(tmp_path, monkeypatch)
    take: Callable[..., str] = token_of

    assert take(None, tmp_path, None) == "t1"
    assert take(None, tmp_path, "alice") == "t2"
    monkeypatch.setenv("SESSILE_DEV_TOKEN", "t3")
    assert take(None, tmp_path, None) == "t3"
    assert take(None, tmp_path, "alice") == "t2"
    assert take("t4", tmp_path, None) == "t4"


def test_a_token_that_is_nowhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandFailed, match="--token"):
        token_of(None, tmp_path, "alice")
    Tokens(tmp_path, monkeypatch)
    with pytest.raises(CommandFailed, match="admin, alice"):
        token_of(None, tmp_path, "carol")
