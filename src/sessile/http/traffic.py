"""Requests, counted."""

from prometheus_client import Counter, Histogram

from sessile.runtime.telemetry import Telemetry


class Traffic:
    """Requests by route: a path template, never an id."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        known = self._known.get((method, route, status))
        if known is None:
            known = (
                self._telemetry.requests.labels(method, route, str(status)),
                self._telemetry.request_seconds.labels(method, route),
            )
            self._known[method, route, status] = known
        known[0].inc()
        known[1].observe(seconds)
