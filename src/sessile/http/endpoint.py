"""What one endpoint declares, read once, and what a request therefore has to be."""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from fastapi import params
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import Receive, Scope, Send

from sessile.core.errors import SessileError
from sessile.core.ids import CallId, MessageId, SessionId, TurnId, WebhookId, well_formed
from sessile.http.bodies import check_media_type, parse_json, read_body
from sessile.http.exchange import Exchange, caller, exchange, here
from sessile.http.problems import InvalidFields, SessionMismatch, problem
from sessile.runtime.inputs import NOBODYS_SESSION

QUERY_FIELDS_MAX = 20
NUMBERS = {
    int: re.compile(r"-?[0-9]{1,100}", re.ASCII),
    float: re.compile(r"-?[0-9]{1,100}(\.[0-9]{1,100})?", re.ASCII),
}
"""What a number is in a query: Python would read `1_0`, ` 1` and `1.0` as well."""
NOBODYS: Mapping[str, tuple[str, str]] = {
    "session_id": ("ses", NOBODYS_SESSION),
    "turn_id": ("trn", TurnId("trn_")),
    "call_id": ("call", CallId("call_")),
    "message_id": ("msg", MessageId("msg_")),
    "webhook_id": ("whk", WebhookId("whk_")),
    "key_id": ("key", "key_"),
}
"""An id of another form names nothing: it is asked for under a name that nothing has, so that
the answer is the same, and takes as long, as for any other id that does not exist."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    place: str
    adapter: TypeAdapter[Any]
    number: re.Pattern[str] | None = None

    def read(self, text: str) -> Any:
        if self.number is not None and not self.number.fullmatch(text):
            raise InvalidFields([(self.place, "Input should be a number, in digits")])
        try:
            return self.adapter.validate_python(text)
        except ValidationError as error:
            raise InvalidFields.of(error, within=self.place) from None


class Endpoint:
    """A function that takes `Caller`, `Here`, path, query and header parameters and one body
    model, and answers with an ASGI application."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self._function = function
        self._caller = self._here = self._body = ""
        self._takes_tickets = False
        self._body_model: type[BaseModel] | None = None
        self._body_optional = False
        self._ids: list[str] = []
        self._query: dict[str, _Parameter] = {}
        self._headers: list[tuple[bytes, _Parameter]] = []
        hints = get_type_hints(function, include_extras=True)
        for parameter in inspect.signature(function).parameters.values():
            self._declare(parameter, hints[parameter.name])

    def _declare(self, parameter: inspect.Parameter, hint: Any) -> None:
        name = parameter.name
        mark = next(_marks(hint), None)
        match mark:
            case params.Depends() if mark.dependency is caller:
                self._caller = name
            case params.Depends() if mark.dependency is here:
                self._here = name
            case params.Path():
                self._ids.append(name)
            case params.Query() if name == "ticket":
                self._takes_tickets = True
            case params.Query():
                place = mark.alias or name
                self._query[place] = _Parameter(name, place, TypeAdapter(hint), _number(hint))
            case params.Header():
                place = mark.alias or name.replace("_", "-")
                read = _Parameter(name, place, TypeAdapter(hint))
                self._headers.append((place.lower().encode(), read))
            case _:
                self._body, self._body_model = name, _model(hint)
                self._body_optional = parameter.default is not inspect.Parameter.empty

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = exchange(scope)
        try:
            reply = await self._function(**await self._arguments(scope, receive, asked))
        except SessileError as error:
            reply = problem(error, request_id=asked.request_id)
        await reply(scope, receive, send)

    async def _arguments(self, scope: Scope, receive: Receive, asked: Exchange) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        asked.takes_tickets = self._takes_tickets
        if self._caller:
            arguments[self._caller] = await asked.principal()
        if self._here:
            arguments[self._here] = asked
        if asked.ticket and not self._takes_tickets:
            raise InvalidFields([("ticket", "There is no such parameter")])
        path: dict[str, str] = scope["path_params"]
        for name in self._ids:
            if name not in NOBODYS:  # a name that somebody else gave
                arguments[name] = path[name]
                continue
            prefix, nobodys = NOBODYS[name]
            arguments[name] = path[name] if well_formed(path[name], prefix=prefix) else nobodys
        asked.session_id = arguments.get("session_id")
        if scope["query_string"]:
            self._read_query(scope["query_string"], asked.session_id, arguments)
        for header, parameter in self._headers:
            if (value := asked.headers.get(header)) is not None:
                arguments[parameter.name] = parameter.read(value.decode("latin-1"))
        if self._body_model is not None:
            await self._read_body(self._body_model, receive, asked, arguments)
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

    async def _read_body(
        self, model: type[BaseModel], receive: Receive, asked: Exchange, arguments: dict[str, Any]
    ) -> None:
        data = await read_body(receive)
        if not data and self._body_optional:
            return
        check_media_type(asked.headers)
        value = parse_json(data)
        if isinstance(value, dict) and asked.session_id is not None and "session_id" in value:
            _same(asked.session_id, cast(dict[str, Any], value).pop("session_id"))
        try:
            arguments[self._body] = model.model_validate(value)
        except ValidationError as error:
            raise InvalidFields.of(error) from None


def _same(session_id: SessionId, other: Any) -> None:
    if other != session_id:
        raise SessionMismatch()


def _number(hint: Any) -> re.Pattern[str] | None:
    kind = get_args(hint)[0]
    return next((NUMBERS[each] for each in (kind, *get_args(kind)) if each in NUMBERS), None)


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
