"""Grants and approvals over HTTP."""

from typing import Annotated

from fastapi import FastAPI, Path

from sessile.core.ids import CallId, SessionId
from sessile.http import schemas
from sessile.http.exchange import Caller, Here, SessionPath
from sessile.http.reply import Reply, json_reply
from sessile.http.served import BODY_PROBLEMS, SESSION_PROBLEMS, Served, declare
from sessile.http.wire import session_wire, turn_wire

CallPath = Annotated[CallId, Path(description="The call's id.")]


class GateRoutes:
    def __init__(self, served: Served) -> None:
        self._served = served

    def declare(self, app: FastAPI) -> None:
        at = "/v1/sessions/{session_id}"
        problems = (*SESSION_PROBLEMS, *BODY_PROBLEMS, 409)
        session, turn = schemas.Session, schemas.Turn
        calls = f"{at}/calls/{{call_id}}"
        declare(
            app,
            "PUT",
            f"{at}/grants",
            self.set_grants,
            tag="gates",
            status=200,
            model=session,
            problems=(*problems, 403),
        )
        for verb, endpoint in (("approve", self.approve_call), ("deny", self.deny_call)):
            declare(
                app,
                "POST",
                f"{calls}/{verb}",
                endpoint,
                tag="gates",
                status=200,
                model=turn,
                problems=problems,
            )

    async def set_grants(
        self, caller: Caller, here: Here, session_id: SessionPath, body: schemas.Grants
    ) -> Reply:
        """Say what the session is granted: by an operator or admin, or by its owner where its
        assistant lets owners."""
        found = await self._served.gates.grant(
            caller, session_id, body.grants, request_id=here.request_id
        )
        return json_reply(200, session_wire(found))

    async def approve_call(
        self,
        caller: Caller,
        here: Here,
        session_id: SessionPath,
        call_id: CallPath,
        body: schemas.Nothing | None = None,
    ) -> Reply:
        """Let a call that waits be made. Its turn goes on when no call waits any more."""
        return await self._answer(caller, here, session_id, call_id, granted=True)

    async def deny_call(
        self,
        caller: Caller,
        here: Here,
        session_id: SessionPath,
        call_id: CallPath,
        body: schemas.Denial | None = None,
    ) -> Reply:
        """Have a call that waits refused."""
        reason = "" if body is None else body.reason
        return await self._answer(caller, here, session_id, call_id, granted=False, reason=reason)

    async def _answer(
        self,
        caller: Caller,
        here: Here,
        session_id: SessionId,
        call_id: CallId,
        *,
        granted: bool,
        reason: str = "",
    ) -> Reply:
        turn = await self._served.gates.answer(
            caller,
            session_id,
            call_id,
            granted=granted,
            reason=reason,
            request_id=here.request_id,
        )
        return json_reply(200, turn_wire(turn))
