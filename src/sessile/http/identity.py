"""Who you are, and what lets you in, over HTTP: tokens, tickets, API keys."""

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query

from sessile.core.codec import timestamp
from sessile.core.context import Principal
from sessile.core.errors import InvalidInput
from sessile.core.ids import SessionId, TenantId, UserId, well_formed
from sessile.http import identity_schemas as schemas
from sessile.http.exchange import Caller, Exchange, Here
from sessile.http.reply import Reply, json_reply
from sessile.http.served import BODY_PROBLEMS, Served, declare
from sessile.http.sessions import ItemsMax, page_limit
from sessile.http.wire import page_wire
from sessile.ports.credentials import Credential
from sessile.runtime.identity import Identity
from sessile.runtime.sign_in import SignIn

KeyPath = Annotated[str, Path(description="The key's id.")]


class MeRoutes:
    """Whoever says who is who."""

    def declare(self, app: FastAPI) -> None:
        declare(
            app, "GET", "/v1/me", self.get_me, tag="identity", status=200, model=schemas.Me,
            problems=(401, 403, 422, 503),
        )  # fmt: skip

    async def get_me(self, caller: Caller, asked: Here) -> Reply:
        """Who you are here, and by what."""
        signed_in = await asked.asking.signed_in()
        scopes = None if caller.scopes is None else sorted(caller.scopes)
        return json_reply(
            200,
            {
                "tenant_id": caller.tenant_id,
                "user_id": caller.user_id,
                "roles": sorted(caller.roles),
                "scopes": scopes,
                "signed_in_by": signed_in.by,
                "expires_at": _timestamp(signed_in.until_ms),
            },
        )


class IdentityRoutes:
    """Where this server says so itself."""

    def __init__(self, served: Served, identity: Identity) -> None:
        self._served = served
        self._identity = identity

    @property
    def _sign_in(self) -> SignIn:
        return self._served.sign_in  # there once the server is open, which it need not be yet

    def declare(self, app: FastAPI) -> None:
        given = (401, *BODY_PROBLEMS, 503)

        def add(
            method: str, path: str, endpoint: Any, status: int, model: Any, problems: Any
        ) -> None:
            declare(
                app, method, path, endpoint, tag="identity", status=status, model=model,
                problems=problems,
            )  # fmt: skip

        add("POST", "/v1/tokens", self.create_token, 201, schemas.Token, (*given, 429))
        add("DELETE", "/v1/tokens/current", self.end_token, 204, None, (401, 404, 503))
        add("POST", "/v1/tickets", self.create_ticket, 201, schemas.Ticket, (*given, 404))
        add("POST", "/v1/keys", self.create_key, 201, schemas.NewKey, (*given, 403))
        add("GET", "/v1/keys", self.list_keys, 200, schemas.KeyPage, (401, 403, 422, 503))
        at = "/v1/keys/{key_id}"
        add("DELETE", at, self.delete_key, 204, None, (401, 403, 404, 503))

    async def create_token(self, asked: Here, body: schemas.TokenRequest) -> Reply:
        """Sign in with a user and a password. One answer, and as soon, for whatever is wrong."""
        secret, token = await self._sign_in.sign_in(
            None if body.tenant is None else TenantId(body.tenant),
            UserId(body.user),
            body.password,
            address=asked.address,
        )
        return json_reply(
            201,
            {
                "token": secret.text,
                "tenant_id": token.tenant_id,
                "user_id": token.user_id,
                "roles": sorted(token.roles),
                "expires_at": _timestamp(token.expires_at_ms),
            },
        )

    async def end_token(self, caller: Caller, asked: Here) -> Reply:
        """Sign out: the token that you show is no more, and what it opened ends."""
        await self._sign_in.sign_out(await asked.asking.signed_in())
        return Reply(204)

    async def create_ticket(
        self, caller: Caller, asked: Here, body: schemas.TicketRequest
    ) -> Reply:
        """What opens the stream of one session, for where no header can be sent: `?ticket=`. It is
        good for a minute; what it has opened lasts as long as what you showed to get it."""
        session_id = SessionId(body.session_id)
        await self._served.reads.found(caller, session_id)
        asking = asked.asking
        text, until_ms = self._identity.ticket(
            await asking.signed_in(),
            session_id,
            acting_for=asking.acting_for,
            seconds=self._served.settings.ticket_seconds_max,
        )
        return json_reply(
            201, {"ticket": text, "session_id": session_id, "expires_at": timestamp(until_ms)}
        )

    async def create_key(self, caller: Caller, body: schemas.KeyRequest, asked: Here) -> Reply:
        """Make an API key of your tenant, as its admin."""
        secret, key = await self._sign_in.add_key(
            caller,
            name=body.name,
            scopes=body.scopes,
            user_id=None if body.user is None else UserId(body.user),
            roles=body.roles,
            seconds=body.expires_seconds,
        )
        await self._note(caller, "key.created", key.credential_id, asked)
        location = f"/v1/keys/{key.credential_id}".encode()
        return json_reply(201, {**_key_wire(key), "key": secret.text}, [(b"location", location)])

    async def list_keys(
        self,
        caller: Caller,
        after: Annotated[str, Query(description="The last page's `next`.")] = "",
        limit: ItemsMax = None,
    ) -> Reply:
        """The API keys of your tenant, as its admin."""
        limit = page_limit(limit, self._served.settings.page_items_max)
        if after and not well_formed(after, prefix="key"):
            raise InvalidInput("after is no key id", field="after")
        keys = await self._sign_in.keys(caller, after=after, limit=limit)
        last = keys[-1].credential_id if len(keys) == limit else None
        return json_reply(200, page_wire(map(_key_wire, keys), after=last))

    async def delete_key(self, caller: Caller, key_id: KeyPath, asked: Here) -> Reply:
        """Revoke an API key of your tenant, as its admin: what it opened ends within seconds."""
        await self._sign_in.remove_key(caller, key_id)
        await self._note(caller, "key.revoked", key_id, asked)
        return Reply(204)

    async def _note(self, caller: Principal, action: str, key_id: str, asked: Exchange) -> None:
        await self._served.keeping.note(caller, action, key_id, request_id=asked.request_id)


def _key_wire(key: Credential) -> dict[str, Any]:
    return {
        "key_id": key.credential_id,
        "name": key.name,
        "user_id": key.user_id,
        "roles": sorted(key.roles),
        "scopes": sorted(key.scopes or ()),
        "created_by": key.created_by,
        "created_at": timestamp(key.created_at_ms),
        "expires_at": _timestamp(key.expires_at_ms),
        "used_at": _timestamp(key.used_at_ms),
    }


def _timestamp(at_ms: int | None) -> str | None:
    return None if at_ms is None else timestamp(at_ms)
