"""Sessions over HTTP: open, list, look at, rename, fork, export, close, delete."""

from typing import Annotated, Any

from fastapi import FastAPI, Header, Query

from sessile.core.errors import InvalidInput
from sessile.core.ids import SessionId, TurnId, well_formed
from sessile.http import schemas
from sessile.http.endpoint import NOBODYS
from sessile.http.exchange import Access, Caller, Here, SessionPath
from sessile.http.export import Export, JsonLines
from sessile.http.reply import Reply, json_reply
from sessile.http.served import BODY_PROBLEMS, SESSION_PROBLEMS, Replies, Served, declare
from sessile.http.wire import message_wire, page_wire, session_wire

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x20-\x7e]+$",
        description="The same key gives the same answer again; with another body it is refused.",
    ),
]
ItemsMax = Annotated[
    int | None,
    Query(ge=1, description="Not given: 50. The server's settings say how many at most."),
]
SEQ_MAX = 2**62
ITEMS_DEFAULT = 50


class SessionRoutes:
    def __init__(self, served: Served) -> None:
        self._served = served

    def declare(self, app: FastAPI) -> None:
        one, page = schemas.Session, schemas.SessionPage
        at = "/v1/sessions/{session_id}"
        found = SESSION_PROBLEMS
        changed = (*found, *BODY_PROBLEMS)
        there: Replies = {
            200: {"model": one, "description": "The exclusive session that there was."}
        }
        opened = {"problems": (401, 409, 503, *BODY_PROBLEMS), "replies": there}

        def add(
            method: str, path: str, endpoint: Any, status: int, model: Any, **more: Any
        ) -> None:
            declare(app, method, path, endpoint, tag="sessions", status=status, model=model, **more)

        add("POST", "/v1/sessions", self.open_session, 201, one, **opened)
        add("GET", "/v1/sessions", self.list_sessions, 200, page, problems=(401, 422, 503))
        add("GET", at, self.get_session, 200, one, problems=found)
        add("PATCH", at, self.update_session, 200, one, problems=(*changed, 409))
        add("DELETE", at, self.delete_session, 204, None, problems=found)
        add("POST", f"{at}/close", self.close_session, 200, one, problems=changed)
        add("POST", f"{at}/fork", self.fork_session, 201, one, problems=(*changed, 409))
        add("GET", f"{at}/export", self.export_session, 200, None, problems=found, media=JsonLines)
        messages, tools = schemas.MessagePage, schemas.ToolPage
        add("GET", f"{at}/messages", self.list_messages, 200, messages, problems=found)
        add("GET", f"{at}/tools", self.list_tools, 200, tools, problems=found)
        add("GET", f"{at}/context", self.get_context, 200, schemas.Context, problems=found)

    async def open_session(
        self, caller: Caller, body: schemas.SessionOpen, idempotency_key: IdempotencyKey = None
    ) -> Reply:
        """Open a session: 201; of an exclusive assistant, the active one there is: 200."""
        opened = await self._served.sessions.open(
            caller,
            assistant=body.assistant,
            title=body.title,
            metadata=body.metadata,
            idempotency_key=idempotency_key,
        )
        location = f"/v1/sessions/{opened.found.head.key.session_id}".encode()
        status = 201 if opened.created else 200
        return json_reply(status, session_wire(opened.found), [(b"location", location)])

    async def list_sessions(
        self,
        caller: Caller,
        before: Annotated[SessionId | None, Query(description="The last page's `next`.")] = None,
        limit: ItemsMax = None,
    ) -> Reply:
        """Your sessions, the youngest first; an admin's are all of its tenant."""
        limit = page_limit(limit, self._served.settings.page_items_max)
        if before is not None and not well_formed(before, prefix="ses"):
            raise InvalidInput("before is no session id", field="before")
        found = await self._served.reads.sessions(caller, before=before, limit=limit)
        last = found[-1].head.key.session_id if len(found) == limit else None
        return json_reply(200, page_wire(map(session_wire, found), after=last))

    async def get_session(self, caller: Caller, session_id: SessionPath) -> Reply:
        """One session as it stands."""
        return json_reply(200, session_wire(await self._served.reads.found(caller, session_id)))

    async def update_session(
        self, caller: Caller, session_id: SessionPath, body: schemas.SessionUpdate
    ) -> Reply:
        """Rename it, or change its metadata: names are merged, and null removes one."""
        found = await self._served.sessions.update(
            caller,
            session_id,
            title=body.title,
            retitle="title" in body.model_fields_set,
            metadata=body.metadata,
        )
        return json_reply(200, session_wire(found))

    async def delete_session(self, caller: Caller, here: Here, session_id: SessionPath) -> Reply:
        """Delete every row of it, for good; its readers end."""
        await self._served.keeping.delete(caller, session_id, request_id=here.request_id)
        return Reply(204)

    async def close_session(
        self, caller: Caller, session_id: SessionPath, body: schemas.Nothing | None = None
    ) -> Reply:
        """Close it for good: what is queued is cancelled, what runs is stopped."""
        return json_reply(200, session_wire(await self._served.sessions.close(caller, session_id)))

    async def fork_session(
        self, caller: Caller, session_id: SessionPath, body: schemas.ForkRequest
    ) -> Reply:
        """Open a session that remembers this one up to the end of a turn."""
        known = well_formed(body.turn_id, prefix="trn")
        turn_id = TurnId(body.turn_id if known else NOBODYS["turn_id"][1])
        opened = await self._served.sessions.fork(caller, session_id, turn_id, title=body.title)
        location = f"/v1/sessions/{opened.found.head.key.session_id}".encode()
        return json_reply(201, session_wire(opened.found), [(b"location", location)])

    async def export_session(self, caller: Caller, here: Here, session_id: SessionPath) -> Export:
        """The whole log as JSON Lines: one entry a line, the first one first."""
        entries = await self._served.keeping.export(caller, session_id, request_id=here.request_id)
        settings = self._served.settings
        access = Access(here, caller, seconds=settings.access_check_seconds)
        most = settings.slow_reader_seconds_max
        return Export(session_id, entries, access, send_seconds_max=most)

    async def list_messages(
        self,
        caller: Caller,
        session_id: SessionPath,
        before: Annotated[
            int | None,
            Query(ge=1, le=SEQ_MAX, description="A seq; `next` of the page after this one."),
        ] = None,
        limit: ItemsMax = None,
    ) -> Reply:
        """The newest messages before `before`, oldest first; `next` leads to older ones."""
        limit = page_limit(limit, self._served.settings.page_items_max)
        page = await self._served.reads.messages(caller, session_id, before=before, limit=limit)
        older = page.items[0].seq if page.more else None
        return json_reply(200, page_wire(map(message_wire, page.items), after=older))

    async def list_tools(self, caller: Caller, session_id: SessionPath) -> Reply:
        """For each tool of the assistant: whether the session may use it, and why not."""
        verdicts = await self._served.reads.tools(caller, session_id)
        items = (
            {"tool": v.tool, "status": v.status, "reason": v.reason, "grant": v.grant}
            for v in verdicts
        )
        return json_reply(200, page_wire(items, after=None))

    async def get_context(self, caller: Caller, session_id: SessionPath) -> Reply:
        """What the assistant would be given now, in figures."""
        report = await self._served.reads.context(caller, session_id)
        return json_reply(
            200,
            {
                "assistant": report.assistant,
                "messages": report.messages,
                "characters": report.characters,
                "tokens_estimated": report.tokens_estimated,
                "history_entries_max": report.history_entries_max,
                "last_summary_seq": report.last_summary_seq,
            },
        )


def page_limit(asked: int | None, most: int) -> int:
    """Raises InvalidInput for more than a page may have."""
    if asked is None:
        return min(ITEMS_DEFAULT, most)
    if asked > most:
        raise InvalidInput(f"limit is at most {most}", field="limit")
    return asked
