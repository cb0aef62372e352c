"""The bank's requests: sent again by a client that did not hear the answer, and refused."""

import asyncio
import json
from pathlib import Path

from tests.incidents.banking_checks import MANAGER, check_opened, check_rows, logged_in
from tests.incidents.conftest import Serve

from sessile.demo import banking

REPEATS = 10


async def test_a_session_that_is_opened_again_with_its_key_is_the_same(
    serve: Serve, tmp_path: Path
) -> None:
    async with serve(banking.assistants(step_seconds=0.01), banking.router) as site:
        client = await logged_in(site)
        headers = {**client.json_headers, "Idempotency-Key": "the-account"}

        async def opened(user_id: str, **more: str) -> tuple[int, str]:
            content = json.dumps({"userId": user_id})
            reply = await site.http.post(
                "/api/sessions", content=content, headers={**headers, **more}
            )
            return reply.status_code, reply.text

        replies = await asyncio.gather(*(opened("customer") for _ in range(REPEATS)))
        otherwise = await opened("somebody else")
        another = await opened("customer", **{"Idempotency-Key": "another"})
        said = await client.say(json.loads(replies[0][1])["sessionId"], "Hello")
        check_rows(tmp_path / "data" / "sessile.db")
    async with serve(banking.assistants(step_seconds=0.01), banking.router) as site:
        # And so it is behind a restart, and a login later.
        token = (await site.http.post("/api/auth/login", json=MANAGER)).json()["token"]
        assert headers["Authorization"] == f"Bearer {token}"
        headers = {**headers, "Authorization": f"Bearer {token}"}
        later = await site.http.post(
            "/api/sessions", content=json.dumps({"userId": "customer"}), headers=headers
        )

    assert set(replies) == {replies[0]}
    status, text = replies[0]
    assert status == 201
    session_id = check_opened(json.loads(text), user_id="customer")
    assert said["sessionId"] == session_id
    assert otherwise[0] == 409
    assert json.loads(otherwise[1])["code"] == "idempotency_conflict"
    assert (another[0], json.loads(another[1])["sessionId"] == session_id) == (201, False)
    assert (later.status_code, later.json()["sessionId"]) == (201, session_id)


async def test_a_session_that_could_not_be_told_is_not_opened(serve: Serve) -> None:
    """Routes of one's own are held to the same limits as all others, and leave no trace."""
    async with serve(banking.assistants(step_seconds=0.01), banking.router) as site:
        client = await logged_in(site)
        deep = '{"a":' * 300 + "1" + "}" * 300
        reply = await site.http.post(
            "/api/sessions",
            content=f'{{"userId": "customer", "metadata": {deep}}}',
            headers=client.json_headers,
        )
        listed = await site.http.get(
            "/v1/sessions", headers={"Authorization": f"Bearer {site.admin}"}
        )

    assert (reply.status_code, reply.json()["code"]) == (422, "invalid_input")
    assert listed.json()["items"] == []
