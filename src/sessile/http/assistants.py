"""The server's assistants over HTTP."""

from fastapi import FastAPI

from sessile.http import schemas
from sessile.http.exchange import Caller
from sessile.http.reply import Reply, json_reply
from sessile.http.served import Served, declare
from sessile.http.wire import page_wire


class AssistantRoutes:
    def __init__(self, served: Served) -> None:
        self._served = served

    def declare(self, app: FastAPI) -> None:
        declare(
            app,
            "GET",
            "/v1/assistants",
            self.list_assistants,
            tag="assistants",
            status=200,
            model=schemas.AssistantPage,
            problems=(401,),
        )

    async def list_assistants(self, caller: Caller) -> Reply:
        """All whom a session can be opened with, in the server's order."""
        items = (
            {"name": each.name, "description": each.description, "is_default": index == 0}
            for index, each in enumerate(self._served.assistants)
        )
        return json_reply(200, page_wire(items, after=None))
