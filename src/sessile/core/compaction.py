"""Which entries of a log nobody needs any more: the deltas of messages that are whole, or void, and
progress that a turn's end says again."""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sessile.core.codec import encode
from sessile.core.events import TERMINAL_KINDS, Entry, LogCompacted
from sessile.core.ids import Seq, TurnId

FOLDED_MIN = 2
"""As many entries at least become one."""
_NUMBERS = ("current_iteration", "total_iterations", "tokens_used", "total_tokens")


class Compacted(NamedTuple):
    """`entries`: each stands for a range up to its own seq, whose entries go. `upto`: everything
    up to here was looked at, and need not be again."""

    entries: tuple[Entry, ...]
    upto: Seq


def compact(
    page: Sequence[Entry], ends: Sequence[Entry], *, after: Seq, before_ms: int
) -> Compacted:
    """Of a page of a log, the first one behind `after`. `ends`: how the turns of the page ended,
    those that did. It ends before the first turn that has not, or ended at `before_ms` or later."""
    ended = {it.turn_id: it for it in ends if it.kind in TERMINAL_KINDS and it.at_ms < before_ms}
    folded: list[Entry] = []
    run: list[Entry] = []
    upto = after
    for entry in page:
        if entry.turn_id is not None and entry.turn_id not in ended:
            break
        upto = entry.seq
        if _foldable(entry, ended):
            run.append(entry)
        else:
            folded.extend(_folded(run))
            run = []
    folded.extend(_folded(run))
    return Compacted(tuple(folded), upto)


def _foldable(entry: Entry, ended: dict[TurnId | None, Entry]) -> bool:
    if entry.kind == "message.delta":
        return True
    if entry.kind != "turn.progress":
        return False
    # No number of the record may fall by it.
    end, body = json.loads(ended[entry.turn_id].body), json.loads(entry.body)
    return all(body[name] <= end[name] for name in _NUMBERS)


def _folded(run: Sequence[Entry]) -> Iterable[Entry]:
    if len(run) < FOLDED_MIN:
        return
    first, last = run[0], run[-1]
    event = LogCompacted(from_seq=first.seq, to_seq=last.seq)
    yield Entry(last.seq, event.kind, None, last.at_ms, encode(event))
