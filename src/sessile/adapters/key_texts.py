"""API keys and tokens as text: made of chance, told apart by their form, and found by their hash.

`sk_TENANT_` (keys) or `st_TENANT_` (tokens), the tenant in base64url, and 104 hexadecimal digits:
32 of the id, 64 of the secret, 8 of a CRC-32 of all that stands before. So the tenant is known
before anything is looked up, a mistyped text is refused without looking, and a scanner for secrets
that were published can tell one from chance.
"""

import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from zlib import crc32

from sessile.core.ids import TenantId
from sessile.ports.auth import Secret

SECRET_BYTES = 32
CHARS_MAX = 2_000
_FORM = re.compile(r"(s[kt])_([A-Za-z0-9_-]*)_([0-9a-f]{32})[0-9a-f]{64}([0-9a-f]{8})", re.ASCII)
_PREFIXES = {"sk": "key", "st": "tok"}


class KeyTexts:
    """A `ports.auth.Secrets`."""

    def key(self, tenant_id: TenantId) -> Secret:
        return _made("sk", tenant_id)

    def token(self, tenant_id: TenantId) -> Secret:
        return _made("st", tenant_id)

    def read(self, text: str) -> tuple[TenantId, Secret] | None:
        found = _FORM.fullmatch(text) if len(text) <= CHARS_MAX else None
        if found is None or found[4] != _check(text[:-8]):
            return None
        name = found[2]
        try:
            tenant = urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
        except ValueError:
            return None
        if "\0" in tenant:  # no database takes it, and nobody has made it
            return None
        return TenantId(tenant), _secret(found[1], found[3], text)


def _made(prefix: str, tenant_id: TenantId) -> Secret:
    name = urlsafe_b64encode(tenant_id.encode()).rstrip(b"=").decode()
    place, chance = secrets.token_hex(16), secrets.token_hex(SECRET_BYTES)
    text = f"{prefix}_{name}_{place}{chance}"
    return _secret(prefix, place, text + _check(text))


def _secret(prefix: str, place: str, text: str) -> Secret:
    return Secret(f"{_PREFIXES[prefix]}_{place}", text, sha256(text.encode()).hexdigest())


def _check(text: str) -> str:
    return f"{crc32(text.encode()):08x}"
