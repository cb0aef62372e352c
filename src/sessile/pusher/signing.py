"""Signatures of Pusher Channels: who may join a channel, who may call the HTTP API."""

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from sessile.core.errors import SessileError
from sessile.pusher.channels import is_socket_id, kind

AUTH_VERSION = "1.0"
CLOCK_SECONDS_MAX = 600
"""How far a request's timestamp may lie from this server's clock, either way."""
TIMESTAMP_DIGITS_MAX = 12


class SignatureMissing(SessileError):
    """The query lacks a parameter that a signed request has, or has one of them twice."""

    code = "pusher_signature_missing"
    status = 400


class NotSignable(SessileError):
    """This is no socket id, or no channel that this server has."""

    code = "pusher_not_signable"
    status = 400


class TimestampInvalid(SessileError):
    """auth_timestamp is not a whole number of seconds since 1970."""

    code = "pusher_timestamp_invalid"
    status = 400


class AuthVersionUnknown(SessileError):
    """auth_version is not 1.0."""

    code = "pusher_auth_version_unknown"
    status = 400


class KeyUnknown(SessileError):
    """auth_key is not the key of this app."""

    code = "pusher_key_unknown"
    status = 401


class SignatureInvalid(SessileError):
    """auth_signature does not fit the request and this app's secret."""

    code = "pusher_signature_invalid"
    status = 401


class TimestampStale(SessileError):
    """auth_timestamp is too far from this server's clock; sign the request when it is sent."""

    code = "pusher_timestamp_stale"
    status = 401


class BodyAltered(SessileError):
    """body_md5 is not the MD5 of the body that came."""

    code = "pusher_body_altered"
    status = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class AppKeys:
    """The key, which every page shows, and the secret, which no page and no log line does."""

    key: str
    secret: str = field(repr=False)

    def channel_auth(self, socket_id: str, channel: str, channel_data: str | None = None) -> str:
        """What lets this socket join this channel, with exactly this `channel_data`.

        Raises NotSignable for what is no socket id or no channel: with a colon in one of them
        the signature of one thing would be good for another.
        """
        if not is_socket_id(socket_id) or kind(channel) is None:
            raise NotSignable()
        said = f"{socket_id}:{channel}"
        if channel_data is not None:
            said = f"{said}:{channel_data}"
        return f"{self.key}:{self._signed(said)}"

    def may_join(
        self, socket_id: str, channel: str, channel_data: str | None = None, *, auth: str
    ) -> bool:
        """Whether `auth` is what `channel_auth` gives; the time it takes tells nothing more.

        `socket_id` and `channel` come from a connection of ours, which has checked them.
        """
        return _equal(auth, self.channel_auth(socket_id, channel, channel_data))

    def check_request(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, str]],
        body: bytes,
        *,
        now_seconds: float,
    ) -> None:
        """Return if the request was signed with this secret, else raise one of the errors above.

        `method` is in upper case; `path` and `query` are without percent-encoding, the query
        with `auth_signature`; `now_seconds` is counted from 1970. A request without a body
        may leave out `body_md5`. Replays within the time that a timestamp is good for are not
        told apart: the protocol has no nonce.
        """
        signed = _parameters(query)
        signature = signed.pop("auth_signature")
        timestamp = signed["auth_timestamp"]
        if not (timestamp.isascii() and timestamp.isdigit()):
            raise TimestampInvalid()
        if len(timestamp) > TIMESTAMP_DIGITS_MAX:
            raise TimestampInvalid()
        if signed["auth_version"] != AUTH_VERSION:
            raise AuthVersionUnknown()
        if body and "body_md5" not in signed:
            raise SignatureMissing(parameter="body_md5")

        if not _equal(signed["auth_key"], self.key):
            raise KeyUnknown()
        if not _equal(signature, self._signed(_request(method, path, signed))):
            raise SignatureInvalid()
        if abs(now_seconds - int(timestamp)) > CLOCK_SECONDS_MAX:
            raise TimestampStale(seconds_max=CLOCK_SECONDS_MAX)
        body_md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
        if not _equal(signed.get("body_md5", body_md5), body_md5):
            raise BodyAltered()

    def _signed(self, text: str) -> str:
        return hmac.new(_octets(self.secret), _octets(text), hashlib.sha256).hexdigest()


def _request(method: str, path: str, query: dict[str, str]) -> str:
    pairs = "&".join(f"{name}={query[name]}" for name in sorted(query))
    return f"{method}\n{path}\n{pairs}"


def _parameters(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    signed: dict[str, str] = {}
    for name, value in query:
        # Which of two is meant would be for each reader to guess; the signature covers one.
        if name in signed:
            raise SignatureMissing("The query names a parameter twice.", parameter=name)
        signed[name] = value
    for name in ("auth_key", "auth_timestamp", "auth_version", "auth_signature"):
        if name not in signed:
            raise SignatureMissing(parameter=name)
    return signed


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(_octets(given), _octets(expected))


def _octets(text: str) -> bytes:
    # A caller may send what is no Unicode; it has to be refused, not to raise.
    return text.encode("utf-8", "surrogatepass")
