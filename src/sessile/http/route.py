"""Routes whose endpoints are called without FastAPI's solver, which costs more than a turn's log.

An endpoint is declared as FastAPI wants it, and FastAPI writes its OpenAPI; what it declares is
read once, and each request then takes only the steps that this endpoint needs.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from fastapi import Depends, Path, Request, params
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope

from sessile.core.context import Principal
from sessile.core.errors import SessileError, Unauthenticated
from sessile.core.ids import SessionId, TurnId, well_formed
from sessile.http.bodies import check_media_type, parse_json, read_body
from sessile.http.problems import InvalidFields, SessionMismatch, problem
from sessile.ports.auth import Authenticator

QUERY_FIELDS_MAX = 20
NOBODYS = {"session_id": ("ses", SessionId("ses_")), "turn_id": ("trn", TurnId("trn_"))}
"""An id of another form names nothing: it is asked for under a name that nothing has, so that
the answer is the same, and takes as long, as for any other id that does not exist."""


@dataclass(slots=True)
class Exchange:
    """One request, as `guard` met it."""

    request_id: str
    headers: Mapping[bytes, bytes]
    session_id: SessionId | None = None
    token: str = ""


def exchange(scope: Scope) -> Exchange:
    found: Exchange = scope["sessile"]
    return found


async def authenticate(authenticator: Authenticator, here: Exchange) -> Principal:
    """Raises Unauthenticated."""
    scheme, _, token = here.headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        raise Unauthenticated()
    here.token = token.decode("latin-1")
    principal = await authenticator.principal(here.token)
    if principal is None:
        raise Unauthenticated()
    return principal


async def _caller(
    request: Request,
    _credentials: Annotated[
        HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))
    ],
) -> Principal:
    """For routers that were mounted; a `LeanRoute` asks `authenticate` itself."""
    return await authenticate(request.app.state.authenticator, exchange(request.scope))


Caller = Annotated[Principal, Depends(_caller)]
"""Whoever asks: a parameter of any route, your own too. 401 without valid credentials."""
SessionPath = Annotated[SessionId, Path(description="The session's id.")]
TurnPath = Annotated[TurnId, Path(description="The turn's id.")]


class LeanRoute(APIRoute):
    """Its endpoint takes `Caller`, `Request`, path, query and header parameters and one body
    model, and answers with an ASGI application."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return _Endpoint(self.endpoint).answer


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    place: str
    adapter: TypeAdapter[Any]

    def read(self, text: str) -> Any:
        try:
            return self.adapter.validate_python(text)
        except ValidationError as error:
            raise InvalidFields.of(error, within=self.place) from None


class _Endpoint:
    """What one endpoint declares."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self._function = function
        self._caller = self._request = self._body = ""
        self._body_model: type[BaseModel] | None = None
        self._body_optional = False
        self._ids: list[str] = []
        self._query: dict[str, _Parameter] = {}
        self._headers: dict[bytes, _Parameter] = {}
        hints = get_type_hints(function, include_extras=True)
        for parameter in inspect.signature(function).parameters.values():
            self._declare(parameter, hints[parameter.name])

    def _declare(self, parameter: inspect.Parameter, hint: Any) -> None:
        name = parameter.name
        mark = next(_marks(hint), None)
        match mark:
            case params.Depends():
                self._caller = name
            case params.Path():
                self._ids.append(name)
            case params.Query():
                alias = mark.alias or name
                self._query[alias] = _Parameter(name, alias, TypeAdapter(hint))
            case params.Header():
                alias = mark.alias or name.replace("_", "-")
                adapter: TypeAdapter[Any] = TypeAdapter(hint)
                self._headers[alias.lower().encode()] = _Parameter(name, alias, adapter)
            case _ if hint is Request:
                self._request = name
            case _:
                self._body, self._body_model = name, _model(hint)
                self._body_optional = parameter.default is not inspect.Parameter.empty

    async def answer(self, request: Request) -> Response:
        scope = request.scope
        here = exchange(scope)
        try:
            arguments = await self._arguments(request, scope, here)
            reply: Any = await self._function(**arguments)
        except SessileError as error:
            reply = problem(error, request_id=here.request_id)
        return cast(Response, reply)

    async def _arguments(self, request: Request, scope: Scope, here: Exchange) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if self._caller:
            authenticator = scope["app"].state.authenticator
            arguments[self._caller] = await authenticate(authenticator, here)
        if self._request:
            arguments[self._request] = request
        path: dict[str, str] = scope["path_params"]
        for name in self._ids:
            prefix, nobodys = NOBODYS[name]
            arguments[name] = path[name] if well_formed(path[name], prefix=prefix) else nobodys
        here.session_id = arguments.get("session_id")
        if scope["query_string"]:
            self._read_query(scope["query_string"], here.session_id, arguments)
        for header, parameter in self._headers.items():
            if (value := here.headers.get(header)) is not None:
                arguments[parameter.name] = parameter.read(value.decode("latin-1"))
        if self._body_model is not None:
            await self._read_body(request.receive, here, arguments)
        return arguments

    def _read_query(
        self, query: bytes, session_id: SessionId | None, arguments: dict[str, Any]
    ) -> None:
        try:
            pairs = parse_qsl(
                query.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=QUERY_FIELDS_MAX,
            )
        except ValueError:
            raise InvalidFields([("", "The query is not well formed")]) from None
        given = dict(pairs)
        if len(given) < len(pairs):
            raise InvalidFields([("", "A parameter stands twice in the query")])
        if session_id is not None and "session_id" in given:
            _same(session_id, given.pop("session_id"))
        for place, text in given.items():
            parameter = self._query.get(place)
            if parameter is None:
                raise InvalidFields([(place, "There is no such parameter")])
            arguments[parameter.name] = parameter.read(text)

    async def _read_body(self, receive: Receive, here: Exchange, arguments: dict[str, Any]) -> None:
        data = await read_body(receive)
        if not data and self._body_optional:
            return
        check_media_type(here.headers)
        value = parse_json(data)
        if isinstance(value, dict) and here.session_id is not None and "session_id" in value:
            _same(here.session_id, cast(dict[str, Any], value).pop("session_id"))
        assert self._body_model is not None
        try:
            arguments[self._body] = self._body_model.model_validate(value)
        except ValidationError as error:
            raise InvalidFields.of(error) from None


def _same(session_id: SessionId, other: Any) -> None:
    if other != session_id:
        raise SessionMismatch()


def _marks(hint: Any) -> Iterator[Any]:
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, params.Depends | params.Param):
            yield mark


def _model(hint: Any) -> type[BaseModel]:
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    raise TypeError(f"{hint!r} is neither a parameter nor a body")
