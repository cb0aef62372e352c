"""Who may join which channel: what a socket brings is held against the app's secret, and whom it
names against the session."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from math import inf

from sessile.core.context import Principal
from sessile.core.errors import (
    NotFound,
    RoleRequired,
    SessileError,
    SessionNotFound,
    Unauthenticated,
)
from sessile.core.ids import SessionId, SessionKey, TenantId, UserId
from sessile.ports.auth import Authenticator
from sessile.ports.clock import Clock
from sessile.ports.store import Found
from sessile.pusher import admission, frames
from sessile.pusher.admission import Admission
from sessile.pusher.channels import Kind, reserved, session_of
from sessile.pusher.hub import Hub
from sessile.pusher.protocol import Authorize
from sessile.pusher.signing import AppKeys
from sessile.pusher.socket import Socket
from sessile.runtime.asking import Asking
from sessile.runtime.identity import Identity
from sessile.runtime.limits import Limits
from sessile.runtime.reads import Reads
from sessile.settings import Settings

logger = logging.getLogger(__name__)


class ChannelRefused(SessileError):
    """This server signs for the channels of its sessions; your own backend, for all others."""

    code = "pusher_channel_refused"
    status = 403


class Gate:
    """Signs for the callers of the auth endpoint, and lets in who brings a signature."""

    def __init__(
        self,
        *,
        hub: Hub,
        keys: AppKeys,
        reads: Reads,
        limits: Limits,
        authenticator: Authenticator,
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._hub = hub
        self._keys = keys
        self._reads = reads
        self._limits = limits
        self._authenticator = authenticator
        self._clock = clock
        self._seconds = settings.access_check_seconds
        names = (each.strip() for each in settings.pusher_public_tenants.split(","))
        self._public = tuple(TenantId(name) for name in names if name)

    async def sign(self, asking: Asking, socket_id: str, channel: str) -> dict[str, str]:
        """What lets who asks join the channel of a session of theirs.

        Raises Unauthenticated, RoleRequired, LimitReached, NotSignable, ChannelRefused and
        SessionNotFound.
        """
        principal = await asking.principal()
        self._limits.count_request(principal)
        data = admission.channel_data(
            principal,
            until_seconds=self._clock.now_ms() // 1000 + admission.GOOD_SECONDS,
            made_from=await asking.signed_in(),
            acting_for=asking.acting_for,
        )
        auth = self._keys.channel_auth(socket_id, channel, data)
        session_id = session_of(channel, public=False)
        if session_id is None:
            raise ChannelRefused()
        await self._reads.found(principal, session_id)
        self._hub.remember(socket_id, channel, asking)
        return {"auth": auth, "channel_data": data}

    async def decide(self, socket: Socket, asked: Authorize) -> None:
        """Let the socket join, or say why not."""
        channel = asked.channel
        public = asked.kind is Kind.PUBLIC
        if not public and not self._signed(socket.socket_id, asked):
            self._hub.refuse(socket, asked, 401, "The signature is not valid.")
        elif not reserved(channel):
            self._hub.accept(socket, asked)
        else:
            session_id = session_of(channel, public=bool(self._public))
            try:
                if session_id is None:
                    raise SessionNotFound()
                async with asyncio.timeout(self._seconds):
                    admitted, found = await (
                        self._from_the_public(session_id)
                        if public
                        else self._from_named(socket, asked, session_id)
                    )
            except SessileError as error:
                if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    # A refusal is for good: nobody subscribes again after one.
                    self._hub.close(socket.socket_id, frames.UNREADABLE)
                else:
                    self._hub.refuse(socket, asked, error.status, str(error))
            except Exception:
                # The authenticator is a guest, and may not answer at all.
                logger.exception("a subscription failed", extra={"channel": channel})
                self._hub.close(socket.socket_id, frames.UNREADABLE)
            else:
                self._hub.accept_in_session(socket, asked, admitted, found)

    def _signed(self, socket_id: str, asked: Authorize) -> bool:
        return self._keys.may_join(socket_id, asked.channel, asked.channel_data, auth=asked.auth)

    async def _from_the_public(self, session_id: SessionId) -> tuple[Admission, Found]:
        for tenant_id in self._public:
            anyone = Principal(
                tenant_id=tenant_id, user_id=UserId("public"), roles=frozenset({"admin"})
            )
            try:
                found = await self._reads.found(anyone, session_id)
            except NotFound:
                continue
            return _admission(anyone, found.head.key, _always, inf), found
        raise SessionNotFound()

    async def _from_named(
        self, socket: Socket, asked: Authorize, session_id: SessionId
    ) -> tuple[Admission, Found]:
        named = admission.read(asked.channel_data or "")
        if named is None:
            raise Unauthenticated("The signature names nobody; sign channel_data along.")
        if self._clock.now_ms() > named.until_seconds * 1000:
            raise Unauthenticated("The signature is too old; ask for a new one.")
        asking = socket.asking.get(asked.channel)
        found = await self._reads.found(named.principal, session_id)
        if asking is not None:
            known = _knows(asking, named.principal)
        elif named.made_from is not None and isinstance(self._authenticator, Identity):
            known = partial(self._authenticator.still, named.made_from)
        else:
            until_ms = named.until_seconds * 1000
            return _admission(named.principal, found.head.key, _always, until_ms), found
        if not await known():
            raise Unauthenticated()
        return _admission(named.principal, found.head.key, known, inf), found


def _admission(
    principal: Principal, key: SessionKey, known: Callable[[], Awaitable[bool]], until_ms: float
) -> Admission:
    return Admission(principal=principal, key=key, known=known, until_ms=until_ms)


def _knows(asking: Asking, principal: Principal) -> Callable[[], Awaitable[bool]]:
    async def known() -> bool:
        try:
            return await asking.principal() == principal
        except (Unauthenticated, RoleRequired):
            return False

    return known


async def _always() -> bool:
    return True
