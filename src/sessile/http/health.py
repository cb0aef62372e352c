"""How the node is, for people, probes and Prometheus."""

import asyncio
from typing import Any

from fastapi import FastAPI
from prometheus_client import generate_latest
from starlette.responses import PlainTextResponse

from sessile.core.context import Principal
from sessile.core.errors import SessionNotFound, StorageBusy, StorageDamaged
from sessile.core.ids import SessionId, TenantId, UserId
from sessile.http import schemas
from sessile.http.problems import NotReady
from sessile.http.reply import Reply, json_reply
from sessile.http.served import Served, declare
from sessile.http.stream import Streams

NOBODY = Principal(tenant_id=TenantId("nobody"), user_id=UserId("nobody"))
"""For whom a session is looked for that is not there."""
ANSWER_SECONDS_MAX = 2.0


class HealthRoutes:
    def __init__(self, served: Served, streams: Streams) -> None:
        self._served = served
        self._streams = streams

    def declare(self, app: FastAPI) -> None:
        def add(path: str, endpoint: Any, **more: Any) -> None:
            declare(app, "GET", path, endpoint, tag="node", status=200, **more)

        add("/", self.get_root, model=schemas.About)
        add("/healthz", self.get_health, model=schemas.Health, said="The process answers.")
        add("/readyz", self.get_readiness, model=schemas.Health, problems=(503,))
        add(
            "/metrics",
            self.get_metrics,
            media=PlainTextResponse,
            said="In the format of Prometheus.",
        )

    async def get_root(self) -> Reply:
        """What this is."""
        about = {"name": "sessile", "api": "/v1", "openapi": "/openapi.json"}
        return json_reply(200, about)

    async def get_health(self) -> Reply:
        """Whether the process answers; says nothing of its database."""
        return json_reply(200, {"status": "ok"})

    async def get_readiness(self) -> Reply:
        """Whether this node takes turns, and its database answers and could last be written."""
        if self._streams.draining:
            raise NotReady("this node is stopping")
        if (trouble := self._served.workers.trouble) is not None:
            raise NotReady(trouble)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                await self._served.reads.found(NOBODY, SessionId("ses_"))
        except SessionNotFound:
            return json_reply(200, {"status": "ok"})
        except (StorageBusy, StorageDamaged) as outage:
            raise NotReady(f"the database could not be read: {outage}") from outage
        except TimeoutError:
            raise NotReady("the database does not answer") from None
        raise AssertionError("nothing has this id")

    async def get_metrics(self) -> Reply:
        """This node's figures."""
        text = generate_latest(self._served.telemetry.registry)
        return Reply(200, text, media_type=b"text/plain; version=0.0.4; charset=utf-8")
