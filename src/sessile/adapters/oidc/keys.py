"""The public keys of one issuer: fetched before they are needed, and kept while it is away."""

import asyncio
import logging
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import httpx2
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sessile.adapters.oidc.fetching import NotFetched, discovered, fetched

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 300.0
BETWEEN_SECONDS = 10.0
"""Between two fetches, however many tokens name a key that is not known."""
ANSWER_SECONDS = 2.0
"""How long who brings such a token waits for the fetch."""
KEYS_MAX = 100
RSA_BITS = range(2048, 8193)

Key = RSAKey | ECKey | OKPKey


class Algorithm(NamedTuple):
    """`kind`: of the key. `curve`: None for RSA."""

    kind: type[RSAKey] | type[ECKey] | type[OKPKey]
    curve: str | None = None


ALGORITHMS: Mapping[str, Algorithm] = {
    "RS256": Algorithm(RSAKey),
    "RS384": Algorithm(RSAKey),
    "RS512": Algorithm(RSAKey),
    "PS256": Algorithm(RSAKey),
    "PS384": Algorithm(RSAKey),
    "PS512": Algorithm(RSAKey),
    "ES256": Algorithm(ECKey, "P-256"),
    "ES384": Algorithm(ECKey, "P-384"),
    "ES512": Algorithm(ECKey, "P-521"),
    "EdDSA": Algorithm(OKPKey, "Ed25519"),
    "Ed25519": Algorithm(OKPKey, "Ed25519"),
}
"""Those by public keys. One of shared secrets is none of them: an issuer's public key is no secret,
and must never be taken for one."""


class Keys:
    """`run` fetches; who needs a key asks `find`."""

    def __init__(
        self, client: httpx2.AsyncClient, issuer: str, url: str, *, kept_seconds: float
    ) -> None:
        self._client = client
        self._issuer = issuer
        self._url = url
        self._kept_seconds = kept_seconds
        self._keys: Mapping[str, Mapping[str, Any]] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._wanted = asyncio.Event()
        self._tried = asyncio.Event()
        self._imported: dict[tuple[str, str], Key | None] = {}
        self._away = False

    @property
    def known(self) -> bool:
        """Whether there are keys that are young enough."""
        age = None if self._fetched_at is None else self._now() - self._fetched_at
        return age is not None and age <= self._kept_seconds

    async def find(self, key_id: str, algorithm: str) -> Key | None:
        """The issuer's key of this id, if it is one for the algorithm."""
        if key_id not in self._keys or not self.known:
            await self._look_again()
        if not self.known or key_id not in self._keys:
            return None
        place = (key_id, algorithm)
        if place not in self._imported:
            self._imported[place] = _imported(self._keys[key_id], algorithm)
        return self._imported[place]

    async def run(self) -> None:
        """For ever."""
        while True:
            self._wanted.clear()
            await self._fetch()
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    async def _look_again(self) -> None:
        """Have them fetched, unless they have just been, and wait for it a little."""
        if self._tried.is_set():
            if self._now() < (self._tried_at or 0.0) + BETWEEN_SECONDS:
                return
            self._tried.clear()
            self._wanted.set()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._tried.wait()
        except TimeoutError:
            return

    async def _fetch(self) -> None:
        self._tried.clear()
        self._tried_at = self._now()
        try:
            url = self._url or await discovered(self._client, self._issuer)
            keys = _by_id(await fetched(self._client, url))
            if not keys:
                raise NotFetched(f"{url} has no key in it")
        except Exception as error:  # noqa: BLE001  # whatever an issuer does, the server goes on
            if not self._away:
                logger.warning(
                    "an issuer's keys could not be fetched; the last ones are kept",
                    extra={"issuer": self._issuer, "why": str(error) or type(error).__name__},
                )
            self._away = True
        else:
            if self._away:
                logger.info("an issuer's keys are fetched again", extra={"issuer": self._issuer})
            self._away = False
            self._keys, self._imported = keys, {}
            self._fetched_at = self._now()
        self._tried.set()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _by_id(published: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Those that have an id, and of two with one id none: which of them is meant is not known."""
    given = published.get("keys")
    keys = [*cast(Any, given)] if isinstance(given, list) else []
    found: dict[str, Mapping[str, Any]] = {}
    twice: set[str] = set()
    for each in keys[:KEYS_MAX]:
        if isinstance(each, dict) and isinstance(key_id := cast(Any, each).get("kid"), str):
            if key_id in found:
                twice.add(key_id)
            found[key_id] = cast(dict[str, Any], each)
    return {key_id: each for key_id, each in found.items() if key_id not in twice}


def _imported(published: Mapping[str, Any], algorithm: str) -> Key | None:
    kind, curve = ALGORITHMS[algorithm]
    if published.get("kty") != kind.key_type or published.get("use", "sig") != "sig":
        return None
    if published.get("alg", algorithm) != algorithm or published.get("crv") != curve:
        return None
    operations: Any = published.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    wanted = ("kty", "crv", "x", "y", "n", "e")
    public: dict[str, Any] = {name: published[name] for name in wanted if name in published}
    try:
        if kind is RSAKey and _bits(public["n"]) not in RSA_BITS:
            return None
        return kind.import_key(public)
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _bits(number: str) -> int:
    return int.from_bytes(urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()
