"""This machine's clock and chance: the one place where ids are born."""

import os
import time
from collections.abc import Callable

from sessile.core.ids import CallId, MessageId, NodeId, SessionId, TurnId


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class Uuid7Ids:
    """RFC 9562 version 7: 48 bits of milliseconds, then 74 random bits; 32 hex digits."""

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._now_ms = now_ms
        self._random_bytes = random_bytes

    def session_id(self) -> SessionId:
        return SessionId("ses_" + self._uuid7())

    def turn_id(self) -> TurnId:
        return TurnId("trn_" + self._uuid7())

    def message_id(self) -> MessageId:
        return MessageId("msg_" + self._uuid7())

    def call_id(self) -> CallId:
        return CallId("call_" + self._uuid7())

    def _uuid7(self) -> str:
        chance = int.from_bytes(self._random_bytes(10), "big")
        value = (
            self._now_ms() << 80
            | 0x7 << 76
            | (chance >> 68) << 64
            | 0b10 << 62
            | chance & (1 << 62) - 1
        )
        return f"{value:032x}"


def new_node_id() -> NodeId:
    """Of this process: another after each start, so that no lease is mistaken for one's own."""
    return NodeId(f"node_{os.getpid()}_{os.urandom(6).hex()}")
