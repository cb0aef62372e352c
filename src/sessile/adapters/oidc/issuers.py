"""JWTs of OpenID Connect issuers: who is named in them, if they are good for this server now.

As RFC 8725 and RFC 9068 advise: the algorithms are those that the server was told, each for keys of
its own type; where a key is to be found is never taken from the token.
"""

import asyncio
import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx2
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry, deserialize_compact

from sessile.adapters.oidc.fetching import FETCH_SECONDS_MAX, check_url
from sessile.adapters.oidc.keys import ALGORITHMS, Keys
from sessile.core.context import ROLES, Principal
from sessile.core.errors import InvalidInput, IssuerAway
from sessile.core.ids import TenantId, UserId
from sessile.ports.auth import SignedIn
from sessile.ports.clock import Clock
from sessile.settings import Settings, WrongSetting, listed

TOKEN_CHARS_MAX = 16_384
HEADER_BYTES_MAX = 4_096
TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""An ID token has none of its own; what is made for another purpose does, and is refused."""


@asynccontextmanager
async def open_issuers(settings: Settings, clock: Clock) -> AsyncGenerator["OidcIssuers", None]:
    """Those that the settings name, whose keys are fetched meanwhile. Raises WrongSetting, with the
    setting's name, where they cannot be asked."""
    names = listed(settings.oidc_issuer)
    urls = listed(settings.oidc_jwks_url) or ("",) * len(names)
    if len(urls) != len(names):
        raise WrongSetting("oidc_jwks_url: there has to be one for each oidc_issuer")
    for setting, given in (("oidc_issuer", names), ("oidc_jwks_url", filter(None, urls))):
        for url in given:
            try:
                check_url(url)
            except ValueError as error:
                raise WrongSetting(f"{setting}: {error}") from None
    async with httpx2.AsyncClient(timeout=FETCH_SECONDS_MAX, follow_redirects=False) as client:
        kept_seconds = settings.oidc_keys_seconds_max
        keys = {
            name: Keys(client, name, url, kept_seconds=kept_seconds)
            for name, url in zip(names, urls, strict=True)
        }
        issuers = OidcIssuers(settings, clock, keys)
        tasks = await asyncio.TaskGroup().__aenter__()
        fetching = [tasks.create_task(each.run(), name="oidc keys") for each in keys.values()]
        try:
            yield issuers
        finally:
            for task in fetching:
                task.cancel()
            await tasks.__aexit__(None, None, None)  # what ends the server is told as it is


class OidcIssuers:
    """A `ports.auth.Issuers`."""

    def __init__(self, settings: Settings, clock: Clock, keys: Mapping[str, Keys]) -> None:
        self._clock = clock
        self._keys = keys
        self._audiences = frozenset(listed(settings.oidc_audience))
        self._algorithms = listed(settings.oidc_algorithms)
        if unknown := set(self._algorithms) - ALGORITHMS.keys():
            raise WrongSetting(f"oidc_algorithms: {sorted(unknown)} are none of {[*ALGORITHMS]}")
        if not self._audiences:
            raise WrongSetting("oidc_audience: has to name this server, as its issuer does")
        self._leeway_seconds = settings.oidc_leeway_seconds
        self._tenant = settings.oidc_tenant
        self._tenant_claim = settings.oidc_tenant_claim
        self._user_claim = settings.oidc_user_claim
        self._roles_claim = settings.oidc_roles_claim
        self._roles = _mapping(settings.oidc_roles)

    async def read(self, token: str) -> SignedIn | None:
        header, claims = _parts(token)
        keys = self._keys.get(_text(claims.get("iss")))
        algorithm = header.get("alg")
        if keys is None or algorithm not in self._algorithms or not self._is_usable(header):
            return None
        key_id = header.get("kid")
        key = await keys.find(key_id, algorithm) if isinstance(key_id, str) else None
        if key is None:
            if not keys.known:
                raise IssuerAway()
            return None
        registry = _Registry(algorithms=[algorithm], strict_check_header=False)
        try:
            found = deserialize_compact(token, key, [algorithm], registry)
            said: Any = json.loads(found.payload)
        except (JoseError, ValueError, RecursionError):
            return None
        if not isinstance(said, dict):
            return None
        signed_claims = cast(dict[str, Any], said)
        return self._named(signed_claims) if signed_claims.get("iss") == claims["iss"] else None

    def _is_usable(self, header: Mapping[str, Any]) -> bool:
        """What is critical has to be understood, and nothing is."""
        kind = header.get("typ", "JWT")
        return isinstance(kind, str) and kind.lower() in TYPES and "crit" not in header

    def _named(self, claims: Mapping[str, Any]) -> SignedIn | None:
        now, most = self._clock.now_ms() / 1000, self._leeway_seconds
        issued, until = _time(claims.get("iat")), _time(claims.get("exp"))
        begins = _time(claims.get("nbf", issued))
        if issued is None or until is None or begins is None:
            return None
        if not (issued <= now + most and begins <= now + most and now < until + most):
            return None
        audience = claims.get("aud")
        audiences = _list(audience) or [audience]
        if not any(isinstance(each, str) and each in self._audiences for each in audiences):
            return None
        tenant = self._tenant or _text(claims.get(self._tenant_claim))
        user = _text(claims.get(self._user_claim))
        if not tenant or not user:
            return None
        try:
            principal = Principal(
                tenant_id=TenantId(tenant), user_id=UserId(user), roles=self._roles_of(claims)
            )
        except InvalidInput:
            return None
        return SignedIn(
            principal=principal,
            by="oidc",
            ref=str(int(issued * 1000)),
            until_ms=int((until + most) * 1000),
        )

    def _roles_of(self, claims: Mapping[str, Any]) -> frozenset[str]:
        """The claim is a list, or a text with spaces; dots lead into objects."""
        found: Any = claims
        for step in self._roles_claim.split("."):
            found = cast(dict[str, Any], found).get(step) if isinstance(found, dict) else None
        names = found.split() if isinstance(found, str) else _list(found)
        return frozenset(
            self._roles[each] for each in names if isinstance(each, str) and each in self._roles
        )


class _Registry(JWSRegistry):
    """Of one algorithm. What is advised against for new issuers is taken of those that there are:
    which ones are, is the server's to say."""

    max_header_length = HEADER_BYTES_MAX

    def get_alg(self, name: str) -> Any:
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


def _parts(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What the token says before anything is believed: enough to know by whose key to look."""
    parts = token.split(".")
    if len(token) > TOKEN_CHARS_MAX or len(parts) != 3:
        return {}, {}
    return _object(parts[0]), _object(parts[1])


def _object(part: str) -> Mapping[str, Any]:
    try:
        value: Any = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return [*cast(Any, value)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _time(value: Any) -> float | None:
    """Seconds since 1970, where a claim has them."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        return None
    return float(value)


def _mapping(text: str) -> Mapping[str, str]:
    """The issuer's names of roles, and ours. Raises WrongSetting."""
    found: dict[str, str] = {}
    for pair in listed(text):
        theirs, equals, ours = pair.partition("=")
        if not theirs or not equals or ours not in ROLES:
            known = ", ".join(ROLES)
            raise WrongSetting(f"oidc_roles: {pair!r} is not NAME=ROLE, a role of {known}")
        found[theirs] = ours
    return found
