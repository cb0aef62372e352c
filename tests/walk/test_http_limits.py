"""Limits over HTTP: 429, when to ask again, and which limit it was."""

from pathlib import Path

import pytest
from tests.walk.people import message, walking


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_refusal_names_the_limit_and_leaves_nothing(store: str, tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, store_url=store, sessions_user_max=1) as walk:
        first = await walk.alice.post("/v1/sessions", json={}, headers={"idempotency-key": "k"})
        before = await walk.everything()

        refused = await walk.alice.post("/v1/sessions", json={})
        with_input = await walk.alice.post("/v1/turns", json=message("hello"))

        for reply in (refused, with_input):
            assert reply.status_code == 429
            assert reply.headers["retry-after"] == "60"
            problem = reply.json()
            assert (problem["code"], problem["details"]["limit"]) == (
                "limit_reached",
                "sessions_user_max",
            )
        assert await walk.everything() == before
        again = await walk.alice.post("/v1/sessions", json={}, headers={"idempotency-key": "k"})
        assert again.json()["session_id"] == first.json()["session_id"]
        metrics = (await walk.alice.get("/metrics")).text
        assert 'sessile_limited_total{limit="sessions_user_max"} 2.0' in metrics


async def test_requests_count_once_they_have_shown_a_token(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path, store_url="memory", requests_minute_user_max=5) as walk:
        session_id = await walk.opened()
        nobody = {"authorization": "Bearer nobody"}
        for _ in range(9):
            assert (await walk.alice.get("/v1/sessions", headers=nobody)).status_code == 401
            assert (await walk.alice.get("/healthz")).status_code == 200
        for _ in range(3):
            assert (await walk.alice.get("/v1/sessions")).status_code == 200
        sign = {"socket_id": "1.1", "channel_name": f"private-sb-{session_id}"}
        await walk.alice.post("/pusher/auth", data=sign)

        refused = [
            await walk.alice.get(f"/v1/sessions/{session_id}"),
            await walk.alice.post(f"/v1/sessions/{session_id}/turns", json=message("hello")),
            await walk.alice.post("/pusher/auth", data=sign),
        ]

        for reply in refused:
            assert reply.status_code == 429
            assert 1 <= int(reply.headers["retry-after"]) <= 120
            assert reply.json()["details"]["limit"] == "requests_minute_user_max"
        assert (await walk.bob.get("/v1/sessions")).status_code == 200
