"""Whose token it is: asked of whoever makes tokens of its form, and remembered for a moment."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hashlib import sha256
from hmac import compare_digest

from sessile.core.context import Principal
from sessile.core.errors import SessileError, Unauthenticated
from sessile.core.ids import SessionId, TenantId, UserId
from sessile.ports.auth import Developers, Issuers, Secrets, SignedIn, Ticket
from sessile.ports.clock import Clock
from sessile.ports.credentials import Credential, Credentials, Used
from sessile.runtime import tickets

logger = logging.getLogger(__name__)

REMEMBERED_MS = 500
"""A stream asks again every 4 seconds (`access_check_seconds`), and is to end within 5 of when its
token does."""
REMEMBERED_MAX = 4_096
USED_MS = 60_000
"""How exactly it is known when a key was last used."""
USED_SECONDS = 1.0

_Place = bytes | tuple[TenantId, str]
"""The hash of a token; or the id of a key or token, by which its streams ask for it."""


class Identity:
    """An Authenticator, by the form of the token: development tokens, API keys and tokens of
    built-in users, JWTs. Nobody may ask before it is opened."""

    _credentials: Credentials
    _ticket_key: bytes

    def __init__(self, *, secrets: Secrets, clock: Clock) -> None:
        self._secrets = secrets
        self._clock = clock
        self._developers: Developers | None = None
        self._issuers: Issuers | None = None
        self._known: dict[_Place, tuple[SignedIn, int, int]] = {}
        """Who it is, and from when until when that is believed."""
        self._used: dict[tuple[TenantId, str], int] = {}
        self._marked = asyncio.Event()

    def let_in(self, developers: Developers) -> None:
        """Development tokens too."""
        self._developers = developers

    @asynccontextmanager
    async def opened(
        self, credentials: Credentials, *, ticket_key: bytes, issuers: Issuers | None
    ) -> AsyncGenerator[None, None]:
        """`ticket_key` signs tickets. Meanwhile it is written, beside the requests, when keys are
        used."""
        self._credentials, self._ticket_key, self._issuers = credentials, ticket_key, issuers
        tasks = await asyncio.TaskGroup().__aenter__()
        writing = tasks.create_task(self._write_used(), name="keys used")
        try:
            yield
        finally:
            writing.cancel()
            await tasks.__aexit__(None, None, None)  # what ends the server is told as it is

    async def principal(self, token: str) -> Principal | None:
        if self._developers is not None:
            known = await self._developers.principal(token)
            if known is not None:
                return known
        signed_in = await self._signed_in(token)
        return None if signed_in is None else signed_in.principal

    async def signed_in(self, token: str) -> SignedIn | None:
        """The same, and by what."""
        if self._developers is not None:
            known = await self._developers.principal(token)
            if known is not None:
                return SignedIn(principal=known, by="dev")
        return await self._signed_in(token)

    def forget(self) -> None:
        """Something was revoked here: what is remembered may not be so any more."""
        self._known.clear()

    # -- tickets

    def ticket(
        self,
        made_from: SignedIn,
        session_id: SessionId,
        *,
        acting_for: UserId | None,
        seconds: float,
    ) -> tuple[str, int]:
        """The text, and until when it opens the session's stream."""
        until_ms = self._clock.now_ms() + int(seconds * 1000)
        ticket = Ticket(
            session_id=session_id, until_ms=until_ms, made_from=made_from, acting_for=acting_for
        )
        return tickets.written(ticket, self._ticket_key), until_ms

    def read_ticket(self, text: str) -> Ticket:
        """Raises Unauthenticated for one that opens nothing, or nothing any more."""
        ticket = tickets.read(text, self._ticket_key, now_ms=self._clock.now_ms())
        if ticket is None:
            raise Unauthenticated()
        return ticket

    async def still(self, made_from: SignedIn) -> bool:
        """Whether what was signed in by then would be now."""
        who = made_from.principal
        now_ms = self._clock.now_ms()
        if made_from.until_ms is not None and now_ms >= made_from.until_ms:
            return False
        match made_from.by:
            case "dev":
                return self._developers is not None and self._developers.knows(who)
            case "key" | "token":
                found = await self._remembered_source(made_from)
                return found is not None and found.principal == who
            case "oidc":
                issued_ms = int(made_from.ref or 0)
                revoked = await self._credentials.revoked_ms(who.tenant_id, who.user_id)
                return self._issuers is not None and issued_ms > revoked
            case _:
                return False

    # -- tokens

    async def _signed_in(self, token: str) -> SignedIn | None:
        digest = sha256(token.encode(errors="surrogatepass")).digest()
        if (known := self._recalled(digest)) is not None:
            return known
        read = self._secrets.read(token)
        if read is not None:
            tenant_id, secret = read
            found = await self._credentials.find(tenant_id, secret.credential_id)
            if found is None or not compare_digest(found.secret_hash, secret.secret_hash):
                return None
            signed_in = self._bearer_of(found)
        elif self._issuers is not None and token.count(".") == 2:
            signed_in = await self._issuers.read(token)
            if signed_in is not None and not await self.still(signed_in):
                return None
        else:
            return None
        return None if signed_in is None else self._remember(digest, signed_in)

    async def _remembered_source(self, made_from: SignedIn) -> SignedIn | None:
        """Many streams that were opened by one key ask for it together."""
        tenant_id = made_from.principal.tenant_id
        place = (tenant_id, made_from.ref)
        if (known := self._recalled(place)) is not None:
            return known
        found = await self._credentials.find(tenant_id, made_from.ref)
        signed_in = None if found is None else self._bearer_of(found)
        return None if signed_in is None else self._remember(place, signed_in)

    def _bearer_of(self, found: Credential) -> SignedIn | None:
        now_ms = self._clock.now_ms()
        if found.expires_at_ms is not None and now_ms >= found.expires_at_ms:
            return None
        if found.kind == "key" and now_ms - (found.used_at_ms or 0) >= USED_MS:
            if len(self._used) < REMEMBERED_MAX:
                self._used[found.tenant_id, found.credential_id] = now_ms
                self._marked.set()
        principal = Principal(
            tenant_id=found.tenant_id,
            user_id=found.user_id,
            roles=found.roles,
            scopes=found.scopes,
        )
        return SignedIn(
            principal=principal,
            by=found.kind,
            ref=found.credential_id,
            until_ms=found.expires_at_ms,
        )

    def _recalled(self, place: _Place) -> SignedIn | None:
        known = self._known.get(place)
        if known is None:
            return None
        signed_in, since_ms, until_ms = known
        # A clock that was put back does not keep it any longer.
        if since_ms <= self._clock.now_ms() < until_ms:
            return signed_in
        return None

    def _remember(self, place: _Place, signed_in: SignedIn) -> SignedIn:
        now_ms = self._clock.now_ms()
        until_ms = now_ms + REMEMBERED_MS
        if signed_in.until_ms is not None:
            until_ms = min(until_ms, signed_in.until_ms)
        self._known.pop(place, None)
        if len(self._known) >= REMEMBERED_MAX:
            del self._known[next(iter(self._known))]
        self._known[place] = (signed_in, now_ms, until_ms)
        return signed_in

    async def _write_used(self) -> None:
        while True:
            await self._marked.wait()
            self._marked.clear()
            # What is used while these are written is written behind them.
            used, self._used = self._used, {}
            marks = [Used(*place, at_ms) for place, at_ms in used.items()]
            try:
                await self._credentials.used(marks)
            except SessileError as error:
                logger.info("the last use of keys is not written", extra={"why": str(error)})
            except Exception:
                logger.exception("the last use of keys is not written")
            await asyncio.sleep(USED_SECONDS)
