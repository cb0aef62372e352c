"""Counters and log lines. Every line carries ids as fields, and never a message's text."""

import logging

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sessile.core.session import Turn
from sessile.ports.store import Committed

logger = logging.getLogger(__name__)


class Telemetry:
    """This node's figures. Those named `must_stay_zero` are faults of Sessile itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.turns_ended = Counter(
            "sessile_turns_ended", "Turns by how they ended", ["status"], registry=self.registry
        )
        self.turns_running = Gauge(
            "sessile_turns_running", "Turns that run on this node", registry=self.registry
        )
        self.sessions_waiting = Gauge(
            "sessile_sessions_waiting", "Sessions that wait for a slot here", registry=self.registry
        )
        self.turn_seconds = Histogram(
            "sessile_turn_seconds", "From accepted to ended", registry=self.registry
        )
        self.entries = Counter(
            "sessile_entries_appended", "Entries written by this node", registry=self.registry
        )
        self.turns_taken_over = Counter(
            "sessile_turns_taken_over",
            "Turns that this node took over from one that was lost",
            registry=self.registry,
        )
        self.fence_refusals = Counter(
            "sessile_fence_refusals",
            "Late writes that the store refused: each is a fault that was stopped",
            registry=self.registry,
        )
        self.streams = Gauge(
            "sessile_streams_open", "Readers that follow a session", registry=self.registry
        )
        self.requests = Counter(
            "sessile_http_requests",
            "Requests by route and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "sessile_http_request_seconds",
            "From a request's head to its reply's end, by route",
            ["method", "route"],
            registry=self.registry,
        )
        self._count_hints()
        self._count_refusals()
        self.mismatches = Counter(
            "sessile_session_mismatches_must_stay_zero",
            "A context used in another turn than its own",
            registry=self.registry,
        )
        self.orphans = Counter(
            "sessile_orphaned_calls_must_stay_zero",
            "Tool calls whose turn ended without their outcome",
            registry=self.registry,
        )
        self._by_status = {
            status: self.turns_ended.labels(status)
            for status in ("completed", "failed", "cancelled", "interrupted")
        }

    def _count_refusals(self) -> None:
        self.limited = Counter(
            "sessile_limited",
            "Requests that were refused because a limit was reached",
            ["limit"],
            registry=self.registry,
        )

    def _count_hints(self) -> None:
        self.sweep_finds = Counter(
            "sessile_sweep_finds", "Due turns that no hint had told of", registry=self.registry
        )
        self.hints_foreign = Counter(
            "sessile_hints_foreign",
            "Payloads of hints that no node of this database and version has sent: dropped",
            registry=self.registry,
        )

    def turn_ended(self, turn: Turn) -> None:
        self._by_status[turn.status].inc()
        if turn.ended_at_ms is not None:
            self.turn_seconds.observe((turn.ended_at_ms - turn.created_at_ms) / 1000)

    def turn_begun(self, started: Committed) -> None:
        """Count and log a turn that was taken over from a node that was lost, if this start did so.
        `late_ms`: since the lease had ended, by the store's clock; None where a restart ended
        it."""
        lost, turn = started.lost, started.turn
        if lost is None or turn is None:
            return
        self.turns_taken_over.inc()
        logger.info(
            "a turn is taken over",
            extra={
                "session_id": turn.session_id,
                "turn_id": turn.turn_id,
                "attempt": turn.attempt,
                "lost_node": lost.owner,
                "late_ms": started.entries[-1].at_ms - lost.until_ms if lost.until_ms else None,
            },
        )
