"""A user's own routes refuse in their own words, as every refusal is told."""

import logging
from pathlib import Path

import pytest
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict
from tests.walk.people import walking
from tests.walk.test_http_refusals import problem

from sessile import Server
from sessile.http.problems import ERRORS_MAX


async def test_a_mounted_route_refuses_in_its_own_words(tmp_path: Path) -> None:
    router = APIRouter()

    @router.get("/mine/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "This is a teapot.", headers={"X-Pot": "short"})

    @router.post("/mine/teapot")
    async def fill() -> None: ...

    @router.get("/mine/form")
    async def form() -> None:
        raise HTTPException(400, {"pot": "short"})

    def mount(server: Server) -> None:
        server.mount(router)

    async with walking(data_dir=tmp_path, mount=mount) as walk:
        refused = await walk.nobody.get("/mine/teapot")
        formed = await walk.nobody.get("/mine/form")
        absent = await walk.nobody.get("/mine/absent")
        elsewise = await walk.nobody.put("/mine/teapot")

    assert refused.status_code == 418
    assert refused.json()["detail"] == "This is a teapot."
    assert refused.headers["x-pot"] == "short"
    assert formed.json()["detail"] == '{"pot":"short"}'
    problem(elsewise, 405, "method_not_allowed")
    assert elsewise.headers["allow"] == "GET, POST"
    problem(absent, 404, "not_found")
    assert absent.json()["detail"] == "Not Found"


async def test_the_log_line_of_a_mounted_route_names_the_session_of_its_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    router = APIRouter()

    @router.get("/mine/{session_id}/pot")
    async def pot(session_id: str) -> None:
        raise HTTPException(418, "This is a teapot.")

    def mount(server: Server) -> None:
        server.mount(router)

    caplog.set_level(logging.INFO)
    async with walking(data_dir=tmp_path, mount=mount) as walk:
        await walk.nobody.get("/mine/ses_1/pot")

    (line,) = [each.__dict__ for each in caplog.records if each.name == "sessile.http.guard"]
    assert (line["route"], line["session_id"]) == ("/mine/{session_id}/pot", "ses_1")


class Pot(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int


async def test_a_mounted_route_refuses_a_body_as_our_own_routes_do(tmp_path: Path) -> None:
    router = APIRouter()

    @router.post("/mine/pot")
    async def pot(body: Pot) -> int:
        return body.size

    def mount(server: Server) -> None:
        server.mount(router)

    typed = {"content-type": "application/json"}
    async with walking(data_dir=tmp_path, mount=mount) as walk:
        cut = await walk.nobody.post("/mine/pot", content='{"size":', headers=typed)
        untyped = await walk.nobody.post(
            "/mine/pot",
            content='{"size": 1}',
            headers={"content-type": "application/x-www-form-urlencoded"},
        )
        empty = await walk.nobody.post("/mine/pot", headers=typed)
        misspelt = await walk.nobody.post("/mine/pot", json={"sise": 1})
        large = await walk.nobody.post("/mine/pot", json={f"x{n}": 1 for n in range(1000)})

    problem(cut, 400, "malformed_json")
    problem(untyped, 415, "unsupported_media_type")
    problem(empty, 422, "invalid_input", "")
    told = problem(misspelt, 422, "invalid_input", "size", "sise")
    assert [fault["message"] for fault in told["errors"]] == [
        "Has to be given",
        "There is no such field",
    ]
    assert len(large.json()["errors"]) == ERRORS_MAX
