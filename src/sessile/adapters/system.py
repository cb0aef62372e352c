"""This machine's clock and chance: the one place where ids are born."""

import os
import time
from base64 import b64encode
from collections.abc import Callable
from threading import Lock

from sessile.core.ids import AuditId, CallId, MessageId, NodeId, SessionId, TurnId, WebhookId

_CHANCE_BITS = 74
_STEP_BITS = 48
"""Wide enough that the next id is not guessed, and millions of steps fit in a millisecond."""

_DRAWN_AT_ONCE = 64


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class Uuid7Ids:
    """RFC 9562 version 7: 48 bits of milliseconds, then 74 random bits; 32 hex digits.

    Each id of one source sorts behind those before it, in whatever thread, also within one
    millisecond and when the clock goes back: then it is the last one and a random step (method 2
    of section 6.2).
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._drawn: list[bytes] = []
        self._last = 0
        self._lock = Lock()

    def session_id(self) -> SessionId:
        return SessionId("ses_" + self._uuid7())

    def turn_id(self) -> TurnId:
        return TurnId("trn_" + self._uuid7())

    def message_id(self) -> MessageId:
        return MessageId("msg_" + self._uuid7())

    def call_id(self) -> CallId:
        return CallId("call_" + self._uuid7())

    def audit_id(self) -> AuditId:
        return AuditId("aud_" + self._uuid7())

    def _uuid7(self) -> str:
        with self._lock:
            moment = self._now_ms() << _CHANCE_BITS
            if moment > self._last:
                self._last = moment | self._chance(_CHANCE_BITS)
            else:
                self._last += 1 + self._chance(_STEP_BITS)
            last = self._last
        value = (
            last >> _CHANCE_BITS << 80
            | 0x7 << 76
            | (last >> 62 & 0xFFF) << 64
            | 0b10 << 62
            | last & (1 << 62) - 1
        )
        return f"{value:032x}"

    def _chance(self, bits: int) -> int:
        if not self._drawn:
            # Many at once: a call of the system for each id was a twentieth of a store's turn.
            pool = self._random_bytes(10 * _DRAWN_AT_ONCE)
            self._drawn = [pool[at : at + 10] for at in range(0, len(pool), 10)]
        return int.from_bytes(self._drawn.pop(), "big") & (1 << bits) - 1


def new_node_id() -> NodeId:
    """Of this process: another after each start, so that no lease is mistaken for one's own. It
    stands in logs that users read, and tells them nothing of the machine."""
    return NodeId(f"node_{os.urandom(6).hex()}")


def new_secret() -> bytes:
    """Of a database that is not kept, and makes none itself: 32 bytes."""
    return os.urandom(32)


def new_webhook_id() -> WebhookId:
    return WebhookId(f"whk_{os.urandom(16).hex()}")


def new_webhook_secret() -> str:
    """As Standard Webhooks has it: 32 bytes, in Base64."""
    return f"whsec_{b64encode(os.urandom(32)).decode()}"


def new_socket_id() -> str:
    """Of one WebSocket, as Pusher Channels wants it: never that of another, on any node."""
    first, second = (int.from_bytes(os.urandom(8), "big") for _ in range(2))
    return f"{first}.{second}"
