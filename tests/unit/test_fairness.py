"""Who is served before whom."""

from sessile.core.fairness import in_turn
from sessile.core.ids import SessionId, SessionKey, TenantId


def due(tenant: str, at_ms: int) -> tuple[int, SessionKey]:
    return at_ms, SessionKey(TenantId(tenant), SessionId(f"ses_{at_ms}"))


def test_each_tenants_first_is_before_any_tenants_second_and_the_longest_due_before_others() -> (
    None
):
    waits = (due("a", 4), due("a", 1), due("b", 5), due("a", 2), due("b", 3))

    assert [key.session_id for key in in_turn(waits)] == [
        "ses_1", "ses_3", "ses_2", "ses_5", "ses_4"
    ]  # fmt: skip
