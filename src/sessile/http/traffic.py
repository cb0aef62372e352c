"""Requests, counted."""

from prometheus_client import CollectorRegistry, Counter, Histogram


class Traffic:
    """Requests by route: a path template, never an id."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "sessile_http_requests",
            "Requests by route and status",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "sessile_http_request_seconds",
            "From the request's head to the reply's end, by route",
            ["method", "route"],
            registry=registry,
        )
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        known = self._known.get((method, route, status))
        if known is None:
            known = (
                self._requests.labels(method, route, str(status)),
                self._seconds.labels(method, route),
            )
            self._known[method, route, status] = known
        known[0].inc()
        known[1].observe(seconds)
