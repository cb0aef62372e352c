"""The caller of a server: keep-alive connections that each send their request again as soon as
it is answered. A process of its own, cheap enough not to be what is measured.

It reads jobs from its standard input, a line of JSON each, and answers in the same way:
`{port, seconds, requests: [text, …], expect, turns_max, forgives}`, a connection for each request,
and `{answered, seconds, cpu_seconds, microseconds: [one for each answer], refused, said}`.
"""

import asyncio
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from subprocess import PIPE, Popen
from typing import Any, NamedTuple, Self

import uvloop

CHUNKED = -1
"""The length of an answer that ends with an empty chunk."""


class Answered(NamedTuple):
    """What one run of the load gave. Latencies in milliseconds, in the order of the answers.
    `refused`: answers that were no success, and `said`: the first of them."""

    answered: int
    seconds: float
    cpu_seconds: float
    latencies_ms: list[float]
    refused: int = 0
    said: str = ""

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


class Load:
    """The process, as whoever measures sees it."""

    def __init__(self, *, processor: int) -> None:
        self._processor = processor

    def __enter__(self) -> Self:
        self._process = Popen(
            [sys.executable, "-m", "bench.load", str(self._processor)],
            stdin=PIPE,
            stdout=PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()

    def run(
        self,
        port: int,
        requests: Sequence[bytes],
        *,
        seconds: float,
        expect: str = "",
        turns_max: int | None = None,
        forgives: bool = False,
    ) -> Answered:
        """One connection for each request, for so long, or until one has had `turns_max` answers.
        Raises where an answer is not 200 or 201, or lacks the text `expect`; where it `forgives`,
        such an answer is counted, and the next request sent."""
        job = {
            "port": port,
            "seconds": seconds,
            "requests": [request.decode() for request in requests],
            "expect": expect,
            "turns_max": turns_max,
            "forgives": forgives,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return Answered(
            answered=answer["answered"],
            seconds=answer["seconds"],
            cpu_seconds=answer["cpu_seconds"],
            latencies_ms=[each / 1000 for each in answer["microseconds"]],
            refused=answer["refused"],
            said=answer["said"],
        )


def request(
    method: str,
    path: str,
    body: Any = None,
    *,
    form: str = "",
    token: str | None = None,
    accept: str = "*/*",
) -> bytes:
    """A whole HTTP/1.1 request. `body`: for JSON; `form`: what is encoded as forms are."""
    payload = form.encode() if body is None else json.dumps(body).encode()
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Accept: {accept}",
        f"Content-Length: {len(payload)}",
    ]
    if body is not None:
        lines.append("Content-Type: application/json")
    elif form:
        lines.append("Content-Type: application/x-www-form-urlencoded")
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode() + payload


class _Run:
    """One job: when it ends, and what it has seen so far."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.expect = job["expect"].encode()
        self.forgives: bool = job["forgives"]
        self.turns_max: float = job["turns_max"] or math.inf
        self.nanoseconds: list[int] = []
        self.refused = 0
        self.said = ""
        self.deadline = time.perf_counter_ns() + int(job["seconds"] * 1e9)


class _Caller(asyncio.Protocol):
    """One connection. The next request goes out in the callback that saw the last answer end."""

    def __init__(self, run: _Run, request: bytes) -> None:
        self._run = run
        self._request = request
        self._seen = b""
        self._whole = 0
        self._turns = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._sent = time.perf_counter_ns()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        seen = self._seen = self._seen + data if self._seen else data
        if not self._whole and not self._read_head(seen):
            return
        if self._whole == CHUNKED:
            if not seen.endswith(b"\r\n0\r\n\r\n"):
                return
        elif len(seen) < self._whole:
            return
        now = time.perf_counter_ns()
        if seen[9:12] in (b"200", b"201") and self._run.expect in seen:
            self._run.nanoseconds.append(now - self._sent)
        elif self._run.forgives:
            self._run.refused += 1
            self._run.said = self._run.said or seen[:600].decode(errors="replace")
        else:
            self._fail(seen[:600].decode(errors="replace"))
            return
        self._seen, self._whole = b"", 0
        self._turns += 1
        if now < self._run.deadline and self._turns < self._run.turns_max:
            self._ask()
        else:
            self._transport.close()
            self.done.set_result(None)

    def _read_head(self, seen: bytes) -> bool:
        """Whether it is there, so that it is known where the answer ends."""
        head = seen.find(b"\r\n\r\n")
        if head < 0:
            return False
        headers = seen[:head].lower()
        at = headers.find(b"content-length:")
        if at >= 0:
            self._whole = head + 4 + int(seen[at + 15 : seen.find(b"\r\n", at)])
        elif b"transfer-encoding: chunked" in headers:
            self._whole = CHUNKED
        else:
            self._fail(f"an answer without a length: {seen[:200]!r}")
        return self._whole != 0

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self._fail(f"the connection was lost: {exc}")

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(why))
        self._transport.close()


async def _answer(job: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    run = _Run(job)
    begun, cpu = time.perf_counter(), time.process_time()
    callers = [_Caller(run, each.encode()) for each in job["requests"]]
    for caller in callers:
        await loop.create_connection(lambda c=caller: c, "127.0.0.1", job["port"])
    await asyncio.wait_for(asyncio.gather(*(caller.done for caller in callers)), 120)
    return {
        "answered": len(run.nanoseconds),
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - cpu,
        "microseconds": [each // 1000 for each in run.nanoseconds],
        "refused": run.refused,
        "said": run.said,
    }


def main(processor: int) -> None:
    os.sched_setaffinity(0, {processor})
    # Standard output is not buffered where PYTHONUNBUFFERED is set, and then is cut short when a
    # line is longer than its pipe.
    with open(sys.stdout.fileno(), "w", closefd=False) as out:
        for line in sys.stdin:
            try:
                answer = uvloop.run(_answer(json.loads(line)))
            except Exception as error:  # noqa: BLE001  whatever it was, whoever measures is told
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
