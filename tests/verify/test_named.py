"""Sessions that their caller names, in a backend that takes forms: a message to a session that is
not there makes one, and after a deletion one without what was said before."""

from collections import defaultdict
from typing import Any
from urllib.parse import parse_qsl

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tests.incidents.conftest import naive as served

from sessile.verify import loading, runner
from sessile.verify.checker import judge
from sessile.verify.history import History
from sessile.verify.mapping import BadMapping

SEND = {
    "request": {"call": "POST /say", "form": {"chat": "{session}", "text": "{text}"}},
    "session": "chat",
    "reply": "answer",
    "creates": True,
}
MAPPING: dict[str, Any] = {
    "name": "named",
    "open": {},
    "send": SEND,
    "reads": {"said": {"request": "GET /said/{session}", "items": "[*]", "role": "role"}},
    "delete": "DELETE /said/{session}",
}


def backend(*, keeps: bool) -> Starlette:
    """`keeps`: what was deleted comes back with the next message."""
    chats: dict[str, list[dict[str, str]]] = defaultdict(list)
    gone: dict[str, list[dict[str, str]]] = {}

    async def say(request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        chat, text = form["chat"], form["text"]
        if keeps:
            chats[chat] += gone.pop(chat, [])
        chats[chat] += [{"role": "user", "text": text}, {"role": "assistant", "text": text}]
        return JSONResponse({"chat": chat, "answer": text})

    async def said(request: Request) -> Response:
        chat = request.path_params["chat"]
        if request.method == "DELETE":
            gone[chat] = chats.pop(chat, [])
            return Response(status_code=204)
        return JSONResponse(chats.get(chat, []))

    return Starlette(
        routes=[
            Route("/say", say, methods=["POST"]),
            Route("/said/{chat}", said, methods=["GET", "DELETE"]),
        ]
    )


async def played(*, keeps: bool = False, **differs: Any) -> History:
    target = loading.read_mapping({**MAPPING, **differs})
    async with served(backend(keeps=keeps)) as site:
        plan = runner.Plan(
            url=site.url, target=target, limits=runner.LIMITS, only=("basics", "gone")
        )
        return await runner.play(plan)


def found(history: History) -> set[str]:
    return {each.check.name for each in judge(history) if each.verdict == "found"}


async def test_a_session_has_the_id_that_its_caller_made_up_and_a_form_is_sent() -> None:
    history = await played()

    sends = [op for op in history.ops if op.kind == "send"]
    assert len(sends) > 10
    assert all(op.ok for op in sends)
    assert {op.session for op in sends} == {op.said["session"] for op in sends}
    assert len({op.session for op in sends}) == 6
    assert f"text={sends[0].nonce}" in sends[0].request
    assert found(history) == set()


async def test_a_session_that_is_made_again_comes_back_only_with_what_was_in_it() -> None:
    assert found(await played(keeps=True)) == {"session-resurrection"}


async def test_a_message_to_a_deleted_session_is_refused_where_sends_make_none() -> None:
    history = await played(send={**SEND, "creates": False})

    assert found(history) == {"session-resurrection"}


def test_a_request_has_a_form_or_json() -> None:
    request = {**SEND["request"], "json": {}}

    with pytest.raises(BadMapping, match="has a form and JSON"):
        loading.read_mapping({**MAPPING, "send": {**SEND, "request": request}})
