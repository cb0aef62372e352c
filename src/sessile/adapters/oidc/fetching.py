"""What an issuer publishes: fetched with an end to every wait, and a bound to every reply."""

import asyncio
import json
from typing import Any, cast
from urllib.parse import urlsplit

import httpx2

from sessile.settings import is_loopback

FETCH_SECONDS_MAX = 5.0
REPLY_BYTES_MAX = 262_144
DISCOVERY = "/.well-known/openid-configuration"


class NotFetched(Exception):
    """Nothing of use came; it says why."""


def check_url(url: str) -> str:
    """Raises ValueError where an address would be asked in the open: whoever is between could put
    keys of their own in."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and is_loopback(parts.hostname or "")
    ):
        raise ValueError(f"{url!r} does not begin with https://")
    return url


async def discovered(client: httpx2.AsyncClient, issuer: str) -> str:
    """Where the issuer's keys are. Raises NotFetched."""
    about = await fetched(client, issuer.rstrip("/") + DISCOVERY)
    if about.get("issuer") != issuer:
        raise NotFetched(f"what is published for {issuer} is of another issuer")
    url = about.get("jwks_uri")
    if not isinstance(url, str):
        raise NotFetched(f"{issuer} does not say where its keys are")
    try:
        return check_url(url)
    except ValueError as error:
        raise NotFetched(str(error)) from None


async def fetched(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    """The JSON object there. Raises NotFetched."""
    try:
        async with asyncio.timeout(FETCH_SECONDS_MAX):
            body = await _body(client, url)
        value = json.loads(body)
    except TimeoutError:
        raise NotFetched(f"{url} did not answer in {FETCH_SECONDS_MAX:g} s") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise NotFetched(f"{url}: {type(error).__name__}") from error
    except (ValueError, RecursionError):
        raise NotFetched(f"{url} does not answer with JSON") from None
    if not isinstance(value, dict):
        raise NotFetched(f"{url} does not answer with an object")
    return cast(dict[str, Any], value)


async def _body(client: httpx2.AsyncClient, url: str) -> bytes:
    async with client.stream("GET", url, headers={"accept": "application/json"}) as reply:
        if reply.status_code != 200:
            raise NotFetched(f"{url} answers with {reply.status_code}")
        body = bytearray()
        async for chunk in reply.aiter_bytes():
            body += chunk
            if len(body) > REPLY_BYTES_MAX:
                raise NotFetched(f"{url} answers with more than {REPLY_BYTES_MAX} bytes")
        return bytes(body)
