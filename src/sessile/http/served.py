"""What the HTTP surface stands on, and how its operations are declared."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from sessile.http.schemas import Problem
from sessile.ports.agent import Agent
from sessile.runtime.feed import Feed
from sessile.runtime.gates import Gates
from sessile.runtime.keeping import Keeping
from sessile.runtime.limits import Limits
from sessile.runtime.places import Places
from sessile.runtime.reads import Reads
from sessile.runtime.sessions import Sessions
from sessile.runtime.sign_in import SignIn
from sessile.runtime.telemetry import Telemetry
from sessile.runtime.webhooks import WebhookDesk
from sessile.runtime.workers import Workers
from sessile.settings import Settings


class Served(Protocol):
    """An open server: `wiring.Server` is one."""

    @property
    def settings(self) -> Settings: ...

    @property
    def epoch(self) -> int: ...

    @property
    def telemetry(self) -> Telemetry: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def sessions(self) -> Sessions: ...

    @property
    def gates(self) -> Gates: ...

    @property
    def keeping(self) -> Keeping: ...

    @property
    def reads(self) -> Reads: ...

    @property
    def feed(self) -> Feed: ...

    @property
    def sign_in(self) -> SignIn: ...

    @property
    def places(self) -> Places: ...

    @property
    def webhooks(self) -> WebhookDesk: ...

    @property
    def workers(self) -> Workers: ...

    @property
    def assistants(self) -> tuple[Agent, ...]:
        """The first is whom a session gets that names none."""
        ...

    @property
    def routers(self) -> Iterable[Any]: ...


class Surface(Protocol):
    """Another protocol on the same address, behind the same guard: `pusher.surface` is one."""

    def serves(self, scope: Scope) -> bool: ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    async def drain(self) -> None:
        """Send the clients away; they come back elsewhere."""
        ...


Replies = dict[int | str, dict[str, Any]]
PROBLEM = {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}
TITLES = {
    400: "The request contradicts itself, or is no JSON.",
    401: "No valid credentials came with the request.",
    403: "You may see this, and may not do it.",
    404: "There is no such thing, or it is not yours: the two are the same answer.",
    409: "The state of the session or the turn does not allow it; `code` says why.",
    413: "Larger than this server takes.",
    415: "The body has to be application/json.",
    422: "A field is missing, unknown or out of range; `errors` says which.",
    429: "More than there may be at once, or in so short a time; `code` says of what.",
    503: "This node cannot do it now; `detail` says why. Retry-After says when to retry.",
}
BODY_PROBLEMS = (400, 413, 415, 422)
SESSION_PROBLEMS = (400, 401, 404, 422, 503)
OTHER_PROBLEM = "Any other refusal; `code` says which."


def declare(
    app: FastAPI,
    method: str,
    path: str,
    endpoint: Callable[..., Awaitable[Any]],
    *,
    tag: str,
    status: int,
    model: Any = None,
    problems: Iterable[int] = (),
    replies: Replies | None = None,
    said: str = "Done.",
    media: type[Response] = JSONResponse,
) -> None:
    """An operation named after its endpoint, with every refusal that it knows."""
    responses: Replies = {
        code: {"description": TITLES[code], "content": {"application/problem+json": PROBLEM}}
        for code in sorted({*problems})
    }
    other = {"description": OTHER_PROBLEM, "content": {"application/problem+json": PROBLEM}}
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        operation_id=endpoint.__name__,
        response_model=model,
        status_code=status,
        response_description=said,
        response_class=media,
        responses={**responses, "default": other, **(replies or {})},
        tags=[tag],
    )
