"""What a tenant and a user may have of this server, and the refusals where they have it.

Each is checked before anything is written, and none under a lock: as many as ask at the same time,
on all nodes, may pass one that has room for one more.
"""

import logging
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, cast

from sessile.core.context import Principal
from sessile.core.errors import LimitReached
from sessile.core.ids import TenantId, UserId
from sessile.ports.clock import Clock
from sessile.ports.store import Store
from sessile.runtime.rates import Rates
from sessile.runtime.telemetry import Telemetry
from sessile.settings import Settings, WrongSetting

logger = logging.getLogger(__name__)

FRESH_MS = 5_000
"""How long a day's tokens, and the file of the tenants, are taken for what they were."""
DAY_MS = 86_400_000
SESSIONS_RETRY_SECONDS = 60
QUEUE_RETRY_SECONDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """The settings of the same names, or what the file says of the tenant; 0 is no limit."""

    requests_minute_user_max: int
    requests_minute_tenant_max: int
    sessions_user_max: int
    sessions_tenant_max: int
    queue_user_max: int
    queue_tenant_max: int
    tokens_day_user_max: int
    tokens_day_tenant_max: int
    turns_concurrent_user_max: int
    turns_concurrent_tenant_max: int


NAMES = tuple(each.name for each in fields(TenantLimits))


class Limits:
    """Raises WrongSetting where the file of the tenants cannot be read as such."""

    def __init__(
        self, *, store: Store, clock: Clock, settings: Settings, telemetry: Telemetry
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._rates = Rates()
        self._tokens: dict[TenantId, tuple[int, Mapping[UserId, int]]] = {}
        self._default = TenantLimits(**{name: getattr(settings, name) for name in NAMES})
        self._file = Path(settings.limits_file) if settings.limits_file else None
        self._looked_ms = clock.now_ms()
        self._stamp: tuple[int, int] | None = None
        self._tenants: Mapping[TenantId, TenantLimits] = {}
        if self._file is not None:
            self._stamp, self._tenants = _stamp(self._file), read_file(self._file, self._default)

    def of(self, tenant_id: TenantId) -> TenantLimits:
        if self._file is not None:
            self._look(self._file)
        return self._tenants.get(tenant_id, self._default)

    def count_request(self, principal: Principal) -> None:
        """Raises LimitReached where there were too many in the last minute."""
        limits, now_ms = self.of(principal.tenant_id), self._clock.now_ms()
        tenant, user = principal.tenant_id, (principal.tenant_id, principal.user_id)
        counted: list[object] = []
        for name, most, key in (
            ("requests_minute_user_max", limits.requests_minute_user_max, user),
            ("requests_minute_tenant_max", limits.requests_minute_tenant_max, tenant),
        ):
            if most:
                if seconds := self._rates.wait(key, most=most, now_ms=now_ms):
                    raise self.refused(_reached(name, most, seconds))
                counted.append(key)
        self._rates.count(*counted, now_ms=now_ms)

    async def on_open(self, principal: Principal) -> LimitReached | None:
        """What a session more would be too many for."""
        limits = self.of(principal.tenant_id)
        return await self._counted(
            principal,
            "sessions",
            user_max=limits.sessions_user_max,
            tenant_max=limits.sessions_tenant_max,
            seconds=SESSIONS_RETRY_SECONDS,
        )

    async def on_submit(self, principal: Principal) -> LimitReached | None:
        """What a turn more would be too much for."""
        limits = self.of(principal.tenant_id)
        return await self._counted(
            principal,
            "queue",
            user_max=limits.queue_user_max,
            tenant_max=limits.queue_tenant_max,
            seconds=QUEUE_RETRY_SECONDS,
        ) or await self._spent(principal, limits)

    def refused(self, refusal: LimitReached) -> LimitReached:
        """Counted, to be raised."""
        self._telemetry.limited.labels(refusal.limit).inc()
        return refusal

    async def _counted(
        self,
        principal: Principal,
        what: Literal["sessions", "queue"],
        *,
        user_max: int,
        tenant_max: int,
        seconds: int,
    ) -> LimitReached | None:
        for whose, most, user_id in (
            ("user", user_max, principal.user_id),
            ("tenant", tenant_max, None),
        ):
            if most:
                count = await self._store.how_many(
                    principal.tenant_id, what, user_id=user_id, most=most
                )
                if count >= most:
                    return _reached(f"{what}_{whose}_max", most, seconds)
        return None

    async def _spent(self, principal: Principal, limits: TenantLimits) -> LimitReached | None:
        if not (limits.tokens_day_user_max or limits.tokens_day_tenant_max):
            return None
        now_ms = self._clock.now_ms()
        tokens = await self._tokens_of(principal.tenant_id, now_ms=now_ms)
        seconds = (DAY_MS - now_ms % DAY_MS) // 1000 + 1
        for name, most, spent in (
            (
                "tokens_day_user_max",
                limits.tokens_day_user_max,
                tokens.get(principal.user_id, 0),
            ),
            ("tokens_day_tenant_max", limits.tokens_day_tenant_max, sum(tokens.values())),
        ):
            if 0 < most <= spent:
                return _reached(name, most, seconds)
        return None

    async def _tokens_of(self, tenant_id: TenantId, *, now_ms: int) -> Mapping[UserId, int]:
        """Of this day (UTC). While they are read, others take what was there before."""
        today_ms = now_ms - now_ms % DAY_MS
        tokens: Mapping[UserId, int] = {}
        known = self._tokens.get(tenant_id)
        if known is not None and known[0] >= today_ms:
            at_ms, tokens = known
            if now_ms - at_ms < FRESH_MS:
                return tokens
        self._tokens = {each: it for each, it in self._tokens.items() if it[0] > now_ms - FRESH_MS}
        self._tokens[tenant_id] = (now_ms, tokens)
        read = await self._store.tokens(tenant_id, since_ms=today_ms)
        self._tokens[tenant_id] = (now_ms, read)
        return read

    def _look(self, file: Path) -> None:
        """Whether the file has changed. What cannot be read changes nothing, and is logged."""
        now_ms = self._clock.now_ms()
        if now_ms - self._looked_ms < FRESH_MS:
            return
        self._looked_ms = now_ms
        try:
            if (stamp := _stamp(file)) != self._stamp:
                self._stamp = stamp
                self._tenants = read_file(file, self._default)
        except WrongSetting as error:
            logger.error("the limits of tenants were not read", extra={"error": str(error)})


def read_file(file: Path, default: TenantLimits) -> Mapping[TenantId, TenantLimits]:
    """A TOML table for each tenant. Raises WrongSetting, with the place."""
    try:
        tables: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise _absent(file, error) from None
    except ValueError as error:  # of TOML, or of UTF-8
        raise WrongSetting(f"limits_file: {file}: {error}") from None
    return {TenantId(name): _limits(file, name, it, default) for name, it in tables.items()}


def _limits(file: Path, tenant: str, table: object, default: TenantLimits) -> TenantLimits:
    given: dict[str, int] = {}
    if not isinstance(table, dict):
        raise WrongSetting(f"limits_file: {file}: {tenant} is no table of limits")
    for name, most in cast(dict[str, Any], table).items():
        at = f"limits_file: {file}: {tenant}.{name}"
        if name not in NAMES:
            raise WrongSetting(f"{at} is none of {', '.join(NAMES)}")
        if type(most) is not int or most < 0:
            raise WrongSetting(f"{at} is no whole number from 0 on")
        given[name] = most
    return replace(default, **given)


def _stamp(file: Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except OSError as error:
        raise _absent(file, error) from None
    return stat.st_mtime_ns, stat.st_size


def _absent(file: Path, error: OSError) -> WrongSetting:
    return WrongSetting(f"limits_file: {file}: {error.strerror}")


def _reached(limit: str, most: int, seconds: int) -> LimitReached:
    said = f"{limit} is {most}: try again in {seconds} s"
    return LimitReached(said, limit=limit, seconds=seconds)
