"""A whole run: find out who is there, do the workload, keep the history."""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from sessile.verify import loading, mapping, paths
from sessile.verify.backend import Backend
from sessile.verify.history import History, Kind, Op, Run
from sessile.verify.hooks import Hook
from sessile.verify.recorder import Recorder
from sessile.verify.saying import parsed
from sessile.verify.steps import Steps
from sessile.verify.workload import Part, parts_for

CONNECTIONS_MAX = 200
PARTS_AT_ONCE = 6
ALONE = ("long", "beside", "pause", "restart")
"""Parts that measure, or stop all that runs: nothing else may run meanwhile."""
LIMITS: Mapping[str, float] = {
    "run_seconds": 900.0,
    "create_seconds": 5.0,
    "stuck_seconds": 30.0,
    "told_seconds": 5.0,
    "stop_seconds": 1.0,
    "silence_seconds": 20.0,
    "pause_seconds": 40.0,
    "restart_seconds": 60.0,
    "recovery_seconds": 120.0,
    "growth_ratio": 3.0,
    "contention_ratio": 5.0,
}
"""What counts as too long, or as too much more; each is a flag of `sessile verify`."""


class CannotVerify(Exception):
    """What is in the way, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`only`: the parts to do; all, where empty. `hooks`: by name, `restart`, and `pause` together
    with `resume`."""

    url: str
    target: mapping.Mapping
    limits: Mapping[str, float]
    seed: int = 0
    messages_long: int = 60
    only: Collection[str] = ()
    hooks: Mapping[Kind, Hook] = field(default_factory=dict[Kind, Hook])


def check_address(url: str, *, owned: bool, hooks: Collection[str] = ()) -> None:
    """Raises CannotVerify where it is not this machine's and nobody said whose it is, or there are
    hooks."""
    host = _host(url)
    if owned and not hooks:
        return
    if not all(each.is_loopback for each in _addresses(host)):
        if hooks:
            name = next(iter(hooks))
            raise CannotVerify(f"{host} is not this machine; --{name} is for a server of it")
        raise CannotVerify(
            f"{host} is not this machine. A run writes sessions and loads the server: say"
            " --i-own-this-server where that is yours to decide"
        )


def _host(url: str) -> str:
    """Raises CannotVerify."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        host, port, parts = None, None, urlsplit("")
    if host is None or port == 0 or parts.scheme not in ("http", "https"):
        raise CannotVerify(f"{shown(url)} is no address of a server: http://HOST:PORT")
    return host


def shown(url: str) -> str:
    """Without a user and a password."""
    return re.sub("//[^/]*@", "//", url)


def client_of(url: str, **given: Any) -> httpx2.AsyncClient:
    """One that keeps no cookies, which would make a second principal the first; and that asks
    this machine without anybody between, whatever the environment says."""
    local = all(each.is_loopback for each in _addresses(_host(url)))
    client = httpx2.AsyncClient(base_url=url, trust_env=not local, **given)
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return client


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Raises CannotVerify."""
    try:
        found = {str(each[4][0]).partition("%")[0] for each in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError) as error:
        raise CannotVerify(f"{host} has no address: {error}") from None
    return [ipaddress.ip_address(each) for each in found]


async def recognise(url: str) -> str:
    """The name of the shipped mapping that fits what answers there. Raises CannotVerify."""
    async with client_of(url, timeout=10) as client:
        try:
            await client.get("/")
        except httpx2.HTTPError as error:
            raise CannotVerify(
                f"nothing answers at {shown(url)}: {error!r}; start the server first"
            ) from None
        for name in loading.shipped():
            detect = loading.load(name).detect
            if detect is not None and await _fits(client, detect):
                return name
    names = ", ".join(loading.shipped())
    raise CannotVerify(
        f"what answers at {shown(url)} is not known; name it by --mapping, one of {names}, or a"
        " file of your own: docs/verify.md says how one is written"
    )


async def _fits(client: httpx2.AsyncClient, detect: mapping.Detect) -> bool:
    method, _, path = detect.request.call.partition(" ")
    try:
        reply = await client.request(method, path, json=detect.request.json)
        value = parsed(reply.text) if reply.is_success else None
    except httpx2.HTTPError:
        return False
    if value is None:
        return False
    return all(paths.text(value, at) == wanted for at, wanted in detect.has.items())


def with_tokens(target: mapping.Mapping, given: Mapping[str, str]) -> mapping.Mapping:
    """The mapping with what each principal signs in by: the tokens that were given, else those of
    the file that the mapping names."""
    tokens = dict(given)
    if not tokens and target.tokens is not None:
        tokens = _of_file(Path(target.tokens.file))
    scheme = target.tokens.scheme if target.tokens is not None else "Bearer"
    headers = {
        name: {**target.principals.get(name, {}), "Authorization": f"{scheme} {token}"}
        for name, token in tokens.items()
    }
    return replace(target, principals={**target.principals, **headers})


def _of_file(path: Path) -> dict[str, str]:
    """p: a plain user; q: one of another tenant."""
    if not path.is_file():
        raise CannotVerify(
            f"there is no {path} here: run it where the server was started, or give tokens by"
            " --token p=… --token q=…"
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    logins = [fields for line in lines if len(fields := line.partition("#")[0].split()) == 4]
    users = [fields for fields in logins if fields[3] == "user"]
    if not users:
        raise CannotVerify(f"{path} has no plain user to act as")
    token, tenant = users[0][:2]
    others = [each[0] for each in users if each[1] != tenant]
    return {"p": token, **({"q": others[0]} if others else {})}


async def _signed_in(target: mapping.Mapping, client: httpx2.AsyncClient) -> mapping.Mapping:
    """Raises CannotVerify."""
    principals = dict(target.principals)
    for name, asked in target.sign_in.items():
        method, _, path = asked.request.call.partition(" ")
        try:
            reply = await client.request(
                method, path, json=asked.request.json, headers=dict(asked.request.headers)
            )
        except httpx2.HTTPError as error:
            raise CannotVerify(f"{asked.request.call} was not answered: {error!r}") from None
        token = paths.text(parsed(reply.text) if reply.is_success else None, asked.token)
        if not token:
            raise CannotVerify(f"{asked.request.call} gave {name} no token: {reply.status_code}")
        bearer = {"Authorization": f"Bearer {token}"}
        principals[name] = {**principals.get(name, {}), **bearer}
    return replace(target, principals=principals)


async def play(
    plan: Plan,
    *,
    seen: Callable[[Op], None] | None = None,
    told: Callable[[str], None] | None = None,
    recorded: Callable[[Recorder], None] | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> History:
    """The workload, against the backend. `told` is called with each part that has ended;
    `recorded` with what keeps the history, for whoever stops it midway."""
    target = plan.target
    can = list(target.can)
    if len(target.principals) > 1:
        can.append("two principals")
    can += (name for name in ("restart", "pause") if name in plan.hooks)
    run = Run(
        target=target.name, url=shown(plan.url), can=tuple(can), limits=dict(plan.limits),
        seed=plan.seed,
    )  # fmt: skip
    recorder = Recorder(run, seen=seen)
    if recorded is not None:
        recorded(recorder)
    bounds = httpx2.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=50)
    given: dict[str, Any] = {} if transport is None else {"transport": transport}
    async with client_of(plan.url, limits=bounds, **given) as client:
        target = await _signed_in(target, client)
        steps = Steps(
            Backend(target, recorder, client),
            seed=plan.seed,
            messages_long=plan.messages_long,
            hooks=plan.hooks,
        )
        slots = asyncio.Semaphore(PARTS_AT_ONCE)
        parts = [part for part in parts_for(steps) if not plan.only or part.name in plan.only]

        async def do(part: Part) -> None:
            async with slots:
                await part.run(steps)
            if told is not None:
                told(part.name)

        await steps.pace()
        async with asyncio.TaskGroup() as tasks:
            for part in parts:
                if part.name not in ALONE:
                    tasks.create_task(do(part))
        for part in parts:
            if part.name in ALONE:
                await do(part)
    return recorder.history()
