"""Turns over HTTP: submit, wait, list, edit, cancel."""

from typing import Annotated, Any

from fastapi import FastAPI, Query

from sessile.http import schemas
from sessile.http.exchange import Caller, SessionPath, TurnPath
from sessile.http.reply import Reply, json_reply
from sessile.http.served import BODY_PROBLEMS, SESSION_PROBLEMS, Replies, Served, declare
from sessile.http.sessions import SEQ_MAX, IdempotencyKey, ItemsMax, page_limit
from sessile.http.wire import page_wire, turn_wire
from sessile.runtime.answers import Submitted

Wait = Annotated[
    float,
    Query(
        ge=0,
        allow_inf_nan=False,
        description="Seconds to wait for the turn's end, at most 60 by default. 200: it ended. "
        "202: it goes on, whether you wait or not.",
    ),
]


class TurnRoutes:
    def __init__(self, served: Served) -> None:
        self._served = served

    def declare(self, app: FastAPI) -> None:
        one, page = schemas.Turn, schemas.TurnPage
        submitted = schemas.SubmittedTurn
        at = "/v1/sessions/{session_id}/turns"
        found = SESSION_PROBLEMS
        changed = (*found, *BODY_PROBLEMS, 409)
        ended: Replies = {200: {"model": submitted, "description": "It ended while you waited."}}
        accepted = {"problems": (*changed, 429), "replies": ended, "said": "Durably accepted."}
        stopped: Replies = {200: {"model": one, "description": "It has ended."}}

        def add(
            method: str, path: str, endpoint: Any, status: int, model: Any, **more: Any
        ) -> None:
            declare(app, method, path, endpoint, tag="turns", status=status, model=model, **more)

        add("POST", at, self.submit_turn, 202, submitted, **accepted)
        add("POST", "/v1/turns", self.open_turn, 202, submitted, **accepted)
        add("GET", at, self.list_turns, 200, page, problems=found)
        add("GET", f"{at}/{{turn_id}}", self.get_turn, 200, one, problems=found)
        add("PATCH", f"{at}/{{turn_id}}", self.edit_turn, 200, one, problems=changed)
        cancel = f"{at}/{{turn_id}}/cancel"
        add("POST", cancel, self.cancel_turn, 202, one, problems=changed, replies=stopped)

    async def submit_turn(
        self,
        caller: Caller,
        session_id: SessionPath,
        body: schemas.TurnSubmit,
        wait: Wait = 0,
        idempotency_key: IdempotencyKey = None,
    ) -> Reply:
        """Say something to a session. It is durable when you have the reply."""
        submitted = await self._served.sessions.submit(
            caller,
            session_id,
            body.input.given(),
            when_busy=body.when_busy,
            idempotency_key=idempotency_key,
            wait_seconds=wait,
        )
        return _accepted(submitted, wait)

    async def open_turn(
        self,
        caller: Caller,
        body: schemas.TurnOpen,
        wait: Wait = 0,
        idempotency_key: IdempotencyKey = None,
    ) -> Reply:
        """Open a session and say something to it; the reply names the session."""
        submitted = await self._served.sessions.open_with(
            caller,
            body.input.given(),
            assistant=body.assistant,
            title=body.title,
            metadata=body.metadata,
            when_busy=body.when_busy,
            idempotency_key=idempotency_key,
            wait_seconds=wait,
        )
        return _accepted(submitted, wait)

    async def list_turns(
        self,
        caller: Caller,
        session_id: SessionPath,
        after: Annotated[
            int, Query(ge=0, le=SEQ_MAX, description="A position; the last page's `next`.")
        ] = 0,
        queued: Annotated[bool, Query(description="Only those that wait.")] = False,  # noqa: FBT002
        limit: ItemsMax = None,
    ) -> Reply:
        """The session's turns in the order accepted."""
        limit = page_limit(limit, self._served.settings.page_items_max)
        page = await self._served.reads.turns(
            caller, session_id, after=after, queued=queued, limit=limit
        )
        last = page.items[-1].position if page.more else None
        return json_reply(200, page_wire(map(turn_wire, page.items), after=last))

    async def get_turn(
        self, caller: Caller, session_id: SessionPath, turn_id: TurnPath, wait: Wait = 0
    ) -> Reply:
        """One turn as it stands, or as it has ended within `wait` seconds."""
        if wait > 0:
            turn = await self._served.sessions.wait(caller, session_id, turn_id, seconds=wait)
        else:
            turn = await self._served.reads.turn(caller, session_id, turn_id)
        return json_reply(200, turn_wire(turn))

    async def edit_turn(
        self, caller: Caller, session_id: SessionPath, turn_id: TurnPath, body: schemas.TurnEdit
    ) -> Reply:
        """Replace the input of a turn that waits in the queue."""
        given = body.input.given()
        turn = await self._served.sessions.edit(caller, session_id, turn_id, given)
        return json_reply(200, turn_wire(turn))

    async def cancel_turn(
        self,
        caller: Caller,
        session_id: SessionPath,
        turn_id: TurnPath,
        body: schemas.Nothing | None = None,
    ) -> Reply:
        """Withdraw a queued turn (200), or ask a running one to stop (202)."""
        turn = await self._served.sessions.cancel(caller, session_id, turn_id)
        return json_reply(200 if turn.ended else 202, turn_wire(turn))


def _accepted(submitted: Submitted, wait: float) -> Reply:
    turn = submitted.turn
    record = turn_wire(turn)
    record["seq"] = submitted.seq
    status = 200 if wait > 0 and turn.ended else 202
    location = f"/v1/sessions/{turn.session_id}/turns/{turn.turn_id}".encode()
    return json_reply(status, record, [(b"location", location)])
