"""Is a reader who comes back from far behind told all of it, or that it is not?"""

from collections.abc import Iterable
from typing import NamedTuple

from sessile.verify.check import Look, check
from sessile.verify.facts import Facts
from sessile.verify.history import Op


class Replay(NamedTuple):
    """Of a session. `told`, `again`: the turns that an uncut reader heard of behind a cursor, and
    those that one heard of who came back with it, each with its last event. `gap`: that one was
    told that something is missing."""

    back: Op
    told: dict[str, Op]
    again: dict[str, Op]
    gap: bool


@check("silent-gap", "S5", "T3", "what is too old to be told again is passed over without a word",
       "resume", "events.turn", "events.ended")  # fmt: skip
def silent_gap(facts: Facts, look: Look) -> None:
    """A reader who is refused, or told of a gap, knows. By whole turns, for events may be told
    again under other ids and in other pieces; and only of those before one that was told."""
    for session, replay in _replays(facts, "old cursor").items():
        look.tried()
        if replay.gap or not replay.again:
            continue
        later = [turn for turn in replay.again if turn not in replay.told]
        known = [place for place, turn in enumerate(replay.told) if turn in replay.again]
        before = len(replay.told) if later else known[-1]
        missing = [op for op in list(replay.told.values())[:before]
                   if op.said["turn"] not in replay.again]  # fmt: skip
        if missing:
            what = f"Of {len(missing)} turns a reader that came back was told nothing, and of later"
            what += " ones it was; nothing said that there is a gap."
            ops = [missing[0], replay.back, next(reversed(replay.again.values()))]
            look.found(session, what, *ops)


@check("unreplayable-thread", "S6", "T5", "what stands behind a turn that failed is not told again",
       "probe", "resume", "events.turn", "events.ended")  # fmt: skip
def unreplayable_thread(facts: Facts, look: Look) -> None:
    """Beside a session without such a turn, all of which is told again."""
    look.lacks = "no session was told again in which nothing had failed"
    replays = _replays(facts, "probe")
    by_client = {replay.back.client: session for session, replay in replays.items()}
    control = replays.get(by_client.get("probe/control back", ""))
    if control is None or control.told.keys() - control.again.keys():
        return
    look.lacks = "no session was told again in which a turn had failed"
    for how in ("fail", "break"):
        session = by_client.get(f"probe/{how} back", "")
        if session not in replays:
            continue
        replay = replays[session]
        look.tried()
        missing = [op for turn, op in replay.told.items() if turn not in replay.again]
        if missing:
            what = f"Of {len(missing)} turns behind one that failed nothing is told again."
            look.found(session, what, missing[0], replay.back)


def _replays(facts: Facts, part: str) -> dict[str, Replay]:
    """By session, where the reader who came back was let in and its connection held."""
    whole: dict[str, tuple[Op, ...]] = {}
    found: dict[str, Replay] = {}
    for number, stream in sorted(facts.streams.items()):
        if stream.part != part or stream.session is None:
            continue
        events = tuple(facts.events.get(number, ()))
        if stream.said["cursor"] is None:
            whole.setdefault(stream.session, events)
        elif stream.session in whole and stream.ok and stream.said["end"] != "broken":
            first = whole[stream.session]
            ids = [op.said["id"] for op in first]
            if stream.said["cursor"] not in ids:
                continue
            told = first[ids.index(stream.said["cursor"]) + 1 :]
            gap = any(op.said["is"] == "gap" for op in events)
            found[stream.session] = Replay(stream, _by_turn(told), _by_turn(events), gap)
    return found


def _by_turn(events: Iterable[Op]) -> dict[str, Op]:
    return {str(op.said["turn"]): op for op in events if op.said["turn"] is not None}
