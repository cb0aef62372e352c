"""Pusher Channels as one ASGI application: WebSockets, the auth endpoint, the signed HTTP API."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Protocol
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from sessile.core.errors import NotFound
from sessile.ports.auth import Authenticator
from sessile.ports.clock import Clock
from sessile.pusher import frames, requests
from sessile.pusher.channels import Kind, kind
from sessile.pusher.frames import Fault
from sessile.pusher.gate import Gate
from sessile.pusher.hub import Hub
from sessile.pusher.signing import AppKeys
from sessile.runtime.asking import Asking
from sessile.runtime.limits import Limits
from sessile.runtime.reads import Reads
from sessile.settings import Settings, WrongSetting, is_own_origin

SOCKET_PATH = re.compile(r"/app/([^/]+)")


class Served(Protocol):
    """An open server: `wiring.Server` is one."""

    @property
    def settings(self) -> Settings: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def reads(self) -> Reads: ...

    @property
    def hub(self) -> Hub: ...


Endpoint = Callable[[Request, Mapping[str, str]], Awaitable[dict[str, Any]]]


class Pusher:
    """Refusals are raised as `SessileError`, for the HTTP surface to tell them."""

    def __init__(
        self,
        served: Served,
        *,
        keys: AppKeys,
        authenticator: Authenticator,
        clock: Clock,
        new_socket_id: Callable[[], str],
    ) -> None:
        settings = served.settings
        if not (settings.pusher_app_id.isascii() and settings.pusher_app_id.isdigit()):
            raise WrongSetting(f"pusher_app_id: {settings.pusher_app_id!r} is not digits alone")
        if settings.pusher_client_events not in ("off", "apart", "everywhere"):
            raise WrongSetting(f"pusher_client_events: {settings.pusher_client_events!r} is none")
        self._settings = settings
        self._served = served
        self._authenticator = authenticator
        self._keys = keys
        self._clock = clock
        self._new_socket_id = new_socket_id
        self._origins = settings.origins
        self._endpoints = tuple(
            (method, template, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", template)), endpoint)
            for method, template, endpoint in self._routes()
        )

    @property
    def _hub(self) -> Hub:
        return self._served.hub  # there once the server is open, which it need not be yet

    @cached_property
    def _gate(self) -> Gate:
        return Gate(
            hub=self._served.hub,
            keys=self._keys,
            reads=self._served.reads,
            limits=self._served.limits,
            authenticator=self._authenticator,
            clock=self._clock,
            settings=self._settings,
        )

    def _routes(self) -> Iterable[tuple[str, str, Endpoint]]:
        app = "/apps/{app_id}"
        return (
            ("POST", "/pusher/auth", self._post_auth),
            ("POST", f"{app}/events", self._post_events),
            ("POST", f"{app}/batch_events", self._post_batch),
            ("GET", f"{app}/channels", self._get_channels),
            ("GET", f"{app}/channels/{{channel}}", self._get_channel),
            ("GET", f"{app}/channels/{{channel}}/users", self._get_users),
        )

    def serves(self, scope: Scope) -> bool:
        """Whether it is for this application; `scope` is told which of its endpoints it is."""
        path: str = scope["path"]
        if scope["type"] == "websocket":
            return SOCKET_PATH.fullmatch(path) is not None
        if not path.startswith(("/apps/", "/pusher/")):
            return False
        for method, template, pattern, endpoint in self._endpoints:
            if method == scope["method"] and (found := pattern.fullmatch(path)):
                scope["route"] = SimpleNamespace(path=template)
                scope["pusher"] = (endpoint, found.groupdict())
                return True
        return False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._connected(scope, receive, send)
            return
        endpoint, parameters = scope["pusher"]
        reply = JSONResponse(await endpoint(Request(scope, receive), parameters))
        await reply(scope, receive, send)

    async def drain(self) -> None:
        """Send the clients away, and those who come from now on."""
        await self._hub.drain()

    # -- the WebSocket

    async def _connected(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        if (fault := self._opening_fault(scope)) is not None:
            await send({"type": "websocket.send", "text": frames.error(fault)})
            await send({"type": "websocket.close", "code": fault.code, "reason": fault.message})
            return
        hub, socket_id = self._hub, self._new_socket_id()
        socket = hub.enter(socket_id, scope, send)
        try:
            while (message := await receive())["type"] == "websocket.receive":
                text: str | None = message.get("text")
                frame: str | bytes = message["bytes"] if text is None else text
                for asked in hub.received(socket_id, frame):
                    await self._gate.decide(socket, asked)
        finally:
            hub.leave(socket_id)

    def _opening_fault(self, scope: Scope) -> Fault | None:
        if self._hub.draining:
            return frames.DRAINING
        if self._hub.full:
            return frames.OVER_CAPACITY
        if not self._known_origin(dict(scope["headers"])):
            return frames.UNAUTHORIZED
        found = SOCKET_PATH.fullmatch(scope["path"])
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        return frames.opening_fault(
            key=found[1] if found else "",
            key_expected=self._keys.key,
            protocol=query.get("protocol", [None])[0],
        )

    def _known_origin(self, headers: Mapping[bytes, bytes]) -> bool:
        """Only browsers say where the page came from that connects, and they say it always."""
        origin, host = headers.get(b"origin", b""), headers.get(b"host", b"")
        return not origin or origin.lower() in self._origins or is_own_origin(origin, host)

    # -- over HTTP

    async def _post_auth(self, request: Request, _named: Mapping[str, str]) -> dict[str, Any]:
        ticket: str = request.scope["sessile"].ticket  # as the guard took it out of the query
        asking = Asking.of(dict(request.scope["headers"]), self._authenticator, ticket=ticket)
        fields = requests.form(await request.body())
        socket_id, channel = fields.get("socket_id", ""), fields.get("channel_name", "")
        return dict(await self._gate.sign(asking, socket_id, channel))

    async def _post_events(self, request: Request, parameters: Mapping[str, str]) -> dict[str, Any]:
        return self._published(requests.read_events(await self._checked(request, parameters)))

    async def _post_batch(self, request: Request, parameters: Mapping[str, str]) -> dict[str, Any]:
        self._published(requests.read_batch(await self._checked(request, parameters)))
        return {}

    async def _get_channels(
        self, request: Request, parameters: Mapping[str, str]
    ) -> dict[str, Any]:
        await self._checked(request, parameters)
        prefix = request.query_params.get("filter_by_prefix", "")
        wanted = requests.infos(request.query_params.get("info"))
        if "user_count" in wanted and not prefix.startswith("presence-"):
            raise requests.RequestInvalid("user_count: only with filter_by_prefix=presence-…")
        channels = self._hub.switchboard.registry.occupied(prefix)
        return {"channels": {channel: self._about(channel, wanted) for channel in channels}}

    async def _get_channel(self, request: Request, parameters: Mapping[str, str]) -> dict[str, Any]:
        await self._checked(request, parameters)
        channel = parameters["channel"]
        if kind(channel) is None:
            raise requests.RequestInvalid("There is no such channel.")
        about = self._about(channel, requests.infos(request.query_params.get("info")))
        occupied = self._hub.switchboard.registry.subscription_count(channel) > 0
        return {"occupied": occupied, **about}

    async def _get_users(self, request: Request, parameters: Mapping[str, str]) -> dict[str, Any]:
        await self._checked(request, parameters)
        if kind(parameters["channel"]) is not Kind.PRESENCE:
            raise requests.RequestInvalid("Presence channels have users, and no others.")
        members = self._hub.switchboard.registry.members(parameters["channel"])
        return {"users": [{"id": member.user_id} for member in members]}

    async def _checked(self, request: Request, parameters: Mapping[str, str]) -> bytes:
        """The body of a request that was signed with the secret of this app."""
        body = await request.body()
        self._keys.check_request(
            request.method,
            request.scope["path"],
            requests.pairs(request.scope["query_string"]),
            body,
            now_seconds=self._clock.now_ms() / 1000,
        )
        if parameters["app_id"] != self._settings.pusher_app_id:
            raise NotFound()
        return body

    def _published(self, events: Iterable[requests.Publish]) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for event in events:
            for channel in event.channels:
                said = frames.channel_event(channel, event.name, event.data)
                hub = self._hub
                hub.perform(hub.switchboard.publish(said, excepting=event.excepting))
                if event.infos:
                    told[channel] = self._about(channel, event.infos)
        return {"channels": told} if told else {}

    def _about(self, channel: str, wanted: frozenset[str]) -> dict[str, Any]:
        registry = self._hub.switchboard.registry
        about: dict[str, Any] = {}
        if "subscription_count" in wanted:
            about["subscription_count"] = registry.subscription_count(channel)
        if "user_count" in wanted:
            about["user_count"] = registry.user_count(channel)
        return about
