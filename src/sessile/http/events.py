"""A session's log over HTTP: a stream of events, or pages of JSON."""

import re
from typing import Annotated, Any

from fastapi import FastAPI, Header, Query

from sessile.core.codec import entry_json
from sessile.core.context import Principal
from sessile.core.ids import SessionId
from sessile.http import schemas
from sessile.http.exchange import Caller, Here, SessionPath
from sessile.http.reply import Reply
from sessile.http.served import SESSION_PROBLEMS, Served, declare
from sessile.http.sessions import SEQ_MAX, ItemsMax, page_limit
from sessile.http.stream import Stream, Streams

AHEAD_OF_ALL = SEQ_MAX
"""Where a reader is that says where it is in a way that we do not understand: it gets a reset."""
_CURSOR = re.compile(r"[0-9]{1,18}", re.ASCII)
_STREAM: dict[str, Any] = {
    "description": "A page of JSON; or a stream, in which `id` is an entry's seq, `event` its kind "
    "and `data` the entry. Two events are no entries: `reset` (`data` is a snapshot: forget what "
    "you have and go on from it) and `end` (nothing more can come; the next request gets 204).",
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
            int, Query(ge=0, le=SEQ_MAX, description="A seq: only entries behind it.")
        ] = 0,
        limit: ItemsMax = None,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
        last_event_id: Annotated[
            str,
            Header(alias="Last-Event-ID", description="The last `id` of a stream; before `after`."),
        ] = "",
    ) -> Any:
        """The log behind a cursor: a stream, or a page where only JSON is accepted.

        A stream is never refused for a passing reason, because browsers give up then: it is ended
        with a `retry`. A cursor ahead of the log gets a `reset`; a page of JSON, `cursor_ahead`.
        """
        if "application/json" in accept and "text/event-stream" not in accept:
            return await self._page(caller, session_id, after, limit)
        if last_event_id:
            known = _CURSOR.fullmatch(last_event_id)
            after = int(last_event_id) if known else AHEAD_OF_ALL
        return Stream(self._streams, caller, session_id, after, asked)

    async def _page(
        self, caller: Principal, session_id: SessionId, after: int, limit: int | None
    ) -> Reply:
        limit = page_limit(limit, self._served.settings.page_entries_max)
        page = await self._served.reads.entries(caller, session_id, after=after, limit=limit)
        last = str(page.items[-1].seq) if page.more else "null"
        items = ",".join(map(entry_json, page.items))
        return Reply(200, f'{{"items":[{items}],"next":{last}}}'.encode())
