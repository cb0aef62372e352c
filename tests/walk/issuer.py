"""An OpenID Connect issuer on this machine, which does what tests tell it."""

import asyncio
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

DISCOVERY = "/.well-known/openid-configuration"
KINDS = {"RS256": (RSAKey, 2048), "ES256": (ECKey, "P-256"), "EdDSA": (OKPKey, "Ed25519")}


class Issuer:
    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        """Paths, as they came."""
        self.pages: dict[str, bytes] = {}
        """What it answers with, in place of the truth."""
        self.status = 200
        self.silent = False
        self.seen = asyncio.Condition()
        self.keys: dict[str, Any] = {}

    def rotate(self, key_id: str, algorithm: str = "RS256", *, keep: bool = False) -> None:
        """From now on it signs with a key of this id."""
        kind, size = KINDS[algorithm]
        key = kind.generate_key(size, {"kid": key_id, "alg": algorithm, "use": "sig"})
        self.keys = {**(self.keys if keep else {}), key_id: key}

    def token(
        self,
        now_seconds: int,
        *,
        key_id: str | None = None,
        header: dict[str, Any] | None = None,
        key: Any = None,
        without: str = "",
        **claims: Any,
    ) -> str:
        """For alice, who was signed in now."""
        name = key_id or next(reversed(self.keys))
        signing = key or self.keys[name]
        said = {
            "iss": self.url, "aud": "sessile", "sub": "alice", "tenant": "demo", "iat": now_seconds,
            "exp": now_seconds + 600, **claims,
        }  # fmt: skip
        said.pop(without, None)
        about = {
            "alg": "HS256" if isinstance(signing, bytes) else signing.alg,
            "kid": name,
            "typ": "at+jwt",
            **(header or {}),
        }
        return signed(
            {name: value for name, value in about.items() if value is not None}, said, key=signing
        )

    def published(self, path: str) -> bytes:
        if (page := self.pages.get(path)) is not None:
            return page
        if path == DISCOVERY:
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        keys = [key.as_dict(private=False) for key in self.keys.values()]
        return json.dumps({"keys": keys}).encode()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ")[1]
            async with self.seen:
                self.asked.append(path)
                self.seen.notify_all()
            if self.silent:
                await reader.read()
                return
            body = self.published(path)
            writer.write(
                f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(body)}\r\n"
                f"location: {self.url}/keys\r\nconnection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def signed(header: dict[str, Any], claims: dict[str, Any], *, key: Any) -> str:
    """By hand: a library does not sign what is not to be believed. `key` bytes: a shared secret."""
    said = f"{_part(header)}.{_part(claims)}".encode()
    if isinstance(key, bytes):
        signature = hmac.digest(key, said, header["alg"].replace("HS", "sha"))
    else:
        signature = JWSRegistry.algorithms[key.alg].sign(said, key)
    return f"{said.decode()}.{_b64(signature)}"


def _part(value: Any) -> str:
    return _b64(json.dumps(value).encode())


def _b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@asynccontextmanager
async def issuing(algorithm: str = "RS256") -> AsyncIterator[Issuer]:
    issuer = Issuer()
    issuer.rotate("k1", algorithm)
    server = await asyncio.start_server(issuer.answer, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield issuer
    finally:
        server.close()
