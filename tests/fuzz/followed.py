"""What reads text of anybody, asked by a fuzzer that follows which lines its inputs reach:
`python -m tests.fuzz.followed -runs=1000000`. It stops at the first exception, and shows its input.
"""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp

import atheris

with atheris.instrument_imports(include=["sessile"]):
    from sessile.adapters.key_texts import KeyTexts
    from sessile.core import codec
    from sessile.core.events import Entry
    from sessile.core.ids import Seq
    from sessile.http.cursors import AHEAD_OF_ALL, seq_of
    from sessile.pusher import frames, requests
    from sessile.pusher.protocol import Connection, Limits
    from sessile.runtime import tickets

KINDS = sorted(codec.kinds())
KEY = b"k" * 32


def connection(data: bytes) -> None:
    one = Connection("1.2", Limits(), now=0)
    one.greet()
    for now, frame in enumerate(data.split(b"\0")):
        for action in one.receive(text(frame), float(now)):
            if hasattr(action, "text"):
                json.loads(action.text)
    assert not one._subscriptions


def signed_bodies(data: bytes) -> None:
    frames.read_member(text(data))
    for read in (requests.read_events, requests.read_batch, requests.form):
        with suppress(requests.RequestInvalid, requests.SessionChannel, requests.EventTooLarge):
            read(data)


def credentials(data: bytes) -> None:
    assert tickets.read(tickets.PREFIX + text(data), KEY, now_ms=9) is None
    KeyTexts().read(text(data))


def cursors(data: bytes) -> None:
    assert 0 <= seq_of(text(data), epoch=1, plain=0) <= AHEAD_OF_ALL


def entries(data: bytes) -> None:
    """Only this server writes them; of one that is damaged it is said so."""
    kind = KINDS[data[0] % len(KINDS)] if data else "x"
    with suppress(ValueError, TypeError, KeyError):
        codec.encode(codec.decode(Entry(Seq(1), kind, None, 0, text(data[1:]))))


def text(data: bytes) -> str:
    return data.decode(errors="replace")


READERS: tuple[Callable[[bytes], None], ...] = (
    connection, signed_bodies, credentials, cursors, entries,
)  # fmt: skip


def one_input(data: bytes) -> None:
    """The first byte names the reader."""
    if data:
        READERS[data[0] % len(READERS)](data[1:])


SEEDS = (
    b'\0{"event":"pusher:subscribe","data":{"channel":"private-x","auth":"a:b"}}\0{"event":"x"}',
    b'\1{"name":"x","channels":["a"],"data":"{}"}',
    b'\1{"batch":[{"name":"x","channel":"a","data":"{}"}]}',
    b"\1socket_id=1.1&channel_name=private-x",
    b"\2st_demo_" + b"0" * 104,
    b"\0031.25",
    b'\4\0{"input":{"type":"message","text":"x"},"turn_id":"trn_1"}',
)
"""From which it begins to change things."""


if __name__ == "__main__":
    corpus = Path(mkdtemp())
    for number, seed in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(seed)
    atheris.Setup([*sys.argv, "-max_len=2048", str(corpus)], one_input)
    atheris.Fuzz()
