"""What reads text that anybody may have written, without a server: nonsense, and good text that
was changed somewhere, is refused in the one way that its reader has."""

import asyncio
import json
from base64 import urlsafe_b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.target import many
from tests.unit.test_codec import NASTY

from sessile.adapters.key_texts import KeyTexts
from sessile.adapters.oidc.issuers import OidcIssuers
from sessile.adapters.system import SystemClock
from sessile.core import codec
from sessile.core.context import Principal
from sessile.core.errors import SessileError
from sessile.core.events import Entry, Unknown
from sessile.core.ids import Seq, SessionId, TenantId, UserId
from sessile.http.cursors import AHEAD_OF_ALL, seq_of
from sessile.ports.auth import SignedIn, Ticket
from sessile.pusher import frames, requests
from sessile.pusher.protocol import Connection, Limits
from sessile.pusher.signing import AppKeys
from sessile.runtime import tickets
from sessile.settings import Settings

FRAMES = 3_000
EACH = 1_000
KEY = b"k" * 32
KEYS = AppKeys(key="app", secret="s" * 32)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | NASTY
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(NASTY, inner), max_leaves=10
)


@st.composite
def changed(draw: st.DrawFn, text: str) -> str:
    """One character or more is another, is missing, or is there twice."""
    at = draw(st.integers(0, len(text) - 1))
    put = draw(
        st.sampled_from(["", text[at] * 2]) | st.characters().filter(lambda c: c != text[at])
    )
    return text[:at] + put + text[at + 1 :]


# -- Pusher

EVENTS = st.sampled_from(
    ["pusher:subscribe", "pusher:unsubscribe", "pusher:ping", "pusher:pong", "client-x", "x"]
)
CHANNELS = st.sampled_from(["private-sb-ses_1", "presence-room", "private-x", "x", ""]) | NASTY
SAID = st.fixed_dictionaries(
    {},
    optional={
        "event": EVENTS | JSON,
        "channel": CHANNELS | JSON,
        "data": JSON
        | st.fixed_dictionaries(
            {"channel": CHANNELS}, optional={"auth": NASTY | JSON, "channel_data": NASTY | JSON}
        ),
    },
)
TEXTS = (
    SAID.map(json.dumps) | NASTY | JSON.map(json.dumps) | st.integers(1, 20_000).map("[".__mul__)
)


@many(FRAMES)
@given(st.lists(TEXTS | st.binary(max_size=30), max_size=4))
def test_frames_of_clients(said: list[str | bytes]) -> None:
    """A connection never raises, and joins nothing by itself."""
    one = Connection("1.2", Limits(), now=0)
    one.greet()
    for now, frame in enumerate(said):
        for action in one.receive(frame, float(now)):
            if hasattr(action, "text"):
                json.loads(action.text)
    assert not one._subscriptions


@many(EACH)
@given(st.text() | JSON.map(json.dumps))
def test_members(text: str) -> None:
    frames.read_member(text)


@many(EACH)
@given(st.binary() | JSON.map(json.dumps).map(str.encode))
def test_bodies_of_the_signed_api(body: bytes) -> None:
    for read in (requests.read_events, requests.read_batch, requests.form):
        with suppress(requests.RequestInvalid, requests.SessionChannel, requests.EventTooLarge):
            read(body)


AUTH = KEYS.channel_auth("1.2", "private-x", "d")


@many(EACH)
@given(st.text() | changed(AUTH))
def test_signatures_of_channels(auth: str) -> None:
    assert not KEYS.may_join("1.2", "private-x", "d", auth=auth)


QUERY = st.sampled_from(
    ["auth_key", "auth_timestamp", "auth_version", "auth_signature", "body_md5"]
)


@many(EACH)
@given(
    st.lists(st.tuples(QUERY | NASTY, NASTY | st.sampled_from(["1.0", "app", "0"]))), st.binary()
)
def test_signed_requests(query: list[tuple[str, str]], body: bytes) -> None:
    with pytest.raises(SessileError) as refused:
        KEYS.check_request("POST", "/apps/1/events", query, body, now_seconds=0.0)

    assert refused.value.status in (400, 401)


# -- tickets and keys

MADE_FROM = SignedIn(
    principal=Principal(tenant_id=TenantId("demo"), user_id=UserId("ann")), by="key", ref="key_1"
)
TICKET = tickets.written(
    Ticket(session_id=SessionId("ses_1"), until_ms=10, made_from=MADE_FROM, acting_for=None), KEY
)


def test_a_ticket_that_was_not_changed_is_read() -> None:
    assert tickets.read(TICKET, KEY, now_ms=9) is not None


@many(EACH)
@given(NASTY | NASTY.map(tickets.PREFIX.__add__) | changed(TICKET))
def test_tickets(text: str) -> None:
    read = tickets.read(text, KEY, now_ms=9)

    assert read is None or text.partition(".")[0] == TICKET.partition(".")[0]


TEXT = KeyTexts().key(TenantId("demo")).text


@many(EACH)
@given(NASTY | st.from_regex(r"s[kt]_[\w-]*_[0-9a-f]{104}") | changed(TEXT))
def test_keys(text: str) -> None:
    read = KeyTexts().read(text)

    assert read is None or read[1].text == text != TEXT


# -- cursors, entries, heads of JWTs


@many(EACH)
@given(NASTY | st.from_regex(r"[0-9]{0,25}\.?[0-9]{0,25}"), st.integers(0, 9))
def test_cursors(text: str, epoch: int) -> None:
    assert 0 <= seq_of(text, epoch=epoch, plain=0) <= AHEAD_OF_ALL


@many(EACH)
@given(NASTY, JSON)
def test_entries_of_kinds_that_nobody_knows(kind: str, body: Any) -> None:
    """Of a newer version: an entry is read, and is written again as it was."""
    if kind in codec.kinds():
        return
    text = codec.to_json({"x": body} if not isinstance(body, dict) else body)
    read = codec.decode(Entry(Seq(1), kind, None, 0, text))

    assert isinstance(read, Unknown)
    assert json.loads(codec.encode(read)) == json.loads(text)


class NoKeys:
    """Of an issuer that is known: any key that it is asked for would be a fault."""

    known = True

    async def find(self, _key_id: str, _algorithm: str) -> None:
        return None


ISSUER = "https://login.example"
NAMED = {"alg", "kid", "typ", "crit", "iss", "aud", "exp", "iat", "nbf", "jku", "jwk"}
PART = (
    st.dictionaries(
        st.sampled_from(sorted(NAMED)),
        JSON | st.sampled_from([ISSUER, "sessile", "RS256", "none", "HS256", "JWT", 2**70]),
    ).map(json.dumps)
    | NASTY
).map(lambda text: urlsafe_b64encode(text.encode(errors="replace")).rstrip(b"=").decode())


def test_heads_of_jwts() -> None:
    settings = Settings(oidc_issuer=ISSUER, oidc_audience="sessile", oidc_tenant="demo")
    keys: Any = {ISSUER: NoKeys()}
    issuers = OidcIssuers(settings, SystemClock(), keys)

    with asyncio.Runner() as runner:

        @many(EACH)
        @given(st.tuples(PART, PART, PART).map(".".join) | NASTY)
        def read(token: str) -> None:
            assert runner.run(issuers.read(token)) is None

        read()
