"""Stand-ins for time and chance that tests hold in their own hands."""

from itertools import count

from sessile.core.ids import AuditId, CallId, MessageId, SessionId, TurnId


class ManualClock:
    """Moves only when it is told to."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, *, milliseconds: int) -> None:
        self._now_ms += milliseconds


class CountingIds:
    """ses_1, ses_2, …; a counter for each prefix."""

    def __init__(self) -> None:
        self._sessions, self._turns = count(1), count(1)
        self._messages, self._calls = count(1), count(1)
        self._acts = count(1)

    def session_id(self) -> SessionId:
        return SessionId(f"ses_{next(self._sessions)}")

    def turn_id(self) -> TurnId:
        return TurnId(f"trn_{next(self._turns)}")

    def message_id(self) -> MessageId:
        return MessageId(f"msg_{next(self._messages)}")

    def call_id(self) -> CallId:
        return CallId(f"call_{next(self._calls)}")

    def audit_id(self) -> AuditId:
        return AuditId(f"aud_{next(self._acts):03}")
