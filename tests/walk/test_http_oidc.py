"""JWTs of an issuer: who is let in, and that nobody else is, whatever a token or an issuer says."""

import json
import warnings
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from joserfc.jwk import RSAKey
from tests.doubles import ManualClock
from tests.walk.issuer import DISCOVERY, Issuer, issuing
from tests.walk.people import Walk, walking
from tests.walk.test_http_identity import bearer
from tests.walk.test_http_refusals import problem, same_but_for_its_id
from tests.walk.wire import asking

from sessile.adapters.oidc import keys as oidc_keys
from sessile.core.ids import TenantId, UserId
from sessile.settings import Settings, WrongSetting
from sessile.wiring import Server

NOW = 1_800_000_000


@asynccontextmanager
async def trusting(
    issuer: Issuer, data_dir: Path, clock: ManualClock | None = None, **settings: Any
) -> AsyncIterator[Walk]:
    given = {"oidc_issuer": issuer.url, "oidc_audience": "sessile", **settings}
    clock = clock or ManualClock(NOW * 1000)
    async with walking(data_dir=data_dir, clock=clock, **given) as walk:
        yield walk


async def me(walk: Walk, token: str) -> httpx2.Response:
    async with bearer(walk, token) as client:
        return await client.get("/v1/me")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_whom_the_issuer_names_is_let_in(tmp_path: Path, algorithm: str) -> None:
    async with (
        issuing(algorithm) as issuer,
        trusting(
            issuer, tmp_path, oidc_roles="boss=admin,robot=service", oidc_roles_claim="a.roles"
        ) as walk,
    ):
        token = issuer.token(NOW, a={"roles": ["boss", "robot2", 7]})

        found = (await me(walk, token)).json()

        assert found == {
            "tenant_id": "demo", "user_id": "alice", "roles": ["admin"], "scopes": None,
            "signed_in_by": "oidc", "expires_at": "2027-01-15T08:10:30.000Z",
        }  # fmt: skip
        assert issuer.asked == [DISCOVERY, "/keys"]


WRONG: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "other"},
    "no audience": {"without": "aud"},
    "audiences, none of them ours": {"aud": ["a", "b", 7]},
    "another issuer": {"iss": "https://evil.example"},
    "no issuer": {"without": "iss"},
    "ended": {"exp": NOW - 30},
    "no end": {"without": "exp"},
    "an end that is no number": {"exp": "soon"},
    "an end that is a truth": {"exp": True},
    "an end that is none": {"exp": float("inf")},
    "not yet": {"nbf": NOW + 31},
    "issued in the future": {"iat": NOW + 31},
    "not issued": {"without": "iat"},
    "nobody": {"without": "sub"},
    "an empty name": {"sub": ""},
    "a name that is no text": {"sub": 7},
    "a name that no database takes": {"sub": "a\0b"},
    "no tenant": {"without": "tenant"},
    "a tenant that is a list": {"tenant": ["demo"]},
    "another purpose": {"header": {"typ": "logout+jwt"}},
    "a type that is no text": {"header": {"typ": None, "crit": ["b64"], "b64": False}},
    "something critical": {"header": {"crit": ["exp"], "exp": 1}},
    "something critical that is known": {"header": {"crit": ["kid"]}},
    "no key": {"header": {"kid": None}},
    "an unknown key": {"header": {"kid": "k9"}},
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_token_that_is_not_good_is_refused_as_every_other(
    tmp_path: Path, wrong: str
) -> None:
    async with issuing() as issuer, trusting(issuer, tmp_path) as walk:
        assert (await me(walk, issuer.token(NOW))).status_code == 200

        reply = await me(walk, issuer.token(NOW, **WRONG[wrong]))

        problem(reply, 401, "unauthenticated")
        assert same_but_for_its_id(reply) == same_but_for_its_id(await me(walk, "wrong"))


@pytest.mark.parametrize("header", [{"typ": None}, {"typ": "JWT"}, {"typ": "application/at+JWT"}])
async def test_what_is_advised_for_types_is_taken(tmp_path: Path, header: dict[str, Any]) -> None:
    async with issuing() as issuer, trusting(issuer, tmp_path) as walk:
        assert (await me(walk, issuer.token(NOW, header=header))).status_code == 200


async def test_clocks_may_differ_by_the_leeway(tmp_path: Path) -> None:
    async with issuing() as issuer, trusting(issuer, tmp_path) as walk:
        for claims in ({"exp": NOW - 29}, {"iat": NOW + 30}, {"nbf": NOW + 30}):
            assert (await me(walk, issuer.token(NOW, **claims))).status_code == 200


def part(value: Any) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "HS512", "RS256", "ES256"])
async def test_no_algorithm_is_taken_for_another(tmp_path: Path, algorithm: str) -> None:
    """The issuer's public key is no secret: signed by it as one is signed by nobody."""
    async with issuing() as issuer, trusting(issuer, tmp_path) as walk:
        token = issuer.token(NOW)
        _, claims, signature = token.split(".")
        header = part({"alg": algorithm, "kid": "k1", "typ": "JWT"})
        forged = [f"{header}.{claims}.", f"{header}.{claims}.{signature}"]
        if algorithm.startswith("HS"):
            key = issuer.keys["k1"]
            for secret in (key.as_pem(private=False), key.as_der(private=False)):
                forged.append(issuer.token(NOW, key=secret, header={"alg": algorithm}))

        for each in forged:
            problem(await me(walk, each), 401, "unauthenticated")


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
async def test_a_token_does_not_say_by_which_key_it_is_held(tmp_path: Path, name: str) -> None:
    async with issuing() as issuer, issuing() as evil, trusting(issuer, tmp_path) as walk:
        assert (await me(walk, issuer.token(NOW))).status_code == 200
        key = evil.keys["k1"]
        named: Any = {"jwk": key.as_dict(private=False), "x5c": ["MIIB"]}.get(name, evil.url)

        forged = issuer.token(NOW, key=key, header={name: named})

        problem(await me(walk, forged), 401, "unauthenticated")
        assert evil.asked == []


@pytest.mark.parametrize(
    "token",
    ["..", "a.b.c", "e30.e30.e30", "x" * 20_000, "W10.W10.W10", "a" * 17_000 + ".b.c",
     "[" * 3_000 + ".x.y"],
)  # fmt: skip
async def test_what_is_no_token_is_refused(tmp_path: Path, token: str) -> None:
    async with issuing() as issuer, trusting(issuer, tmp_path) as walk:
        problem(await me(walk, token), 401, "unauthenticated")


# -- keys


async def test_a_new_key_is_fetched_when_a_token_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_keys, "BETWEEN_SECONDS", 0.0)
    clock = ManualClock(NOW * 1000)
    async with issuing() as issuer, trusting(issuer, tmp_path, clock) as walk:
        old = issuer.token(NOW)
        assert (await me(walk, old)).status_code == 200

        issuer.rotate("k2", "ES256")

        assert (await me(walk, issuer.token(NOW))).status_code == 200
        clock.advance(milliseconds=1_000)
        problem(await me(walk, old), 401, "unauthenticated")


async def test_unknown_keys_do_not_have_the_issuer_asked_again_and_again(tmp_path: Path) -> None:
    async with issuing() as issuer, trusting(issuer, tmp_path) as walk:
        assert (await me(walk, issuer.token(NOW))).status_code == 200
        asked = len(issuer.asked)

        for number in range(20):
            forged = issuer.token(NOW, header={"kid": f"none{number}"})
            problem(await me(walk, forged), 401, "unauthenticated")

        assert len(issuer.asked) == asked


async def test_the_last_keys_are_kept_while_the_issuer_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_keys, "BETWEEN_SECONDS", 0.0)
    async with issuing() as issuer, trusting(issuer, tmp_path) as walk:
        assert (await me(walk, issuer.token(NOW))).status_code == 200

        issuer.status = 500
        problem(await me(walk, issuer.token(NOW, header={"kid": "none"})), 401, "unauthenticated")

        assert (await me(walk, issuer.token(NOW, sub="bob"))).status_code == 200


async def test_they_are_not_kept_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc_keys, "BETWEEN_SECONDS", 0.0)
    async with (
        issuing() as issuer,
        trusting(issuer, tmp_path, oidc_keys_seconds_max=0.000_001) as walk,
    ):
        reply = await me(walk, issuer.token(NOW))

        assert problem(reply, 503, "issuer_away")["details"] == {}
        assert reply.headers["retry-after"] == "5"


async def test_an_issuer_that_is_away_from_the_first_is_not_taken_for_a_wrong_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_keys, "BETWEEN_SECONDS", 0.0)
    async with issuing() as issuer:
        issuer.status = 503
        async with trusting(issuer, tmp_path) as walk:
            problem(await me(walk, issuer.token(NOW)), 503, "issuer_away")
            assert (await walk.alice.get("/v1/me")).status_code == 200

            issuer.status = 200
            assert (await me(walk, issuer.token(NOW))).status_code == 200


async def test_a_slow_issuer_holds_up_who_asks_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc_keys, "ANSWER_SECONDS", 0.05)
    async with issuing() as issuer:
        issuer.silent = True
        async with trusting(issuer, tmp_path) as walk:
            problem(await me(walk, issuer.token(NOW)), 503, "issuer_away")


OTHER_KEY = RSAKey.generate_key(2048, {"kid": "k1", "alg": "RS256"})
SHORT_KEY = {"kty": "RSA", "e": "AQAB", "kid": "k1", "n": "r" + "b" * 170}
HOSTILE: dict[str, Any] = {
    "nothing": b"",
    "no JSON": b"<html>",
    "no object": b"[]",
    "no keys": b'{"keys": []}',
    "keys that are none": b'{"keys": [1, null, "x", {}, {"kid": 7}, {"kid": "k1"}]}',
    "no list": b'{"keys": {"kid": "k1"}}',
    "nested too deep": b'{"keys":' + b"[" * 100_000,
    "too large": b'{"keys": [' + b" " * 300_000 + b"]}",
    "a shared secret": {"kty": "oct", "k": "c2VjcmV0", "kid": "k1"},
    "a key to encrypt by": {**OTHER_KEY.as_dict(private=False), "use": "enc"},
    "a key of another algorithm": {**OTHER_KEY.as_dict(private=False), "alg": "RS512"},
    "a key that verifies nothing": {
        **OTHER_KEY.as_dict(private=False), "key_ops": ["encrypt"],
    },
    "numbers that are none": {"kty": "RSA", "kid": "k1", "n": "!", "e": 5},
    "a short key": SHORT_KEY,
}  # fmt: skip


@pytest.mark.parametrize("hostile", HOSTILE)
async def test_what_an_issuer_publishes_is_not_trusted_to_be_well_formed(
    tmp_path: Path, hostile: str
) -> None:
    async with issuing() as issuer:
        issuer.keys["k1"] = OTHER_KEY
        page = HOSTILE[hostile]
        issuer.pages["/keys"] = (
            page if isinstance(page, bytes) else json.dumps({"keys": [page]}).encode()
        )
        async with trusting(issuer, tmp_path) as walk:
            reply = await me(walk, issuer.token(NOW))

            assert reply.status_code in (401, 503)
            assert (await walk.alice.get("/v1/me")).status_code == 200


async def test_a_key_that_can_be_computed_signs_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        short = RSAKey.generate_key(1024, {"kid": "k1", "alg": "RS256"})
    async with issuing() as issuer:
        issuer.keys["k1"] = short
        async with trusting(issuer, tmp_path) as walk:
            problem(await me(walk, issuer.token(NOW)), 401, "unauthenticated")


async def test_of_two_keys_of_one_id_none_is_used(tmp_path: Path) -> None:
    async with issuing() as issuer:
        key = issuer.keys["k1"].as_dict(private=False)
        other = {**OTHER_KEY.as_dict(private=False), "kid": "k1"}
        issuer.pages["/keys"] = json.dumps({"keys": [key, other, {**key, "kid": "k2"}]}).encode()
        async with trusting(issuer, tmp_path) as walk:
            problem(await me(walk, issuer.token(NOW)), 401, "unauthenticated")


@pytest.mark.parametrize(
    "page",
    [{"issuer": "https://evil.example"}, {"jwks_uri": 7}, {"jwks_uri": "http://evil.example/k"},
     {"jwks_uri": "file:///etc/passwd"}],
)  # fmt: skip
async def test_a_discovery_that_leads_elsewhere_is_not_followed(
    tmp_path: Path, page: dict[str, Any]
) -> None:
    async with issuing() as issuer:
        about = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys", **page}
        issuer.pages[DISCOVERY] = json.dumps(about).encode()
        async with trusting(issuer, tmp_path) as walk:
            problem(await me(walk, issuer.token(NOW)), 503, "issuer_away")
        assert "/keys" not in issuer.asked


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    async with issuing() as issuer:
        issuer.status = 302
        async with trusting(issuer, tmp_path) as walk:
            problem(await me(walk, issuer.token(NOW)), 503, "issuer_away")
        assert set(issuer.asked) == {DISCOVERY}


async def test_several_issuers_are_told_apart(tmp_path: Path) -> None:
    async with issuing() as one, issuing("ES256") as two:
        settings = {
            "oidc_issuer": f"{one.url}, {two.url}",
            "oidc_jwks_url": f"{one.url}/k,{two.url}/k",
        }
        async with trusting(one, tmp_path, **settings) as walk:
            for issuer, other in ((one, two), (two, one)):
                assert (await me(walk, issuer.token(NOW))).status_code == 200
                forged = issuer.token(NOW, iss=other.url)
                problem(await me(walk, forged), 401, "unauthenticated")
        assert (one.asked, two.asked) == (["/k"], ["/k"])


# -- its end


async def test_a_stream_ends_with_its_token_and_when_its_user_is_revoked(tmp_path: Path) -> None:
    clock = ManualClock(NOW * 1000)
    async with (
        issuing() as issuer,
        trusting(issuer, tmp_path, clock, access_check_seconds=0.05) as walk,
    ):
        token, later = issuer.token(NOW), issuer.token(NOW + 2)
        async with bearer(walk, token) as alice:
            session_id = (await alice.post("/v1/sessions", json={})).json()["session_id"]
        path = f"/v1/sessions/{session_id}/events"

        async with asking(walk.app, path, token=token) as stream:
            await stream.event("session.opened")
            clock.advance(milliseconds=1_000)
            credentials = walk.server.sign_in._credentials
            await credentials.revoke(TenantId("demo"), UserId("alice"), at_ms=clock.now_ms())
            await stream.until(lambda wire: wire.ended)
        problem(await me(walk, token), 401, "unauthenticated")
        clock.advance(milliseconds=1_000)
        assert (await me(walk, later)).status_code == 200

        async with asking(walk.app, path, token=later) as stream:
            await stream.event("session.opened")
            clock.advance(milliseconds=632_000)
            await stream.until(lambda wire: wire.ended)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("oidc_issuer", "http://login.example"), ("oidc_audience", ""), ("oidc_algorithms", "HS256"),
     ("oidc_algorithms", "none"), ("oidc_roles", "boss"), ("oidc_roles", "boss=root"),
     ("oidc_jwks_url", "https://a.example/1,https://a.example/2"),
     ("oidc_jwks_url", "ftp://a.example/")],
)  # fmt: skip
async def test_a_setting_that_would_not_hold_is_refused(
    tmp_path: Path, setting: str, value: str
) -> None:
    given = {"oidc_issuer": "https://login.example", "oidc_audience": "sessile", setting: value}
    settings = Settings(data_dir=tmp_path, store_url="memory", **given)  # type: ignore[arg-type]
    from tests.walk.people import Holds, assistants

    with pytest.raises(WrongSetting, match=f"^{setting}: "):
        async with Server(*assistants(Holds()), settings=settings):
            pass
