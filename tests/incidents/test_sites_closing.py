"""The message bot's session is closed just as messages come: each is taken by it or by the next."""

import asyncio

import httpx2
from tests.incidents.conftest import Serve
from tests.incidents.sites_walk import Crew

from sessile.demo.sites import MENU, assistants, router

ROUNDS = 20


async def test_a_message_that_meets_the_end_of_its_session_is_not_turned_away(
    serve: Serve,
) -> None:
    async with serve(assistants(), router) as site:
        crew = Crew(site.http, "ana")
        headers = {"Authorization": f"Bearer {site.admin}"}

        async def closed(session_id: str) -> httpx2.Response:
            return await site.http.post(f"/v1/sessions/{session_id}/close", headers=headers)

        for _ in range(ROUNDS):
            session_id = (await crew.says("Bonjour"))["sessionId"]
            first, reply, second = await asyncio.gather(
                crew.says("Bonjour"), closed(session_id), crew.says("Bonjour")
            )
            assert reply.status_code == 200
            for said in (first, second):
                # What was accepted before the end is cancelled with it, and says so.
                in_time = said["sessionId"] == session_id
                assert said["status"] in (("completed", "cancelled") if in_time else ("completed",))
                assert said["text"] in ((MENU["fr"], "") if in_time else (MENU["fr"],))
