"""Who is let in, put together: by what the settings name, and what the database has."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from sessile.adapters.key_texts import KeyTexts
from sessile.adapters.memory_credentials import MemoryCredentials
from sessile.adapters.system import SystemClock
from sessile.ports.auth import Issuers, Passwords
from sessile.ports.clock import Clock
from sessile.ports.credentials import Credentials
from sessile.ports.store import Identity as Database
from sessile.runtime.accounts import Accounts
from sessile.runtime.identity import Identity
from sessile.runtime.sign_in import SignIn
from sessile.runtime.tickets import signing_key
from sessile.settings import Settings
from sessile.wiring.stores import of_extra


@asynccontextmanager
async def open_credentials(settings: Settings) -> AsyncGenerator[Credentials, None]:
    """The database is at the newest revision; servers may use it meanwhile."""
    busy_seconds = settings.store_busy_seconds_max
    if settings.store_url == "memory":
        yield MemoryCredentials()
    elif settings.shared:
        with of_extra("PostgreSQL", "postgres"):
            from sessile.adapters.postgres import credentials as postgres  # noqa: PLC0415

        lease_ms = int(settings.lease_ttl_seconds * 1000)
        async with postgres.open_credentials(
            settings.store_url, lease_ms=lease_ms, busy_seconds=busy_seconds
        ) as pooled:
            yield pooled
    else:
        from sessile.adapters.sqlite import credentials as sqlite  # noqa: PLC0415

        path = settings.data_dir / "sessile.db"
        async with sqlite.open_credentials(path, busy_seconds=busy_seconds) as file:
            yield file


def new_identity(clock: Clock) -> Identity:
    """Of a server, before it is opened."""
    return Identity(secrets=KeyTexts(), clock=clock)


@asynccontextmanager
async def open_sign_in(
    identity: Identity, database: Database, settings: Settings, clock: Clock, *, kept: bool
) -> AsyncGenerator[SignIn, None]:
    """Open a server's identity too. `kept`: in the database of the settings, which `database` is
    of; else in memory, where somebody brings a store of their own."""
    async with AsyncExitStack() as stack:
        credentials: Credentials = MemoryCredentials()
        if kept:
            credentials = await stack.enter_async_context(open_credentials(settings))
        issuers: Issuers | None = None
        if settings.oidc_issuer and settings.role != "turns":
            from sessile.adapters.oidc import open_issuers  # noqa: PLC0415

            issuers = await stack.enter_async_context(open_issuers(settings, clock))
        await stack.enter_async_context(
            identity.opened(credentials, ticket_key=signing_key(database), issuers=issuers)
        )
        yield SignIn(
            credentials=credentials,
            identity=identity,
            secrets=KeyTexts(),
            clock=clock,
            settings=settings,
            passwords=partial(_passwords, stack),
        )


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncGenerator[tuple[Accounts, SignIn], None]:
    """What the operator gives out and takes back: beside servers that use the database, or
    without one. See `stores.made`."""
    from sessile.adapters.passwords import Argon2  # noqa: PLC0415

    clock, passwords = SystemClock(), Argon2()
    try:
        async with open_credentials(settings) as credentials:
            accounts = Accounts(credentials, passwords, clock)
            yield (
                accounts,
                SignIn(
                    credentials=credentials,
                    identity=new_identity(clock),
                    secrets=KeyTexts(),
                    clock=clock,
                    settings=settings,
                    passwords=lambda: passwords,
                ),
            )
    finally:
        passwords.close()


def _passwords(stack: AsyncExitStack) -> Passwords:
    from sessile.adapters.passwords import Argon2  # noqa: PLC0415

    passwords = Argon2()
    stack.callback(passwords.close)
    return passwords
