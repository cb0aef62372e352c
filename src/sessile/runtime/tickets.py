"""Tickets: who may open the stream of one session, signed by what the nodes of one database know.

Nothing is stored. What a ticket was made from stands in it, so that a stream which it opened ends
when that does; it has no secret in it that opens anything else.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from sessile.core.codec import to_json
from sessile.core.context import Principal
from sessile.core.ids import SessionId, TenantId, UserId
from sessile.ports.auth import SignedIn, Ticket
from sessile.ports.store import Identity as Database

PREFIX = "tk_"
CHARS_MAX = 8_000
_VERSION = 1


def signing_key(database: Database) -> bytes:
    """Of the database and its epoch, and for tickets alone."""
    said = f"ticket {database.epoch}".encode()
    return blake2b(said, key=database.secret, person=b"sessile ticket").digest()


def written(ticket: Ticket, key: bytes) -> str:
    said = to_json(
        [
            _VERSION,
            ticket.session_id,
            ticket.until_ms,
            packed(ticket.made_from, ticket.acting_for),
        ]
    ).encode()
    return f"{PREFIX}{_b64(said)}.{_b64(_signature(said, key))}"


def read(text: str, key: bytes, *, now_ms: int) -> Ticket | None:
    """None where no node of this database has signed it, or it has ended."""
    body, _, signed = text.removeprefix(PREFIX).partition(".")
    if not text.startswith(PREFIX) or len(text) > CHARS_MAX:
        return None
    try:
        said, signature = _of_b64(body), _of_b64(signed)
    except ValueError:
        return None
    if not hmac.compare_digest(_signature(said, key), signature):
        return None
    match json.loads(said):
        case [int(version), str(session_id), int(until_ms), made_from] if version == _VERSION:
            known = unpacked(made_from)
        case _:
            return None
    if known is None or now_ms >= until_ms:
        return None
    source, acting_for = known
    return Ticket(
        session_id=SessionId(session_id),
        until_ms=until_ms,
        made_from=source,
        acting_for=acting_for,
    )


def principal_of(ticket: Ticket) -> Principal:
    """Reads and follows its session, and nothing else."""
    principal = acting(ticket.made_from.principal, ticket.acting_for)
    return replace(principal, scopes=frozenset({"read"}), only=ticket.session_id)


def acting(principal: Principal, user_id: UserId | None) -> Principal:
    return principal if user_id is None else principal.acting_for(user_id)


def packed(made_from: SignedIn, acting_for: UserId | None) -> list[Any]:
    """As JSON has it, for what is signed."""
    who = made_from.principal
    scopes = None if who.scopes is None else sorted(who.scopes)
    return [
        made_from.by,
        made_from.ref,
        made_from.until_ms,
        who.tenant_id,
        who.user_id,
        sorted(who.roles),
        scopes,
        acting_for,
    ]


def unpacked(said: Any) -> tuple[SignedIn, UserId | None] | None:
    """What it was made from, and for whom that acts."""
    match said:
        case [
            str(by), str(ref), None | int() as until_ms, str(tenant_id), str(user_id),
            [*roles], scopes, None | str() as acting_for,
        ]:  # fmt: skip
            principal = Principal(
                tenant_id=TenantId(tenant_id),
                user_id=UserId(user_id),
                roles=frozenset(roles),
                scopes=None if scopes is None else frozenset(scopes),
            )
            made_from = SignedIn(principal=principal, by=by, ref=ref, until_ms=until_ms)
            return made_from, None if acting_for is None else UserId(acting_for)
        case _:
            return None


def _signature(said: bytes, key: bytes) -> bytes:
    return blake2b(said, key=key, digest_size=32).digest()


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _of_b64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
