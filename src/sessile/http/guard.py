"""What holds for every request, outside all routes: its id, its size, where it may come from,
the headers of its reply, its line in the log."""

import logging
import re
from collections.abc import Callable
from itertools import count
from time import perf_counter

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sessile.core.context import Principal
from sessile.core.errors import SessileError
from sessile.http.exchange import Exchange
from sessile.http.problems import (
    BodyTooLarge,
    HostRefused,
    InvalidHeader,
    OriginRefused,
    plain_problem,
    problem,
)
from sessile.http.reply import Header, Reply
from sessile.http.traffic import Traffic
from sessile.ports.auth import Authenticator
from sessile.settings import Settings, is_loopback, is_own_origin

logger = logging.getLogger(__name__)

REPLY_HEADERS: list[Header] = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
UNLESS_SET: dict[bytes, bytes] = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
ASKS = b"access-control-request-method"
"""Of a preflight."""
LENGTH_DIGITS_MAX = 18
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
ONCE_ONLY = (
    b"authorization", b"content-encoding", b"content-type", b"host", b"idempotency-key",
    b"last-event-id", b"origin", b"sessile-user", b"transfer-encoding",
)  # fmt: skip
SHARED = re.compile("/v1/.*|/pusher/auth", re.DOTALL)
"""What pages of the origins that `api_origins` names may ask for too. Nothing is given away by it:
a request has no more rights than the token that its page put into it, and a browser adds none."""
PREFLIGHT: list[Header] = [
    (
        b"access-control-allow-headers",
        b"authorization,content-type,idempotency-key,last-event-id,sessile-user,x-request-id",
    ),
    (b"access-control-allow-methods", b"DELETE,GET,HEAD,PATCH,POST,PUT"),
    (b"access-control-max-age", b"600"),
]
EXPOSED: Header = (b"access-control-expose-headers", b"location,retry-after,x-request-id")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Guard:
    """Pure ASGI. What it adds to a request is counted in microseconds: every turn pays it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        node: str,
        traffic: Traffic,
        authenticator: Authenticator,
        count_request: Callable[[Principal], None],
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._count_request = count_request
        self._traffic = traffic
        self._body_bytes_max = settings.body_bytes_max
        self._loopback = settings.local
        self._origins = settings.origins
        self._ids = (f"req_{node}_{number:x}" for number in count(1))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            hosts = [value for name, value in scope["headers"] if name == b"host"]
            if self._loopback and not (len(hosts) == 1 and names_loopback(hosts[0])):
                await send({"type": "websocket.close"})
                return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        asked = scope["sessile"] = self._exchange(scope, headers)
        request_id = (b"x-request-id", asked.request_id.encode())
        shared = bool(self._origins) and SHARED.fullmatch(scope["path"]) is not None
        allowed = shared and headers.get(b"origin", b"").lower() in self._origins
        told: list[Header] = [(b"vary", b"origin")] if shared else []
        if allowed:
            told += ((b"access-control-allow-origin", headers[b"origin"]), EXPOSED)
        status, ended = 0, False

        async def answer(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                given = message["headers"]
                names = {name for name, _ in given}
                message["headers"] = [
                    *given,
                    *((n, v) for n, v in UNLESS_SET.items() if n not in names),
                    *REPLY_HEADERS,
                    *told,
                    request_id,
                ]
            else:
                ended = not message.get("more_body")
            await send(message)

        try:
            self._check(scope, headers, allowed=allowed)
            if allowed and scope["method"] == "OPTIONS" and ASKS in headers:
                await Reply(204, headers=PREFLIGHT)(scope, receive, answer)
                return
            if b"content-length" not in headers or b"transfer-encoding" in headers:
                receive = self._bounded(receive)
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            status = status or 499
        except SessileError as error:
            await problem(error, request_id=asked.request_id)(scope, receive, answer)
        except Exception:
            logger.exception("a request failed", extra={"request_id": asked.request_id})
            if not status:
                await plain_problem(500, request_id=asked.request_id)(scope, receive, answer)
            elif not ended:
                # Half a reply is better cut off than ended as if it were whole.
                raise
        finally:
            self._told(scope, asked, status, perf_counter() - began)

    def _exchange(self, scope: Scope, headers: dict[bytes, bytes]) -> Exchange:
        request_id = self._request_id(headers)
        asked = Exchange(request_id, headers, self._authenticator, self._count_request)
        asked.address = (scope.get("client") or ("",))[0]
        if b"ticket=" in scope["query_string"]:
            asked.ticket = _taken_ticket(scope)
        return asked

    def _request_id(self, headers: dict[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given.decode()
        return next(self._ids)

    def _check(self, scope: Scope, headers: dict[bytes, bytes], *, allowed: bool) -> None:
        if len(headers) != len(scope["headers"]):
            names = [name for name, _ in scope["headers"]]
            if any(names.count(name) > 1 for name in ONCE_ONLY):
                raise InvalidHeader("a header that may stand once stands twice")
        host = headers.get(b"host", b"")
        if self._loopback and not names_loopback(host):
            raise HostRefused()
        origin = headers.get(b"origin")
        if origin is not None and scope["method"] not in SAFE_METHODS and not allowed:
            if not is_own_origin(origin, host):
                raise OriginRefused()
        if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise InvalidHeader("transfer-encoding is chunked, and nothing else")
        if b"upgrade" in headers and scope["method"] not in SAFE_METHODS:
            # The parser leaves the body to the protocol that was asked for.
            raise InvalidHeader("no connection is upgraded here; ask without the header Upgrade")
        length = headers.get(b"content-length")
        if length is not None:
            if not length.isdigit():
                raise InvalidHeader("content-length is no number")
            if len(length) > LENGTH_DIGITS_MAX or int(length) > self._body_bytes_max:
                raise BodyTooLarge(bytes_max=self._body_bytes_max)

    def _bounded(self, receive: Receive) -> Receive:
        """A body whose length was not announced is measured while it comes."""
        size = 0

        async def measured() -> Message:
            nonlocal size
            message = await receive()
            if message["type"] == "http.request":
                size += len(message.get("body", b""))
                if size > self._body_bytes_max:
                    raise BodyTooLarge(bytes_max=self._body_bytes_max)
            return message

        return measured

    def _told(self, scope: Scope, asked: Exchange, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "")
        method = scope["method"] if route else ""
        self._traffic.answered(method, route, status, seconds)
        level = logging.DEBUG if status < 400 else logging.INFO
        if logger.isEnabledFor(level):
            logger.log(
                level,
                "request",
                extra={
                    "request_id": asked.request_id,
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "ms": round(seconds * 1000, 3),
                    "session_id": asked.session_id or _session_id(scope),
                },
            )


def _taken_ticket(scope: Scope) -> str:
    """Taken out of the query, which servers and proxies write into their logs."""
    parts: list[bytes] = scope["query_string"].split(b"&")
    found = [part for part in parts if part.startswith(b"ticket=")]
    scope["query_string"] = b"&".join(part for part in parts if part not in found)
    if len(found) > 1:
        return ""
    return found[0].removeprefix(b"ticket=").decode("latin-1") if found else ""


def _session_id(scope: Scope) -> str | None:
    """As the path of a mounted route names it."""
    named: str | None = scope.get("path_params", {}).get("session_id")
    return named


def names_loopback(host: bytes) -> bool:
    """Whether a Host header names this machine. A page that was loaded from a name that an
    attacker pointed at 127.0.0.1 has that name in it."""
    name = host.decode("latin-1")
    if name.startswith("["):
        name, bracket, port = name[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return False
    else:
        name = name.partition(":")[0]
    return is_loopback(name.lower())
