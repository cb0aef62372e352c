"""Every setting, once: its default, its unit, what it is for. A flag of `serve` and a variable
`SESSILE_…` of the same name."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import inf
from pathlib import Path
from typing import Any, Self

TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _setting(default: Any, about: str) -> Any:
    return field(default=default, metadata={"about": about})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Read once at start-up and passed on; nothing else reads the environment."""

    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(3006, "Port to listen on; 0 takes a free one.")
    data_dir: Path = _setting(Path("sessile-data"), "Directory of the database and dev-tokens.")
    store_url: str = _setting(
        "sqlite",
        "sqlite (a file in the data directory), memory, or postgresql://USER@HOST/DATABASE, which"
        " many nodes may share.",
    )
    store_sharded: bool = _setting(
        False, "store_url is a cluster that distributes the tables by tenant_id."
    )
    notifier_url: str = _setting(
        "", "How nodes wake each other: empty, by the database; or nats://HOST:4222."
    )
    role: str = _setting(
        "all", "all; surfaces: takes turns and runs none; turns: runs them, and serves no API."
    )
    log_level: str = _setting("info", "debug, info, warning or error.")
    log_format: str = _setting("auto", "text, json, or auto: text on a terminal.")
    console: bool = _setting(True, "The console, a page at /.")
    dev_token: str = _setting("", "The admin's development token; empty: a random one.")

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

    pusher_app_id: str = _setting("1", "Pusher Channels: the app's id, in digits.")
    pusher_key: str = _setting("", "The app's key; empty: the one in the file pusher-app.")
    pusher_secret: str = _setting("", "The app's secret; empty: the one in that file.")
    pusher_public_tenants: str = _setting(
        "", "Tenants whose sessions anyone may follow on sb-ID who knows the id; commas between."
    )
    pusher_client_events: str = _setting(
        "apart", "Where clients may trigger events: off, apart (from sessions), everywhere."
    )
    pusher_sockets_max: int = _setting(5_000, "WebSockets open at once on this node.")
    pusher_channels_max: int = _setting(100, "Channels of one WebSocket.")
    pusher_buffer_chars_max: int = _setting(1_048_576, "Characters that wait for a slow WebSocket.")

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
    webhooks_tenant_max: int = _setting(20, "Webhooks of one tenant.")
    webhook_seconds_max: float = _setting(10.0, "How long a webhook's request may take.")
    webhook_attempts_max: int = _setting(20, "Attempts at one entry; then its webhook is disabled.")
    webhook_retry_seconds_max: float = _setting(
        3_600.0, "How long at most is waited between two attempts."
    )
    webhook_bytes_max: int = _setting(
        262_144, "What is sent of an entry; a larger one is sent without its body."
    )
    webhook_ports: str = _setting("443", "Ports that webhooks are sent to; commas between them.")
    webhook_plain_http: bool = _setting(False, "Webhooks may be http:// addresses too.")
    webhook_private_addresses: bool = _setting(
        False, "Webhooks may lead to addresses that are not of the internet: for development."
    )
    demo_open: bool = _setting(
        False, "The demo systems' routes also where other machines reach the server."
    )

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


def without_password(url: str) -> str:
    """An address as it may be shown, well-formed or not: a password may hold any character."""
    url = re.sub(r"(?<=://)([^@:]*):.*@", r"\1:…@", url, flags=re.DOTALL)
    return re.sub(r"(?<=password=)[^&]*", "…", url)


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
        return Path(value)
    try:
        converted = kind(value)
    except ValueError:
        raise ValueError(f"{name}: {value!r} is not {_article(kind)}") from None
    if kind in (int, float) and not (0 < converted < inf or (converted == 0 and name == "port")):
        raise ValueError(f"{name}: must be more than 0 and finite, not {value}")
    return converted


def _truth(name: str, value: Any) -> bool:
    if (said := str(value).lower()) not in TRUTHS:
        raise ValueError(f"{name}: {value!r} is neither true nor false")
    return TRUTHS[said]


def _article(kind: type) -> str:
    return {"int": "a whole number", "float": "a number"}.get(kind.__name__, kind.__name__)
