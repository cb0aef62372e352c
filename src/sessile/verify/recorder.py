"""Writes down what was asked and answered, as it happens."""

import secrets
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from sessile.verify.history import History, Op, Run

EVIDENCE_CHARS_MAX = 4_000
SECRET_HEADERS = frozenset({"authorization", "cookie", "x-api-key", "api-key"})


class Recorder:
    """One run's operations, in the order in which they ended. `seen` is called with each."""

    def __init__(self, run: Run, *, seen: Callable[[Op], None] | None = None) -> None:
        self.run = run
        self._began = time.monotonic()
        self._numbers = count(1)
        self._ops: list[Op] = []
        self._seen = seen

    def now(self) -> float:
        return round(time.monotonic() - self._began, 6)

    def add(self, **fields: Any) -> Op:
        op = Op(number=next(self._numbers), **fields)
        self._ops.append(op)
        if self._seen is not None:
            self._seen(op)
        return op

    def history(self) -> History:
        return History(self.run, tuple(self._ops))

    @staticmethod
    def nonce() -> str:
        """128 bits of chance as a word that no backend makes by itself, nor any tokenizer splits
        from its neighbours: letters and digits only."""
        return f"vq{secrets.token_hex(16)}"


def as_request(method: str, path: str, headers: dict[str, str], body: str | None) -> str:
    lines = [f"{method} {path}"]
    lines += [
        f"{name}: {'…' if name.lower() in SECRET_HEADERS else value}"
        for name, value in headers.items()
    ]
    if body is not None:
        lines += ["", body]
    return shortened("\n".join(lines))


def as_reply(status: int, body: str) -> str:
    return shortened(f"{status}\n\n{body}" if body else str(status))


def shortened(text: str) -> str:
    if len(text) <= EVIDENCE_CHARS_MAX:
        return text
    half = EVIDENCE_CHARS_MAX // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters …\n{text[-half:]}"
