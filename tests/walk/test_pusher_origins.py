"""Pages of other origins, as browsers ask for them: a preflight first, then the request."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.walk.pusher import Channels, channels

from sessile.settings import is_own_origin

SHOP, EVIL = "https://shop.example", "https://evil.example"
NAMED = f"{SHOP},https://two.example"


class Page:
    """What a browser lets the script of a page do: Fetch, "HTTP fetch" and "CORS check"."""

    def __init__(self, client: httpx2.AsyncClient, origin: str) -> None:
        self._client = client
        self._origin = origin

    async def fetch(
        self, method: str, path: str, *, token: str, **body: Any
    ) -> httpx2.Response | None:
        """The reply, if the script is shown it."""
        preflight = await self._client.request(
            "OPTIONS",
            path,
            headers={
                "origin": self._origin,
                "access-control-request-method": method,
                "access-control-request-headers": "authorization,content-type",
                "sec-fetch-mode": "cors",
                "sec-fetch-site": "cross-site",
            },
        )
        headers = preflight.headers.get("access-control-allow-headers", "").split(",")
        methods = preflight.headers.get("access-control-allow-methods", "").split(",")
        allowed = {"authorization", "content-type"} <= {*headers} and method in methods
        if not (preflight.is_success and self._shown(preflight) and allowed):
            return None
        sent = {
            "origin": self._origin,
            "authorization": f"Bearer {token}",
            "accept": "application/json",
        }
        reply = await self._client.request(method, path, headers=sent, **body)
        return reply if self._shown(reply) else None

    def _shown(self, reply: httpx2.Response) -> bool:
        assert "access-control-allow-credentials" not in reply.headers
        assert reply.headers["vary"] == "origin"
        return reply.headers.get_list("access-control-allow-origin") == [self._origin]


def over(served: Channels) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{served.port}")


async def test_a_page_of_a_named_origin_is_signed_for_and_reads_what_it_missed(
    tmp_path: Path,
) -> None:
    async with channels(tmp_path, api_origins=NAMED) as served, over(served) as client:
        session_id, token = await served.walk.opened(), served.walk.token("alice")
        page, channel = Page(client, SHOP), f"private-sb-{session_id}"
        async with served.plain(origin=SHOP) as plain:
            form = {"socket_id": plain.socket_id, "channel_name": channel}

            given = await page.fetch("POST", "/pusher/auth", token=token, data=form)
            assert given is not None
            await plain.subscribe(channel, **given.json())
            position = await plain.hear("sessile.position")
            missed = await page.fetch("GET", f"/v1/sessions/{session_id}/events", token=token)

        assert missed is not None
        assert [entry["seq"] for entry in missed.json()["items"]] == [position["seq"]]


async def test_a_page_of_a_named_origin_is_told_its_refusals(tmp_path: Path) -> None:
    async with channels(tmp_path, api_origins=NAMED) as served, over(served) as client:
        page, session_id = Page(client, SHOP), await served.walk.opened()
        form = {"socket_id": "1.1", "channel_name": f"private-sb-{session_id}"}

        for token, status in (("wrong", 401), (served.walk.token("bob"), 404)):
            for method, path, data in (
                ("POST", "/pusher/auth", form),
                ("GET", f"/v1/sessions/{session_id}/events", None),
            ):
                reply = await page.fetch(method, path, token=token, data=data)
                assert reply is not None
                assert reply.status_code == status


@pytest.mark.parametrize(
    "origin", [EVIL, "null", "*", f"{SHOP}.evil.example", f"{SHOP}:444", "http://shop.example", ""]
)
async def test_a_page_of_any_other_origin_is_shown_nothing(tmp_path: Path, origin: str) -> None:
    async with channels(tmp_path, api_origins=NAMED) as served, over(served) as client:
        walk, session_id = served.walk, await served.walk.opened()
        form = {"socket_id": "1.1", "channel_name": f"private-sb-{session_id}"}

        page, token = Page(client, origin), walk.token("alice")
        assert await page.fetch("POST", "/pusher/auth", token=token, data=form) is None
        assert await page.fetch("GET", f"/v1/sessions/{session_id}/events", token=token) is None
        reply = await walk.alice.post("/pusher/auth", data=form, headers={"origin": origin})
        assert (reply.status_code, reply.json()["code"]) == (403, "origin_refused")


async def test_a_page_of_a_named_origin_uses_the_whole_api(tmp_path: Path) -> None:
    async with channels(tmp_path, api_origins=NAMED) as served, over(served) as client:
        page, token = Page(client, "https://two.example"), served.walk.token("alice")

        opened = await page.fetch("POST", "/v1/sessions", token=token, json={})
        assert opened is not None
        assert opened.status_code == 201
        session = f"/v1/sessions/{opened.json()['session_id']}"
        renamed = await page.fetch("PATCH", session, token=token, json={"title": "mine"})
        gone = await page.fetch("DELETE", session, token=token)

        assert renamed is not None
        assert renamed.json()["title"] == "mine"
        assert gone is not None
        assert gone.status_code == 204
        assert "location" in opened.headers["access-control-expose-headers"]


async def test_a_named_origin_is_let_at_nothing_but_the_api(tmp_path: Path) -> None:
    async with channels(tmp_path, api_origins=NAMED) as served:
        walk = served.walk
        for method, path in (
            ("POST", "/pusher/auth/x"),
            ("POST", "/apps/1/events"),
            ("GET", "/apps/1/channels"),
            ("GET", "/v1"),
            ("GET", "/metrics"),
            ("GET", "/"),
            ("POST", "/api/chat"),
        ):
            asked = {"origin": SHOP, "access-control-request-method": method}
            preflight = await walk.alice.options(path, headers=asked)
            reply = await walk.alice.request(method, path, headers={"origin": SHOP})

            assert preflight.status_code in (404, 405), (method, path)
            for each in (preflight, reply):
                assert not [name for name in each.headers if name.startswith("access-control")]
            if method not in ("GET", "HEAD"):
                assert (reply.status_code, reply.json()["code"]) == (403, "origin_refused")


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        (b"https://shop.example", b"Shop.example", True),
        (b"http://[::1]:3006", b"[::1]:3006", True),
        (b"http://shop.example.", b"shop.example", False),
        (b"http://shop.example:80", b"shop.example", False),
        (b"http://me@shop.example", b"shop.example", False),
        (b"null", b"", False),
        (b"://", b"", False),
        (b"shop.example", b"shop.example", False),
    ],
)
def test_a_page_is_of_the_host_that_it_names(origin: bytes, host: bytes, own: bool) -> None:
    assert is_own_origin(origin, host) is own


async def test_where_no_origin_is_named_nothing_is_said_of_them(tmp_path: Path) -> None:
    async with channels(tmp_path) as served:
        asked = {"origin": SHOP, "access-control-request-method": "POST"}

        reply = await served.walk.alice.options("/pusher/auth", headers=asked)

        assert reply.status_code == 405
        assert "vary" not in reply.headers


async def test_another_name_of_this_machine_is_refused_whatever_the_origin(tmp_path: Path) -> None:
    async with channels(tmp_path, api_origins=NAMED) as served:
        asked = {"origin": SHOP, "access-control-request-method": "POST", "host": "evil.example"}

        reply = await served.walk.alice.options("/pusher/auth", headers=asked)

        assert reply.status_code == 421
