"""The checks take time that is linear in the history, whatever it is made of: here, one session in
which everything is done by turns."""

import gc
import time
from itertools import cycle
from typing import Any

from sessile.verify.checker import declared, judge
from sessile.verify.history import History, Kind, Op, Run
from sessile.verify.runner import LIMITS
from sessile.verify.workload import NAMES

CAN = tuple({"send", *(need for each in declared() for need in each.needs)} - {"parallel turns"})
SHORT, TIMES, CACHES = 4_000, 16, 3
"""What is longer does not fit into the processor's caches, which tells, too."""


class Told:
    def __init__(self) -> None:
        self.ops: list[Op] = []

    def did(self, kind: Kind, *, part: str, **more: Any) -> None:
        number = len(self.ops)
        given: dict[str, Any] = {
            "client": "c", "principal": "p", "session": "ses_1", "outcome": "ok", "status": 200,
            **more,
        }  # fmt: skip
        self.ops.append(
            Op(number=number, kind=kind, part=part, began=number, ended=number + 0.5, **given)
        )

    def turn(self, number: int, part: str) -> None:
        turn, nonce, stream, cut = f"trn_{number}", f"vq{number:032x}", number // 4, number % 8 < 4
        about: dict[str, Any] = {"session": "ses_1", "turn": turn}
        client, began = f"{part}/{'cut' if cut else 'second'}", len(self.ops)
        told = {**about, "sessions": ["ses_1"], "reply": nonce}
        self.did("send", part=part, client=client, nonce=nonce, key=nonce, said=told)
        for what in ("started", "text", "ended"):
            said = {**about, "stream": stream, "id": f"{number}.{what}", "name": what, "is": what}
            said |= {"seq": None, "state": None, "call": turn, "over": what == "ended"}
            said["text"] = f"run-{stream:08x}-{number}"
            self.did("event", part=part, client=client, said=said, reply=f"{said} {nonce}")
        said = {**about, "state": "completed", "reply": "x", "progress": {"tokens_used": number}}
        self.did("turn", part=part, turn=turn, said=said)
        self.did("cancel", part=part, turn=turn, said={})
        self.did("delete", part=part, principal="q", said={})
        items = [{"id": turn, "role": "user", "text": nonce, "turn": turn}]
        self.did("read", part=part, settled=True, said={"path": str(number % 2), "items": items})
        if number % 4 == 3:
            cursor = f"{number - 8}.text" if cut else None
            said = {"stream": stream, "cursor": cursor, "end": "left", "opened": began - 40}
            said["silence"] = 0.0
            self.did("stream", part=part, client=client, settled=True, said=said)


def seconds(count: int) -> float:
    told = Told()
    parts = cycle([*NAMES, "cut", "joined"])
    told.did("open", part="basics", session=None, said={"session": "ses_1", "sessions": ["ses_1"]})
    for kind in ("pause", "resume"):
        told.did(kind, part="pause", session=None)
    number = 0
    while len(told.ops) < count:
        told.turn(number, next(parts))
        number += 1
    history = History(Run(target="t", can=CAN, limits=LIMITS, seed=0), tuple(told.ops))
    gc.disable()  # what it takes grows with what other tests have left, too
    try:
        began = time.process_time()
        judge(history)
        return time.process_time() - began
    finally:
        gc.enable()


def test_a_history_that_is_many_times_as_long_takes_about_as_many_times_as_long() -> None:
    few = min(seconds(SHORT) for _ in range(3))

    assert seconds(SHORT * TIMES) < CACHES * TIMES * few
