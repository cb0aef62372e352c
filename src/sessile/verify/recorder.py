"""Writes down what was asked and answered, as it happens."""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from sessile.verify.history import History, Op, Run

EVIDENCE_CHARS_MAX = 4_000
SECRET_HEADERS = re.compile("auth|cookie|token|secret|passw|api-?key|credential", re.IGNORECASE)
SECRET_CHARS_MIN = 8
"""What is shorter stands in too many words."""


class Recorder:
    """One run's operations, in the order in which they ended. `seen` is called with each. `hide`
    takes what nobody may read out of what is told."""

    def __init__(self, run: Run, *, seen: Callable[[Op], None] | None = None) -> None:
        self.run = run
        self.hide: Callable[[str], str] = str
        self._began = time.monotonic()
        self._numbers = count(1)
        self._ops: list[Op] = []
        self._seen = seen

    def now(self) -> float:
        return round(time.monotonic() - self._began, 6)

    def add(self, **fields: Any) -> Op:
        fields |= {
            name: shortened(self.hide(fields[name]))
            for name in ("request", "reply") if fields.get(name)
        }  # fmt: skip
        op = Op(number=next(self._numbers), **fields)
        self._ops.append(op)
        if self._seen is not None:
            self._seen(op)
        return op

    def history(self) -> History:
        return History(self.run, tuple(map(self._hidden, self._ops)))

    def _hidden(self, op: Op) -> Op:
        said = json.dumps(op.said)
        hidden = self.hide(said)
        return op if hidden == said else replace(op, said=json.loads(hidden))

    @staticmethod
    def nonce() -> str:
        """128 bits of chance as a word that no backend makes by itself, nor any tokenizer splits
        from its neighbours: letters and digits only."""
        return f"vq{secrets.token_hex(16)}"


def as_request(method: str, path: str, headers: dict[str, str], body: str | None) -> str:
    lines = [f"{method} {path}"]
    lines += [
        f"{name}: {'…' if SECRET_HEADERS.search(name) else value}"
        for name, value in headers.items()
    ]
    if body is not None:
        lines += ["", body]
    return "\n".join(lines)


def as_reply(status: int, body: str) -> str:
    return f"{status}\n\n{body}" if body else str(status)


def hider(headers: Iterable[Mapping[str, str]]) -> Callable[[str], str]:
    """Takes what principals sign in by out of a text, wherever it stands."""
    secret = {
        word
        for each in headers for name, value in each.items() if SECRET_HEADERS.search(name)
        for word in re.split(r"[\s;,=]+", value) if len(word) >= SECRET_CHARS_MIN
    }  # fmt: skip
    if not secret:
        return str
    known = re.compile("|".join(map(re.escape, sorted(secret, key=len, reverse=True))))
    return lambda text: known.sub("…", text)


def shortened(text: str) -> str:
    if len(text) <= EVIDENCE_CHARS_MAX:
        return text
    half = EVIDENCE_CHARS_MAX // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters …\n{text[-half:]}"
