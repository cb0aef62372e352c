"""What does a process write that was paused, and has lost its turn?"""

from collections import defaultdict

from sessile.verify.answering import words_of
from sessile.verify.check import Look, check
from sessile.verify.facts import Facts
from sessile.verify.history import Op


@check("zombie-write", "S7", "T4", "what has lost a turn to another goes on writing it", "pause",
       "probe", "resume", "events.texts")  # fmt: skip
def zombie_write(facts: Facts, look: Look) -> None:
    """In the order in which a reader who comes back is told the log, and of no other."""
    look.lacks = _in_the_way(facts)
    if look.lacks:
        return
    look.lacks = "the stream was not told again"
    for stream in facts.of("stream", part="pause"):
        if not stream.ok or stream.said["cursor"] is None or stream.said["end"] == "broken":
            continue
        turns: dict[str, list[Op]] = defaultdict(list)
        for op in facts.events.get(stream.said["stream"], ()):
            turns[str(op.said["turn"])].append(op)
        for turn, events in turns.items():
            _look_at(facts, look, turn, events)


def _in_the_way(facts: Facts) -> str:
    """Nothing, where it was paused and went on."""
    paused, resumed = next(facts.of("pause"), None), next(facts.of("resume"), None)
    if paused is None or resumed is None:
        return "no word of the probe came on the stream"
    if not paused.ok:
        return f"the server was not paused: {paused.reply}"
    return "" if resumed.ok else f"the server did not go on: {resumed.reply}"


def _look_at(facts: Facts, look: Look, turn: str, events: list[Op]) -> None:
    """A word that was told before, as in a text that is told as a whole, was not written again."""
    last: dict[str, tuple[int, Op]] = {}
    now, since = "", events[0]
    for op in events:
        for run, place in words_of(op):
            before = last.get(run)
            if before is not None and place <= before[0]:
                continue
            if before is not None and run != now:
                look.tried()
                what = f"run-{run} wrote on in {turn} after run-{now} had taken it over."
                look.found(op.session, what, before[1], since, op)
                return
            last[run] = (place, op)
            if run != now:
                now, since = run, op
    look.tried(len(last) > 1)
    if len(last) == 1:
        look.lacks = (
            f"no other process took the turn over within {facts.limit('pause_seconds'):g} s"
        )
