"""Development logins: random tokens in a file that only their owner may read."""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sessile.adapters import private_files
from sessile.core.context import Principal
from sessile.core.ids import TenantId, UserId
from sessile.settings import is_loopback

ROLES = frozenset({"admin", "operator", "user"})
FIRST = (("demo", "admin", "admin"), ("demo", "alice", "user"), ("other", "bob", "user"))
HEADER = "# Development tokens of Sessile: token, tenant, user, role.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One line of the file."""

    token: str
    tenant_id: str
    user_id: str
    role: str

    def principal(self) -> Principal:
        return Principal(
            tenant_id=TenantId(self.tenant_id),
            user_id=UserId(self.user_id),
            roles=frozenset({self.role}) - {"user"},
        )


class DevTokens:
    """An `Authenticator`. Tokens are looked up by their hash, so that the time that it takes
    says nothing of how much of a guess was right."""

    def __init__(self, logins: Iterable[Login]) -> None:
        self.logins = tuple(logins)
        self._principals = {_hash(login.token): login.principal() for login in self.logins}

    async def principal(self, token: str) -> Principal | None:
        return self._principals.get(_hash(token))

    def knows(self, principal: Principal) -> bool:
        """Whether there is a token of this one, still."""
        return principal in self._principals.values()


def check_host(host: str) -> None:
    """Raises ValueError: development tokens are for this machine alone."""
    if not is_loopback(host):
        raise ValueError(
            f"host: {host} can be reached from other machines, and development tokens are for "
            "this one alone; listen on 127.0.0.1, or bring an authenticator"
        )


def load_or_create(path: Path, admin_token: str = "") -> DevTokens:  # none given  # nosec B107
    """The logins of the file; on the first start, an admin and two users in two tenants.

    `admin_token`: the admin's, in place of a random one or of the one in the file.
    Raises ValueError, with the line, for a file that it cannot read.
    """
    if admin_token and not _plain(admin_token):
        raise ValueError("dev_token: has to be printable ASCII without spaces")
    if not path.exists():
        first = [
            Login(token=secrets.token_urlsafe(24), tenant_id=tenant, user_id=user, role=role)
            for tenant, user, role in FIRST
        ]
        private_files.write_first(path, _written(_with_admin(first, admin_token)))
    private_files.close_to_others(path)
    logins = list(_read(path))
    wanted = _with_admin(logins, admin_token)
    if wanted != logins:
        private_files.write(path, _written(wanted))
    return DevTokens(wanted)


def _with_admin(logins: list[Login], admin_token: str) -> list[Login]:
    if not admin_token:
        return logins
    tenant, user, role = FIRST[0]
    admin = Login(token=admin_token, tenant_id=tenant, user_id=user, role=role)
    others = [
        login
        for login in logins
        if (login.tenant_id, login.user_id) != (tenant, user) and login.token != admin_token
    ]
    return [admin, *others]


def _read(path: Path) -> Iterable[Login]:
    text = path.read_text(encoding="utf-8", errors="replace")  # the line is then refused by number
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        if len(fields) != 4 or fields[3] not in ROLES or not all(map(_plain, fields)):
            raise ValueError(
                f"{path}, line {number}: should be a token, a tenant, a user and a role "
                f"({' or '.join(sorted(ROLES))}), with spaces between"
            )
        token, tenant, user, role = fields
        yield Login(token=token, tenant_id=tenant, user_id=user, role=role)


def _written(logins: Iterable[Login]) -> str:
    lines = (f"{each.token} {each.tenant_id} {each.user_id} {each.role}\n" for each in logins)
    return HEADER + "".join(lines)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text and "#" not in text


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
