"""Who may grant: operators and admins what they like, owners what their assistant lets them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.walk.people import BASE, Walk, walking
from tests.walk.wire import in_time

from sessile import Principal

GRANTS = ["deploy", "manage_sessions"]


class Roles:
    """The walk's logins, of which some have another role."""

    def __init__(self, walk: Walk, **roles: str) -> None:
        self._walk = walk
        self._roles = roles

    async def principal(self, token: str) -> Principal | None:
        known = await self._walk.tokens.principal(token)
        if known is None or known.user_id not in self._roles:
            return known
        role = self._roles[known.user_id]
        return Principal(tenant_id=known.tenant_id, user_id=known.user_id, roles=frozenset({role}))


@asynccontextmanager
async def asking(walk: Walk, user: str, role: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the user, who has this role."""
    app = walk.server.app(Roles(walk, **{user: role}))
    headers = {"authorization": f"Bearer {walk.token(user)}"}
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(in_time(app)), base_url=BASE, headers=headers
    ) as client:
        yield client


def changes(entries: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [
        (entry["kind"], entry["body"]["grant"], entry["body"]["by"])
        for entry in entries
        if entry["kind"] in ("session.granted", "session.revoked")
    ]


async def test_an_operator_grants_and_takes_back_and_the_log_says_who(tmp_path: Path) -> None:
    async with walking(data_dir=tmp_path) as walk:
        at = f"/v1/sessions/{await walk.opened()}"
        async with asking(walk, "alice", "operator") as operator:
            given = await operator.put(f"{at}/grants", json={"grants": GRANTS})
            taken = await operator.put(f"{at}/grants", json={"grants": GRANTS[:1]})
        log = await walk.log(at.rpartition("/")[2])

    assert (given.status_code, given.json()["grants"]) == (200, GRANTS)
    assert (taken.status_code, taken.json()["grants"]) == (200, GRANTS[:1])
    assert changes(log) == [
        ("session.granted", "deploy", "alice"),
        ("session.granted", "manage_sessions", "alice"),
        ("session.revoked", "manage_sessions", "alice"),
    ]


async def test_an_operator_reaches_no_session_of_another(tmp_path: Path) -> None:
    """It may do more with what it reaches, and reaches no more."""
    async with walking(data_dir=tmp_path) as walk:
        session_id = await walk.opened()
        async with asking(walk, "bob", "operator") as operator:
            reply = await operator.put(f"/v1/sessions/{session_id}/grants", json={"grants": GRANTS})

        assert (reply.status_code, reply.json()["code"]) == (404, "session_not_found")
        assert changes(await walk.log(session_id)) == []


@pytest.mark.parametrize("role", ["user", "Admin", "operators", ""])
async def test_another_role_grants_nothing(tmp_path: Path, role: str) -> None:
    async with walking(data_dir=tmp_path) as walk:
        session_id = await walk.opened()
        async with asking(walk, "alice", role) as owner:
            reply = await owner.put(f"/v1/sessions/{session_id}/grants", json={"grants": GRANTS})

        assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
        assert changes(await walk.log(session_id)) == []


async def test_a_grant_that_no_tool_asks_for_is_refused_with_those_that_there_are(
    tmp_path: Path,
) -> None:
    async with walking(data_dir=tmp_path) as walk:
        at = f"/v1/sessions/{await walk.opened(assistant='echo')}"
        misspelt = {"grants": ["deploy", "manage_session"]}
        async with asking(walk, "alice", "operator") as operator:
            reply = await operator.put(f"{at}/grants", json=misspelt)
        log = await walk.log(at.rpartition("/")[2])

    assert (reply.status_code, reply.json()["code"]) == (422, "unknown_grant")
    assert changes(log) == []
    assert reply.json()["detail"] == "no tool asks for manage_session; known: " + ", ".join(GRANTS)
