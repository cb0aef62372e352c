"""Redaction, erasure of a user, and the audit records, over HTTP."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Query

from sessile.core.codec import timestamp
from sessile.core.context import Principal
from sessile.core.errors import InvalidInput
from sessile.core.ids import AuditId, UserId, well_formed
from sessile.http import schemas
from sessile.http.exchange import Caller, Here, MessagePath, SessionPath, UserPath
from sessile.http.reply import Reply, json_reply
from sessile.http.served import BODY_PROBLEMS, SESSION_PROBLEMS, Served, declare
from sessile.http.sessions import ItemsMax, page_limit
from sessile.http.wire import page_wire
from sessile.ports.store import Erasure


class KeepingRoutes:
    def __init__(self, served: Served) -> None:
        self._served = served

    def declare(self, app: FastAPI) -> None:
        def add(
            method: str, path: str, endpoint: Any, status: int, model: Any, *problems: int
        ) -> None:
            declare(
                app,
                method,
                path,
                endpoint,
                tag="keeping",
                status=status,
                model=model,
                problems=problems,
            )

        redact = "/v1/sessions/{session_id}/messages/{message_id}/redact"
        problems = (*SESSION_PROBLEMS, *BODY_PROBLEMS, 409)
        add("POST", redact, self.redact_message, 200, schemas.Redaction, *problems)
        asked, refusals = schemas.Erasure, (401, 403, 404, 422, 503)
        add("DELETE", "/v1/users/{user_id}", self.erase_user, 202, asked, *refusals)
        at = "/v1/users/{user_id}/erasure"
        add("GET", at, self.get_erasure, 200, asked, *refusals)
        add("GET", "/v1/audit", self.list_audit, 200, schemas.AuditPage, 401, 403, 422, 503)

    async def redact_message(
        self,
        caller: Caller,
        here: Here,
        session_id: SessionPath,
        message_id: MessagePath,
        body: schemas.Redact | None = None,
    ) -> Reply:
        """Void what a message says, wherever it is: here, in forks, and in what this is a fork of.
        Its place in the log stays."""
        done = await self._served.keeping.redact(
            caller,
            session_id,
            message_id,
            reason="" if body is None else body.reason,
            request_id=here.request_id,
        )
        sessions = [
            {"session_id": it.session_id, "seq": it.entries[-1].seq} for it in done if it.entries
        ]
        return json_reply(200, {"message_id": message_id, "sessions": sessions})

    async def erase_user(self, caller: Caller, here: Here, user_id: UserPath) -> Reply:
        """Have everything of a user removed: its sessions, forks of these, keys and credentials.
        For admins, and of oneself. It goes on until it is done, over restarts."""
        erasure = await self._served.keeping.erase_user(
            caller, _named(caller, user_id), request_id=here.request_id
        )
        location = f"/v1/users/{quote(user_id, safe='')}/erasure".encode()
        return json_reply(202, _erasure_wire(erasure), [(b"location", location)])

    async def get_erasure(self, caller: Caller, user_id: UserPath) -> Reply:
        """How far it is."""
        erasure = await self._served.keeping.erasure(caller, _named(caller, user_id))
        return json_reply(200, _erasure_wire(erasure))

    async def list_audit(
        self,
        caller: Caller,
        before: Annotated[AuditId | None, Query(description="The last page's `next`.")] = None,
        limit: ItemsMax = None,
    ) -> Reply:
        """What was done in your tenant that outlives its sessions, the newest first; for admins."""
        limit = page_limit(limit, self._served.settings.page_items_max)
        if before is not None and not well_formed(before, prefix="aud"):
            raise InvalidInput("before is no audit id", field="before")
        records = await self._served.keeping.audit(caller, before=before, limit=limit)
        items = (
            {
                "audit_id": it.audit_id,
                "at": timestamp(it.at_ms),
                "actor": it.actor,
                "action": it.action,
                "subject": it.subject,
                "request_id": it.request_id,
                "details": it.details,
            }
            for it in records
        )
        last = records[-1].audit_id if len(records) == limit else None
        return json_reply(200, page_wire(items, after=last))


def _named(caller: Caller, user_id: UserId) -> UserId:
    """Raises InvalidInput for what is no name of a user."""
    if user_id == "me":
        return caller.user_id
    return Principal(tenant_id=caller.tenant_id, user_id=user_id).user_id


def _erasure_wire(erasure: Erasure) -> dict[str, Any]:
    done_at_ms = erasure.done_at_ms
    return {
        "user_id": erasure.user_id,
        "status": "running" if done_at_ms is None else "done",
        "sessions": erasure.sessions,
        "asked_at": timestamp(erasure.asked_at_ms),
        "done_at": None if done_at_ms is None else timestamp(done_at_ms),
    }
