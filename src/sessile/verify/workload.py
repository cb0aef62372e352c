"""What is done to a backend so that its faults show. Each part writes its operations into the
history under its own name; what they mean is for the checks to say."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from sessile.verify import pausing, probing, reading, restarting, trespassing, writing
from sessile.verify.steps import Steps

SESSIONS = "sessions"


class Part(NamedTuple):
    """A part is left out where the mapping lacks what it needs."""

    name: str
    needs: set[str]
    run: Callable[[Steps], Awaitable[None]]


PARTS: tuple[tuple[str, set[str], Callable[[Steps], Awaitable[None]]], ...] = (
    ("busy", {SESSIONS}, writing.busy),
    ("cancel", {SESSIONS, "cancel", "turn", "slow turns"}, reading.cancel),
    ("disconnect", {SESSIONS, "stream", "turn", "slow turns"}, reading.disconnect),
    ("basics", {SESSIONS}, writing.basics),
    ("tools", {SESSIONS, "stream", "events.call"}, reading.tools),
    ("at once", {"exclusive"}, writing.at_once),
    ("exclusive", {"exclusive"}, writing.exclusive),
    ("writers", {SESSIONS}, writing.writers),
    ("keys", {SESSIONS, "keys"}, writing.keys),
    ("tenants", {SESSIONS, "two principals"}, trespassing.tenants),
    ("oracle", {SESSIONS, "two principals"}, trespassing.oracle),
    ("fan-out", {SESSIONS, "stream"}, reading.fan_out),
    ("cut", {SESSIONS, "resume"}, reading.cut),
    ("old cursor", {SESSIONS, "resume"}, reading.old_cursor),
    ("late", {SESSIONS, "stream", "events.ended"}, reading.late),
    ("joined", {SESSIONS, "stream", "turn", "slow turns"}, reading.joined),
    ("foreign cursor", {SESSIONS, "resume"}, reading.foreign_cursor),
    ("after the end", {SESSIONS, "stream", "events.ended"}, reading.after_the_end),
    ("gone", {SESSIONS, "delete"}, writing.gone),
    ("probe", {SESSIONS, "probe"}, probing.probe),
    ("long", {SESSIONS}, writing.long),
    ("beside", {SESSIONS}, writing.beside),
    ("pause", {SESSIONS, "pause", "probe", "resume", "events.texts"}, pausing.pause),
    ("restart", {SESSIONS, "restart", "read"}, restarting.restart),
)
NAMES = tuple(name for name, *_ in PARTS)


def parts_for(steps: Steps) -> tuple[Part, ...]:
    """Those that this backend can be asked for."""
    can = steps.can if steps.target.send.exclusive else steps.can | {SESSIONS}
    return tuple(Part(*each) for each in PARTS if each[1] <= can)
