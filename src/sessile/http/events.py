"""A session's log over HTTP: a stream of events, or pages of JSON."""

from typing import Annotated, Any

from fastapi import FastAPI, Header, Query

from sessile.core.codec import entry_json
from sessile.core.context import Principal
from sessile.core.errors import Unauthenticated
from sessile.core.ids import SessionId
from sessile.http import schemas
from sessile.http.cursors import FORM, cursor, seq_of
from sessile.http.exchange import Caller, Here, SessionPath
from sessile.http.reply import Reply
from sessile.http.served import SESSION_PROBLEMS, Served, declare
from sessile.http.sessions import ItemsMax, page_limit
from sessile.http.stream import Stream, Streams

_STREAM: dict[str, Any] = {
    "description": "A page of JSON; or a stream, in which `id` is the cursor behind an entry, "
    "`event` its kind and `data` the entry. Two events are no entries: `reset` (`data` is a "
    "snapshot: forget what you have and go on from it) and `end` (nothing more can come; the next "
    "request gets 204).",
    "content": {
        "text/event-stream": {
            "schema": {"type": "string"},
            "example": 'retry: 1000\n\nid: 7\nevent: turn.completed\ndata: {"seq":7,…}\n\n',
        }
    },
}


class EventRoutes:
    def __init__(self, served: Served, streams: Streams) -> None:
        self._served = served
        self._streams = streams

    def declare(self, app: FastAPI) -> None:
        declare(
            app,
            "GET",
            "/v1/sessions/{session_id}/events",
            self.read_events,
            tag="events",
            status=200,
            model=schemas.EntryPage,
            problems=SESSION_PROBLEMS,
            replies={200: _STREAM, 204: {"description": "Nothing more can come."}},
        )

    async def read_events(
        self,
        asked: Here,
        caller: Caller,
        session_id: SessionPath,
        after: Annotated[
            str,
            Query(
                pattern=FORM,
                description="Only entries behind it: `next` of a page, the `id` of a stream, or "
                "the seq of an entry that is there now.",
            ),
        ] = "0",
        limit: ItemsMax = None,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
        last_event_id: Annotated[
            str,
            Header(alias="Last-Event-ID", description="The last `id` of a stream; before `after`."),
        ] = "",
        ticket: Annotated[
            str, Query(description="In place of a token: of `POST /v1/tickets`, for this session.")
        ] = "",
    ) -> Any:
        """The log behind a cursor: a stream, or a page where only JSON is accepted.

        A stream is never refused for a passing reason, because browsers give up then: it is ended
        with a `retry`. A cursor ahead of the log, or of another epoch of the database, gets a
        `reset`; a page of JSON, `cursor_ahead`.
        """
        epoch = self._served.epoch
        behind = seq_of(after, epoch=epoch, plain=epoch)
        if "application/json" in accept and "text/event-stream" not in accept:
            if asked.ticket:
                raise Unauthenticated()  # a ticket opens streams, and nothing else
            return await self._page(caller, session_id, behind, limit)
        if last_event_id:
            behind = seq_of(last_event_id, epoch=epoch, plain=0)
        return Stream(self._streams, caller, session_id, behind, asked)

    async def _page(
        self, caller: Principal, session_id: SessionId, after: int, limit: int | None
    ) -> Reply:
        limit = page_limit(limit, self._served.settings.page_entries_max)
        page = await self._served.reads.entries(caller, session_id, after=after, limit=limit)
        last = "null"
        if page.more:
            last = f'"{cursor(page.items[-1].seq, epoch=self._served.epoch)}"'
        items = ",".join(map(entry_json, page.items))
        return Reply(200, f'{{"items":[{items}],"next":{last}}}'.encode())
