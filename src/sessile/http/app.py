"""The whole HTTP surface as one ASGI application."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from sessile.core.codec import to_json
from sessile.core.context import Principal
from sessile.core.errors import SessileError
from sessile.http.assistants import AssistantRoutes
from sessile.http.events import EventRoutes
from sessile.http.exchange import exchange
from sessile.http.gates import GateRoutes
from sessile.http.guard import Guard
from sessile.http.health import HealthRoutes
from sessile.http.identity import IdentityRoutes, MeRoutes
from sessile.http.keeping import KeepingRoutes
from sessile.http.problems import (
    ERRORS_MAX,
    MESSAGES,
    InvalidFields,
    MalformedJson,
    UnsupportedMediaType,
    plain_problem,
    problem,
)
from sessile.http.route import Dispatch, LeanRoute
from sessile.http.schemas import Problem, Snapshot
from sessile.http.served import Served, Surface
from sessile.http.sessions import SessionRoutes
from sessile.http.stream import Streams
from sessile.http.traffic import Traffic
from sessile.http.turns import TurnRoutes
from sessile.http.webhooks import WebhookRoutes
from sessile.ports.auth import Authenticator
from sessile.runtime.identity import Identity

DESCRIPTION = """\
A session server for AI agents: every message, tool call and progress event lands in the session
that caused it, once and in order.

Every refusal is a problem document (RFC 9457) with a stable `code`. What is not there and what is
not yours is the same answer. A field of a reply is always there: null where unknown, 0 for numbers.
"""

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
TAGS = [
    {"name": "assistants", "description": "Whom a session can be opened with."},
    {"name": "sessions", "description": "A conversation: one append-only log, and what it tells."},
    {"name": "turns", "description": "What is said to a session, and all that follows from it."},
    {"name": "gates", "description": "What a session is granted, and calls that wait for a yes."},
    {"name": "identity", "description": "Who you are, and what lets you in."},
    {"name": "keeping", "description": "What is removed, and what is remembered of it."},
    {"name": "events", "description": "The log as it grows."},
    {"name": "webhooks", "description": "Who is told of what happens in a tenant's sessions."},
    {"name": "node", "description": "How this server is."},
]


class App:
    """An ASGI application around a server that is open: it neither opens nor closes it.

    Call `drain` before the listener stops: streams end themselves, and their readers come back
    elsewhere. `http.listener.Listener` does.
    """

    def __init__(
        self,
        served: Served,
        authenticator: Authenticator,
        *,
        node: str,
        surfaces: tuple[Surface, ...] = (),
    ) -> None:
        self._served = served
        self._surfaces = surfaces
        self._streams = Streams(served)
        self.routes = FastAPI(
            title="Sessile",
            version=version("sessile"),
            description=DESCRIPTION,
            docs_url=None,
            redoc_url=None,
            openapi_url="/openapi.json",
            redirect_slashes=False,
        )
        self.routes.router.route_class = LeanRoute
        self.routes.state.surfaces = surfaces
        HealthRoutes(served, self._streams).declare(self.routes)
        if served.settings.role != "turns":
            AssistantRoutes(served).declare(self.routes)
            SessionRoutes(served).declare(self.routes)
            TurnRoutes(served).declare(self.routes)
            GateRoutes(served).declare(self.routes)
            KeepingRoutes(served).declare(self.routes)
            EventRoutes(served, self._streams).declare(self.routes)
            MeRoutes().declare(self.routes)
            if isinstance(authenticator, Identity):
                IdentityRoutes(served, authenticator).declare(self.routes)
            WebhookRoutes(served).declare(self.routes)
            for router in served.routers:
                self.routes.include_router(router)
        self.routes.add_exception_handler(HTTPException, _of_http)
        self.routes.add_exception_handler(RequestValidationError, _of_fastapi)
        self.routes.add_exception_handler(SessileError, _of_sessile)
        self.routes.add_exception_handler(Exception, _of_a_fault)
        self.routes.openapi = self._openapi  # type: ignore[method-assign]
        self._own = Dispatch(self.routes)
        self._guarded: ASGIApp = Guard(
            self._dispatch,
            settings=served.settings,
            authenticator=authenticator,
            node=node,
            traffic=Traffic(served.telemetry),
            count_request=self._count_request,
        )

    def _count_request(self, principal: Principal) -> None:
        self._served.limits.count_request(principal)  # there once the server is open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guarded(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        for surface in self._surfaces:
            if surface.serves(scope):
                await surface(scope, receive, send)
                return
        await self._own(scope, receive, send)

    def drain(self) -> None:
        """End the streams, and the waits for turns; the turns themselves go on."""
        self._streams.drain()
        self._served.feed.drain()
        self._served.sessions.stop_waiting()

    async def drain_surfaces(self) -> None:
        """Send the clients of the other protocols away, before their connections are cut."""
        for surface in self._surfaces:
            await surface.drain()

    def _openapi(self) -> dict[str, Any]:
        if self.routes.openapi_schema is None:
            schema = get_openapi(
                title=self.routes.title,
                version=self.routes.version,
                description=self.routes.description,
                routes=self.routes.routes,
                tags=TAGS,
            )
            for model in (Problem, Snapshot):
                defined = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schema["components"]["schemas"] |= defined.pop("$defs", {})
                schema["components"]["schemas"][model.__name__] = defined
            self.routes.openapi_schema = schema
        return self.routes.openapi_schema


def create_app(
    served: Served,
    authenticator: Authenticator,
    *,
    node: str = "here",
    surfaces: tuple[Surface, ...] = (),
) -> App:
    """The HTTP surface of an open server, and other surfaces beside it."""
    return App(served, authenticator, node=node, surfaces=surfaces)


async def _of_http(request: Request, error: Exception) -> Any:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, SessileError):
        # What `guard` refused while FastAPI read the body.
        return await _of_sessile(request, error.__cause__)
    status = error.status_code
    headers = [(n.lower().encode(), v.encode()) for n, v in (error.headers or {}).items()]
    allowed = list(_methods(request)) if status in (404, 405) else []
    if allowed and request.method not in allowed:
        status, headers = 405, [(b"allow", ", ".join(allowed).encode())]
    request_id = exchange(request.scope).request_id
    # A mounted route may give anything that is JSON for a detail; a problem's is a text.
    told: Any = error.detail
    detail = told if isinstance(told, str) else to_json(told)
    return plain_problem(status, request_id=request_id, detail=detail, headers=headers)


def _methods(request: Request) -> Iterator[str]:
    """All that the path takes; the router names those of the first route that fits."""
    routes, surfaces = request.app.routes, request.app.state.surfaces
    for method in METHODS:
        asked = {**request.scope, "method": method}
        takes = any(route.matches(asked)[0] is Match.FULL for route in routes)
        if takes or any(surface.serves(asked) for surface in surfaces):
            yield method


async def _of_fastapi(request: Request, error: Exception) -> Any:
    assert isinstance(error, RequestValidationError)
    return problem(_refused(error), request_id=exchange(request.scope).request_id)


def _refused(error: RequestValidationError) -> SessileError:
    """As our own endpoints say it."""
    faults = error.errors()
    if any(each["type"] == "json_invalid" for each in faults):
        return MalformedJson()
    if isinstance(error.body, bytes) and any(each["loc"][0] == "body" for each in faults):
        # FastAPI has not parsed it: it was not said to be JSON.
        return UnsupportedMediaType()
    return InvalidFields(
        (".".join(map(str, each["loc"][1:])), str(MESSAGES.get(each["type"], each["msg"])))
        for each in faults[:ERRORS_MAX]
    )


async def _of_sessile(request: Request, error: Exception) -> Any:
    assert isinstance(error, SessileError)
    return problem(error, request_id=exchange(request.scope).request_id)


async def _of_a_fault(request: Request, _error: Exception) -> Any:
    """Starlette raises it again after this reply, and `guard` logs it."""
    return plain_problem(500, request_id=exchange(request.scope).request_id)
