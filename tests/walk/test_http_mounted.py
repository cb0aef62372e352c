"""A user's own routes refuse in their own words, as every refusal is told."""

from pathlib import Path

from fastapi import APIRouter, HTTPException
from tests.walk.people import walking
from tests.walk.test_http_refusals import problem

from sessile import Server


async def test_a_mounted_route_refuses_in_its_own_words(tmp_path: Path) -> None:
    router = APIRouter()

    @router.get("/mine/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "This is a teapot.", headers={"X-Pot": "short"})

    @router.get("/mine/form")
    async def form() -> None:
        raise HTTPException(400, {"pot": "short"})

    def mount(server: Server) -> None:
        server.mount(router)

    async with walking(data_dir=tmp_path, mount=mount) as walk:
        refused = await walk.nobody.get("/mine/teapot")
        formed = await walk.nobody.get("/mine/form")
        absent = await walk.nobody.get("/mine/absent")

    assert refused.status_code == 418
    assert refused.json()["detail"] == "This is a teapot."
    assert refused.headers["x-pot"] == "short"
    assert formed.json()["detail"] == '{"pot":"short"}'
    problem(absent, 404, "not_found")
    assert absent.json()["detail"] == "Not Found"
