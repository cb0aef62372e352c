"""Does a reader get everything, wherever it comes from and comes back to?"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from sessile.verify.check import Look, check
from sessile.verify.facts import ENDS, Facts
from sessile.verify.history import Op

CUT = ("cut", "restart")
"""Parts in which a reader comes back: its connection was cut, or its server killed."""


@check(
    "non-resumable-stream", "S5", "T3", "a stream that was cut cannot be taken up again", "stream"
)
def non_resumable_stream(facts: Facts, look: Look) -> None:
    """Also where no event has an id to come back with."""
    known = facts.run.can
    tells = {f"events.{name}" for name in ("started", "ended", "texts")} & set(known)
    for number, events in facts.events.items():
        # One that is of no turn, such as a refusal or a sign of life, need not be come back to.
        of_turns = [op for op in events if op.said["is"] in ("started", "text", "ended")]
        if (of_turns or not tells) and all(op.said["id"] is None for op in events):
            look.tried()
            stream = facts.streams.get(number)
            evidence = (stream, events[0]) if stream is not None else (events[0],)
            look.found(events[0].session, "No event has an id to come back with.", *evidence)
    for stream in facts.of("stream", part="cut"):
        if stream.said["cursor"] is not None and stream.outcome not in ("unknown", "busy"):
            look.tried()
            if not stream.ok:
                what = f"Coming back with {stream.said['cursor']} was answered {stream.status}."
                look.found(stream.session, what, stream)


@check("replay-gap", "S5", "T3", "a reader that comes back has missed something", "resume")
def replay_gap(facts: Facts, look: Look) -> None:
    """Pieces of text may be put together by the time that they are told again."""
    came_back = _comings_back(facts)
    for session, whole, joined in _joined(facts):
        got = {op.said["id"] for op in joined}
        same_text = _texts(whole) == _texts(joined)
        last: Op | None = None
        for op in whole:
            look.tried()
            if op.said["id"] in got:
                last = op
                continue
            if op.said["is"] == "text" and op.said.get("text") and same_text:
                continue
            after = "its first cursor" if last is None else last.said["id"]
            what = f"A reader that came back after {after} was not told {op.said['id']}."
            cursor = None if last is None else last.said["id"]
            look.found(session, what, op, *came_back[session, cursor])


def _texts(events: list[Op]) -> dict[str, str]:
    """What was told of each turn's answer, each event once."""
    texts: dict[str, list[str]] = defaultdict(list)
    for op in {op.said["id"]: op for op in events}.values():
        if op.said["is"] == "text":
            texts[str(op.said["turn"])].append(op.said.get("text", ""))
    return {turn: "".join(each) for turn, each in texts.items()}


@check("replay-duplicate", "S5", "T3", "a reader that comes back is told twice", "resume")
def replay_duplicate(facts: Facts, look: Look) -> None:
    for session, _, joined in _joined(facts):
        seen: dict[str, Op] = {}
        for op in joined:
            look.tried()
            first = seen.setdefault(op.said["id"], op)
            if first.said["stream"] != op.said["stream"]:
                look.found(session, f"{op.said['id']} came twice.", first, op)


@check(
    "late-subscriber-miss", "S3", "T3", "who comes late learns of no end", "stream", "events.ended"
)
def late_subscriber_miss(facts: Facts, look: Look) -> None:
    accepted = {op.session for op in facts.of("send", part="late") if op.ok}
    turns: dict[str, list[Op]] = defaultdict(list)
    for op in facts.of("turn", part="late"):
        turns[op.session or ""].append(op)
    for stream in facts.of("stream", part="late"):
        if stream.session not in accepted:
            continue
        events = facts.events.get(stream.said["stream"], ())
        asked = turns[stream.session or ""]
        look.tried()
        if stream.outcome in ("unknown", "busy") or stream.said["end"] == "broken":
            continue
        if any(op.said["is"] == "ended" for op in events):
            continue
        if not any(op.ok for op in asked):
            what = "Neither the stream nor the turn tells the end."
            look.found(stream.session, what, stream, *asked)


@check(
    "fan-out-miss", "S10", "T3", "two readers of one session are told different things", "stream"
)
def fan_out_miss(facts: Facts, look: Look) -> None:
    """Until the last turn's end, for which both have waited: one of them left first."""
    readers: dict[str, list[tuple[Op, tuple[Op, ...]]]] = defaultdict(list)
    for stream, events in facts.whole():
        if stream.part == "fan-out":
            readers[stream.session or ""].append((stream, _to_the_end(events)))
    for session, both in readers.items():
        first, told = both[0]
        for other, events in both[1:]:
            one, another = _places(told), _places(events)
            look.tried(bool(one or another))
            if one != another:
                what = (
                    f"{len(set(one) ^ set(another))} events came to one of two readers only, or in"
                    " another order."
                )
                look.found(session, what, first, other)


@check("unannounced-turn", "S3", "T3", "a reader is not told of a turn", "stream", "events.turn")
def unannounced_turn(facts: Facts, look: Look) -> None:
    """It was accepted while the reader listened, or was still under way when it was asked for
    after that, and has ended since."""
    asked: dict[str, list[Op]] = defaultdict(list)
    for op in facts.of("turn", part="joined"):
        if op.ok:
            asked[str(op.turn)].append(op)
    sends: dict[str | None, list[Op]] = defaultdict(list)
    for op in facts.of("send", part="joined"):
        sends[facts.turn_home.get(str(op.said.get("turn")))].append(op)
    for stream, events in facts.whole():
        told = {str(op.said["turn"]) for op in events}
        joined = _under_way(stream, sends[stream.session], asked)
        for send in [*facts.sent_to(stream), *joined]:
            look.tried()
            if str(send.said["turn"]) not in told:
                what = f"No event of {send.said['turn']} came to a reader of all of it."
                look.found(stream.session, what, send, stream)


@check(
    "silent-stream", "S5", "T3", "a turn runs, and no byte comes for long", "stream", "slow turns"
)
def silent_stream(facts: Facts, look: Look) -> None:
    look.lacks = f"no stream was read for {facts.limit('silence_seconds'):.0f} s"
    for stream in facts.of("stream"):
        silence, began = stream.said["silence"], set[str]()
        for op in facts.events.get(stream.said["stream"], ()):
            if op.said["is"] == "started":
                began.add(op.said["turn"])
            elif op.said["is"] == "ended":
                began.discard(op.said["turn"])
        if began:
            continue  # whose end was not told, which is another fault
        if stream.ended - stream.began < facts.limit("silence_seconds"):
            continue
        look.tried()
        if silence > facts.limit("silence_seconds"):
            look.found(stream.session, f"Nothing came for {silence:.0f} s.", stream)


def _comings_back(facts: Facts) -> dict[tuple[str, str | None], list[Op]]:
    """The first request of the reader that was cut off with each cursor; of each session, too."""
    found: dict[tuple[str, str | None], list[Op]] = defaultdict(list)
    for op in facts.of("stream"):
        if op.part in CUT and op.said["cursor"] is not None:
            found.setdefault((op.session or "", op.said["cursor"]), [op])
            found.setdefault((op.session or "", None), [op])
    return found


def _to_the_end(events: tuple[Op, ...]) -> tuple[Op, ...]:
    ends = [number for number, op in enumerate(events) if op.said["is"] == "ended"]
    return events[: ends[-1] + 1] if ends else events


def _began(op: Op) -> float:
    return op.began


def _under_way(stream: Op, sends: list[Op], asked: dict[str, list[Op]]) -> Iterator[Op]:
    """What was sent before the stream was opened, and ended while it was read: the last of it."""
    opened: float = stream.said["opened"]
    for place in range(bisect_left(sends, opened, key=_began) - 1, -1, -1):
        told = asked[str(sends[place].said["turn"])]
        if not told or told[-1].began < opened:
            return
        if _ends_while(stream, told):
            yield sends[place]


def _ends_while(stream: Op, asked: list[Op]) -> bool:
    heard = [op.said["state"] for op in asked if op.began >= stream.said["opened"]]
    return bool(heard) and heard[0] in ("queued", "running") and heard[-1] in ENDS


def _places(events: tuple[Op, ...]) -> list[str]:
    """Which events they are; whether their content is the same is for sequence-reuse to judge.
    Without ids: what they say of turns, and text as a whole, for it may come in other pieces."""
    places: list[str] = []
    text = ""
    for op in events:
        if op.said["id"] is not None:
            places.append(str(op.said["id"]))
        elif op.said["is"] == "text":
            text += op.said.get("text", "")
        elif op.said["is"] in ("started", "ended") or "call" in op.said:
            places.append(f"{op.said['name']} of {op.said['turn']}, {op.said.get('call')}")
    return [*places, text] if text else places


def _joined(facts: Facts) -> Iterator[tuple[str, list[Op], list[Op]]]:
    """A session, what an uncut reader was told of it from where another was first cut, and what
    that one was told when it came back, as far as it was let in and read on."""
    whole: dict[str, list[Op]] = defaultdict(list)
    joined: dict[str, list[Op]] = defaultdict(list)
    cursors: dict[str, str] = {}
    last: dict[str, Op] = {}
    for number, stream in sorted(facts.streams.items()):
        events = [op for op in facts.events.get(number, ()) if op.said["id"]]
        if stream.part not in CUT or stream.session is None:
            continue
        if not stream.client.endswith("/cut"):
            whole[stream.session] += events
        elif stream.said["cursor"] is not None:
            cursors.setdefault(stream.session, stream.said["cursor"])
            joined[stream.session] += events
            last[stream.session] = stream
    for session, cursor in cursors.items():
        ids = [op.said["id"] for op in whole[session]]
        if cursor not in ids:
            continue
        told, got = (
            whole[session][ids.index(cursor) + 1 :],
            {op.said["id"] for op in joined[session]},
        )
        if not last[session].ok or last[session].said["end"] in ("cut", "broken"):
            # It did not come back for the rest.
            read = max((place for place, op in enumerate(told) if op.said["id"] in got), default=-1)
            told = told[: read + 1]
        yield session, told, joined[session]
