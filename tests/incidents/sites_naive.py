"""A message bot as it must not be: when a button's handler fails, what falls back on opens a
session of its own, which knows nothing of what the first one has shown."""

import itertools
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sessile.demo.sites import MENU, SITES, VIEW, Office, Project

Wire = dict[str, Any]


@dataclass
class Kept:
    """A session: its id, and what its tools have returned."""

    session_id: str
    outputs: dict[str, list[Project]] = field(default_factory=dict[str, list[Project]])


class Bot:
    def __init__(self, office: Office) -> None:
        self._office = office
        self._active: dict[str, Kept] = {}
        self._numbers = itertools.count(1)

    def session(self, sender: str) -> Kept:
        return self._active.get(sender) or self._opened(sender)

    def _opened(self, sender: str) -> Kept:
        kept = self._active[sender] = Kept(f"ses_{next(self._numbers)}")
        return kept

    async def message(self, request: Request) -> JSONResponse:
        given = await request.json()
        session = self.session(given["from"])
        return JSONResponse(self._menu(session))

    async def button(self, request: Request) -> JSONResponse:
        given = await request.json()
        session = self.session(given["from"])
        try:
            return JSONResponse(await self._pressed(session, given))
        except Exception:  # noqa: BLE001  what it falls back on is the fault
            return JSONResponse(await self._fallen_back(given))

    async def _pressed(self, session: Kept, given: Wire) -> Wire:
        if given["button"] == "view_sites":
            sites = session.outputs["list_projects"] = await self._office.projects()
            buttons = [
                {"button": "pick_site", "label": each.name, "payload": {"project": each.id}}
                for each in sites
            ]
            return _said(session, SITES["en"], buttons)
        picked = next(
            each
            for each in session.outputs["list_projects"]
            if each.id == given["payload"]["project"]
        )
        tasks = await self._office.tasks(picked.id)
        return _said(session, "\n".join((picked.name, *tasks)), [])

    async def _fallen_back(self, given: Wire) -> Wire:
        session = self._opened(given["from"])  # the fault
        if "list_projects" not in session.outputs:
            return self._menu(session)
        return await self._pressed(session, given)

    def _menu(self, session: Kept) -> Wire:
        offer = {"button": "view_sites", "label": VIEW["en"], "payload": {}}
        return _said(session, MENU["en"], [offer])


def _said(session: Kept, text: str, buttons: list[Wire]) -> Wire:
    return {"sessionId": session.session_id, "text": text, "buttons": buttons}


def naive(office: Office) -> Starlette:
    bot = Bot(office)
    return Starlette(
        routes=[
            Route("/api/message", bot.message, methods=["POST"]),
            Route("/api/button", bot.button, methods=["POST"]),
        ]
    )
