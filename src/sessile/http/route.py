"""How a request finds its endpoint: ours directly, what users mounted through FastAPI.

Our endpoints are declared as FastAPI wants them, and FastAPI writes their OpenAPI; but its way to
an endpoint, and its solver, would cost each turn a tenth of all its work, and each stream more
memory than all the rest of it.
"""

from collections.abc import Callable, Coroutine
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sessile.http.endpoint import Endpoint


class LeanRoute(APIRoute):
    """A route to an `Endpoint`."""

    lean: Endpoint

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        self.lean = Endpoint(self.endpoint)

        async def handle(_request: Request) -> Response:
            return cast(Response, self.lean)

        return handle


class _Node:
    """A place in the tree of paths. A place has either names or one parameter below it."""

    __slots__ = ("below", "parameter", "parameter_name", "routes")

    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.parameter_name = ""
        self.routes: dict[str, LeanRoute] = {}

    def add(self, segments: list[str], route: LeanRoute) -> None:
        if not segments:
            self.routes.update((method, route) for method in route.methods or ())
            return
        first, *rest = segments
        if first.startswith("{"):
            if self.parameter is None:
                self.parameter, self.parameter_name = _Node(), first[1:-1]
            assert self.parameter_name == first[1:-1], "one place, one name"
            self.parameter.add(rest, route)
        else:
            self.below.setdefault(first, _Node()).add(rest, route)


class Dispatch:
    """Calls our endpoints; leaves to FastAPI what is none of them."""

    def __init__(self, routes: FastAPI) -> None:
        self._rest = routes
        self._root = _Node()
        for route in routes.routes:
            if isinstance(route, LeanRoute):
                self._root.add(route.path.split("/"), route)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope.get("root_path"):
            node: _Node | None = self._root
            parameters: dict[str, str] = {}
            for segment in scope["path"].split("/"):
                assert node is not None
                below = node.below.get(segment)
                if below is None and segment and node.parameter is not None:
                    parameters[node.parameter_name] = segment
                    below = node.parameter
                node = below
                if node is None:
                    break
            if node is not None and (route := node.routes.get(scope["method"])) is not None:
                scope["route"], scope["path_params"] = route, parameters
                await route.lean(scope, receive, send)
                return
        await self._rest(scope, receive, send)
