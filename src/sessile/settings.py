"""Every setting, once: its default, its unit, what it is for. A flag of `serve` and a variable
`SESSILE_…` of the same name."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, Self

ZERO_ALLOWED = frozenset(
    f"{what}_{whose}_max"
    for what in ("turns_concurrent", "requests_minute", "sessions", "queue", "tokens_day")
    for whose in ("user", "tenant")
) | {"port", "retention_days", "deltas_retention_days"}
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


"""Settings whose 0 is no limit of nothing."""


def _setting(default: Any, about: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"about": about, "secret": secret})


class WrongSetting(ValueError):
    """A setting that does not fit what it is for; the message begins with its name."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Settings:
    """Read once at start-up and passed on; nothing else reads the environment."""

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(3006, "Port to listen on; 0 takes a free one.")
    data_dir: Path = _setting(Path("sessile-data"), "Directory of the database and dev-tokens.")
    store_url: str = _setting(
        "sqlite",
        "sqlite (a file in the data directory), memory, or postgresql://USER@HOST/DATABASE, which"
        " many nodes may share.",
        secret=True,
    )
    store_sharded: bool = _setting(
        False, "store_url is a cluster that distributes the tables by tenant_id."
    )
    notifier_url: str = _setting(
        "", "How nodes wake each other: empty, by the database; or nats://HOST:4222.", secret=True
    )
    role: str = _setting(
        "all", "all; surfaces: takes turns and runs none; turns: runs them, and serves no API."
    )
    log_level: str = _setting("info", "debug, info, warning or error.")
    log_format: str = _setting("auto", "text, json, or auto: text on a terminal.")
    console: bool = _setting(True, "The console, a page at /.")
    dev_token: str = _setting(
        "", "The admin's development token; empty: a random one.", secret=True
    )

    turns_concurrent_max: int = _setting(32, "Turns that run at once on this node.")
    queue_turns_max: int = _setting(256, "Turns that may wait in one session.")
    turn_seconds_max: float = _setting(600.0, "A turn's deadline, over all its attempts.")
    tool_seconds_max: float = _setting(120.0, "A tool call's deadline, unless the tool has one.")
    approval_seconds_max: float = _setting(86_400.0, "How long a call waits for its approval.")
    tool_threads_max: int = _setting(16, "Threads for tools that block.")
    agent_first_seconds_max: float = _setting(120.0, "Silence before an agent's first event.")
    agent_idle_seconds_max: float = _setting(120.0, "Silence between an agent's events.")
    lease_ttl_seconds: float = _setting(12.0, "How long a lease lasts without renewal.")
    sweep_seconds: float = _setting(1.0, "How often the store is asked what is due.")
    drain_seconds_max: float = _setting(10.0, "How long running turns may go on at shutdown.")
    store_busy_seconds_max: float = _setting(10.0, "How long a locked database is waited for.")

    body_bytes_max: int = _setting(1_048_576, "A request's body.")
    text_chars_max: int = _setting(262_144, "An input's text, in Unicode code points.")
    title_chars_max: int = _setting(200, "A session's title, in Unicode code points.")
    metadata_bytes_max: int = _setting(16_384, "A session's metadata, as JSON.")
    output_chars_max: int = _setting(1_048_576, "One message of an agent.")
    result_bytes_max: int = _setting(262_144, "One tool's result, as JSON.")
    history_entries_max: int = _setting(
        200, "Newest entries that an agent is given of its history."
    )
    fork_entries_max: int = _setting(10_000, "Entries that a fork may inherit.")
    page_items_max: int = _setting(200, "Items on a page of a list.")
    page_entries_max: int = _setting(1_000, "Entries on a page of events, or in one read.")
    page_bytes_max: int = _setting(
        1_048_576, "Bytes of entries or turns on a page, or in one read."
    )
    wait_seconds_max: float = _setting(60.0, "How long ?wait= may wait.")

    delta_milliseconds: int = _setting(50, "Text deltas within this time share an entry.")
    tail_entries_max: int = _setting(512, "Recent entries kept for a session that is followed.")
    tail_bytes_max: int = _setting(1_048_576, "Bytes of these entries.")
    heartbeat_seconds: float = _setting(15.0, "A comment on an event stream that is silent.")
    access_check_seconds: float = _setting(4.0, "How often a stream's access is checked again.")
    slow_reader_seconds_max: float = _setting(30.0, "How long a stream waits for its reader.")
    streams_max: int = _setting(5_000, "Event streams open at once on this node.")

    turns_concurrent_tenant_max: int = _setting(
        0, "Of this node's turns at once, those of one tenant; 0: seven eighths."
    )
    turns_concurrent_user_max: int = _setting(
        0, "Of this node's turns at once, those of one user; 0: all."
    )
    requests_minute_user_max: int = _setting(
        120_000, "Requests of one user to this node within a minute; 0: no limit."
    )
    requests_minute_tenant_max: int = _setting(
        600_000, "Requests of one tenant to this node within a minute; 0: no limit."
    )
    sessions_user_max: int = _setting(0, "Active sessions of one user; 0: no limit.")
    sessions_tenant_max: int = _setting(0, "Active sessions of one tenant; 0: no limit.")
    queue_user_max: int = _setting(0, "Turns of one user that may wait; 0: no limit.")
    queue_tenant_max: int = _setting(0, "Turns of one tenant that may wait; 0: no limit.")
    tokens_day_user_max: int = _setting(
        0, "Tokens that a user's turns of one day (UTC) may use; 0: no limit."
    )
    tokens_day_tenant_max: int = _setting(
        0, "Tokens that a tenant's turns of one day (UTC) may use; 0: no limit."
    )
    limits_file: str = _setting("", "A TOML file with limits for single tenants; empty: none.")

    pusher_app_id: str = _setting("1", "Pusher Channels: the app's id, in digits.")
    pusher_key: str = _setting("", "The app's key; empty: the one in the file pusher-app.")
    pusher_secret: str = _setting("", "The app's secret; empty: the one in that file.", secret=True)
    pusher_public_tenants: str = _setting(
        "", "Tenants whose sessions anyone may follow on sb-ID who knows the id; commas between."
    )
    pusher_client_events: str = _setting(
        "apart", "Where clients may trigger events: off, apart (from sessions), everywhere."
    )
    pusher_sockets_max: int = _setting(5_000, "WebSockets open at once on this node.")
    pusher_channels_max: int = _setting(100, "Channels of one WebSocket.")
    pusher_buffer_chars_max: int = _setting(1_048_576, "Characters that wait for a slow WebSocket.")

    token_seconds_max: float = _setting(43_200.0, "How long a built-in user stays signed in.")
    ticket_seconds_max: float = _setting(60.0, "How long a ticket opens its session's stream.")
    sign_in_tenant: str = _setting("main", "The tenant of who signs in and names none.")
    sign_in_attempts_max: int = _setting(
        10, "Sign-ins a minute of one user from one address; ten times as many of each alone."
    )
    oidc_issuer: str = _setting("", "Issuers whose JWTs are taken; commas between them.")
    oidc_audience: str = _setting("", "What names this server in their aud; commas between.")
    oidc_jwks_url: str = _setting(
        "", "Where the issuers' keys are, in their order; empty: each says it itself."
    )
    oidc_algorithms: str = _setting("RS256,ES256,EdDSA", "By which they sign; commas between.")
    oidc_tenant: str = _setting("", "The tenant of all their users; empty: the claim says it.")
    oidc_tenant_claim: str = _setting("tenant", "The claim that names the tenant.")
    oidc_user_claim: str = _setting("sub", "The claim that names the user.")
    oidc_roles_claim: str = _setting("roles", "The claim that names roles; dots lead into it.")
    oidc_roles: str = _setting(
        "", "Their roles that are roles here: NAME=admin,NAME=operator,NAME=service."
    )
    oidc_leeway_seconds: float = _setting(30.0, "How far their clocks may be from this one.")
    oidc_keys_seconds_max: float = _setting(
        86_400.0, "How long an issuer's keys are kept while it is away."
    )

    retention_days: float = _setting(
        0.0, "Sessions in which nothing was done for so long are deleted; 0: never."
    )
    retention_tenants: str = _setting(
        "", "The same for some tenants, as acme=30,beta=0; the others have retention_days."
    )
    deltas_retention_days: float = _setting(
        0.0, "Deltas of turns that ended so long ago are folded; 0: never."
    )
    housekeeping_seconds: float = _setting(
        60.0, "How often one node looks for what is to be erased, or is too old."
    )

    @property
    def retention(self) -> bool:
        """Whether sessions of any tenant are ever too old."""
        return self.retention_days > 0 or any(self._retention_tenants.values())

    def retention_of(self, tenant_id: str) -> float:
        """In days; 0 for ever."""
        return self._retention_tenants.get(tenant_id, self.retention_days)

    @property
    def _retention_tenants(self) -> Mapping[str, float]:
        return days_by_tenant(self.retention_tenants)

    api_origins: str = _setting(
        "", "Origins besides this host's own whose pages may use the API; commas between them."
    )
    head_seconds_max: float = _setting(10.0, "How long a request's line and headers may take.")
    body_seconds_max: float = _setting(30.0, "How long a request's body may take.")
    keep_alive_seconds: float = _setting(65.0, "How long a connection waits for a next request.")
    head_bytes_max: int = _setting(65_536, "A request's line and headers.")
    headers_max: int = _setting(100, "How many headers a request may have.")
    connections_max: int = _setting(10_000, "Connections open at once on this node.")
    connections_address_max: int = _setting(5_000, "Of these, how many of one address.")
    streams_user_max: int = _setting(
        200, "Event streams and WebSockets that one user has open at once on this node."
    )
    streams_tenant_max: int = _setting(2_500, "As many of one tenant.")
    demo_open: bool = _setting(
        False, "The demo systems' routes also where other machines reach the server."
    )

    webhooks_tenant_max: int = _setting(20, "Webhooks of one tenant.")
    webhook_seconds_max: float = _setting(10.0, "How long a webhook's request may take.")
    webhook_attempts_max: int = _setting(20, "Attempts at one entry; then its webhook is disabled.")
    webhook_wait_seconds_max: float = _setting(
        3_600.0, "How long at most is waited between two attempts."
    )
    webhook_bytes_max: int = _setting(
        262_144, "What is sent of an entry; a larger one is sent without its body."
    )
    webhook_ports: str = _setting("443", "Ports that webhooks are sent to; commas between them.")
    webhook_http: bool = _setting(False, "Webhooks may be http:// addresses too.")
    webhook_private: bool = _setting(
        False, "Webhooks may lead to addresses that are not of the internet: for development."
    )

    def shown(self) -> dict[str, Any]:
        """As they may be shown: without what is secret of them."""
        return {each.name: _shown(each, getattr(self, each.name)) for each in fields(self)}

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.shown().items())})"

    @property
    def local(self) -> bool:
        """This machine alone can reach the server."""
        return is_loopback(self.host)

    @property
    def shared(self) -> bool:
        """Whether other nodes may use the same database."""
        return self.store_url not in ("sqlite", "memory")

    @classmethod
    def read(cls, environ: Mapping[str, str], **given: Any) -> Self:
        """Defaults, then `SESSILE_*` of `environ`, then `given` where it is not None.

        Raises ValueError, with the name, for a value that does not fit or an unknown variable.
        """
        known = {f"SESSILE_{f.name.upper()}": f for f in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in environ.items():
            if not name.startswith("SESSILE_") or name.startswith("SESSILE_TEST_"):
                continue
            if name not in known:
                raise ValueError(f"{name} is not a setting; `sessile serve --help` lists them all")
            values[known[name].name] = text
        values.update((name, value) for name, value in given.items() if value is not None)
        settings = cls()
        for name, value in values.items():
            settings = replace(settings, **{name: _converted(settings, name, value)})
        return settings

    @property
    def origins(self) -> frozenset[bytes]:
        """Those of `api_origins`, as browsers send them."""
        names = (each.strip().lower().encode() for each in self.api_origins.split(","))
        return frozenset(name for name in names if name)


def listed(text: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(filter(None, (each.strip() for each in text.split(","))))


@cache
def days_by_tenant(text: str) -> Mapping[str, float]:
    """Of `retention_tenants`. Raises ValueError."""
    found: dict[str, float] = {}
    for each in filter(None, (part.strip() for part in text.split(","))):
        tenant_id, _, days = each.rpartition("=")
        try:
            found[tenant_id.strip()] = float(days)
        except ValueError:
            raise ValueError(f"retention_tenants: {each!r} is not TENANT=DAYS") from None
        if not tenant_id.strip() or not 0 <= found[tenant_id.strip()] < inf:
            raise ValueError(f"retention_tenants: {each!r} is not TENANT=DAYS")
    return found


def without_password(url: str) -> str:
    """An address as it may be shown, well-formed or not: a password may hold any character."""
    url = re.sub(r"(?<=://)([^@:]*):.*@", r"\1:…@", url, flags=re.DOTALL)
    url = re.sub(r"(?<=nats://)[^@:,]*@", "…@", url)  # who is let in by a token has no name
    return re.sub(r"(?<=password=)[^&]*", "…", url)


def _shown(setting: "Field[Any]", value: Any) -> Any:
    if not setting.metadata["secret"] or not value:
        return value
    return without_password(value) if setting.name.endswith("_url") else "…"


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_own_origin(origin: bytes, host: bytes) -> bool:
    """Whether a page comes from where its request went. The scheme is not compared: a proxy may
    have taken the encryption off."""
    name = origin.partition(b"://")[2].lower()
    return name != b"" and name == host.lower()


def _converted(settings: Settings, name: str, value: Any) -> Any:
    kind: type[Any] = getattr(Settings(), name).__class__
    if kind is bool:
        return _truth(name, value)
    if issubclass(kind, Path):
        if not str(value):
            raise ValueError(f"{name}: is empty; the directory one is in is .")
        return Path(value)
    try:
        converted = kind(value)
    except ValueError:
        raise ValueError(f"{name}: {value!r} is not {_article(kind)}") from None
    if name == "retention_tenants":
        days_by_tenant(value)
    if name == "api_origins":
        _check_origins(value)
    zero = name in ZERO_ALLOWED
    if kind in (int, float) and not (0 < converted < inf or (zero and converted == 0)):
        least = "0 or more" if zero else "more than 0"
        raise ValueError(f"{name}: must be {least} and finite, not {value}")
    return converted


def _check_origins(text: str) -> None:
    """Raises ValueError for one that no browser sends, and that would let in no page."""
    for each in listed(text):
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/?#*\s]+", each, re.IGNORECASE):
            raise ValueError(f"api_origins: {each!r} is no origin, such as https://shop.example")


def _truth(name: str, value: Any) -> bool:
    if (said := str(value).lower()) not in TRUTHS:
        raise ValueError(f"{name}: {value!r} is neither true nor false")
    return TRUTHS[said]


def _article(kind: type) -> str:
    return {"int": "a whole number", "float": "a number"}.get(kind.__name__, kind.__name__)
