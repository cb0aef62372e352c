"""Nothing is held against a backend for being another than ours."""

from typing import Any

from tests.incidents.conftest import naive as served
from tests.verify.stranger import MAPPING, stranger

from sessile.verify import loading, runner
from sessile.verify.checker import judge

PASSED = {
    "null-session-id", "unusable-session-id", "session-substitution", "split-session",
    "unborn-session-event", "misrouted-event", "cross-tenant-read", "cross-tenant-write",
    "cross-session-replay", "existence-oracle", "lost-message", "duplicate-turn",
    "reordered-turns", "overlapping-turns", "undeclared-busy-policy", "divergent-history",
    "sequence-reuse", "non-monotonic-read", "missing-terminal", "double-terminal", "stuck-run",
    "premature-busy", "non-resumable-stream", "replay-gap", "replay-duplicate",
    "late-subscriber-miss", "fan-out-miss", "unannounced-turn",
}  # fmt: skip


async def test_a_backend_that_does_all_in_another_way_has_nothing_held_against_it() -> None:
    """Numbers for ids, and those of what was deleted again; 429 now and then; what is read is
    behind; a second message refused; cookies; a compressed stream that greets each reader, tells
    the time, has events without an id, and is told again in other pieces."""
    target = loading.read_mapping(MAPPING)
    async with served(stranger()) as site:
        plan = runner.Plan(url=site.url, target=target, limits=runner.LIMITS, messages_long=1)
        history = await runner.play(plan)

    results = judge(history)
    found: dict[str, Any] = {
        each.check.name: each.findings[0].what for each in results if each.findings
    }
    assert found == {}
    assert {each.check.name for each in results if each.verdict == "passed"} >= PASSED
