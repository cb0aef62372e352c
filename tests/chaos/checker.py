"""What must hold of a round's record: pure, after the fact, and able to fail.

The logs are walked by the simulation's checker, with the fences that texts and results say they
were written under. What is added here joins the logs to what clients, readers and tools saw.
"""

import re
import sys
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.chaos.record import Line, Record, digest, load
from tests.simulation import checker
from tests.simulation.checker import Final, Run, Seen

from sessile.core.codec import to_json
from sessile.core.events import Entry, Progress
from sessile.core.ids import SessionKey
from sessile.core.session import Session, SessionHead, Turn
from sessile.core.transcript import TEXT_KINDS

FENCE = re.compile(r"fence-(\d+)\.")
MARKED = frozenset({"message.delta", "message.added", "tool.completed", "turn.progress"})
"""The kinds whose bodies say under which fence they were written."""

ONCE = frozenset({"charge", "crawl", "grind", "asks.pay"})
"""The tools of `served` that are not idempotent."""


def faults_of(record: Record) -> list[str]:
    """Sentences; none, and nothing was found."""
    finals = {final.key: final for final in map(_final, record.finals)}
    faults: list[str] = []
    for final in finals.values():
        faults += checker.faults_of_log(final, _fences(final.log))
    faults += checker.faults_of_world(finals, _seen(record, finals))
    by_id = {key.session_id: final for key, final in finals.items()}
    faults += _births(record, by_id)
    faults += _order(record, by_id)
    faults += _streams(record, by_id)
    faults += _histories(record, by_id)
    faults += _calls(record)
    faults += _told(record)
    return faults


def takeovers(record: Record, *, only: Iterable[str] | None = None) -> list[float]:
    """Of each attempt that ran on a node when it was killed: seconds from the kill to the next
    attempt's start."""
    kills = {line["node"]: line["wall_ms"] for line in record.of("kill") if line["node"]}
    if only is not None:
        kills = {node: kills[node] for node in only}
    found: list[float] = []
    for line in record.finals:
        running: dict[str, str] = {}
        for entry in (Entry(*each) for each in line["log"]):
            if entry.turn_id is None:
                continue
            if entry.kind == "turn.started":
                lost = running.get(entry.turn_id)
                killed_ms = kills.get(lost or "")
                if killed_ms is not None and entry.at_ms >= killed_ms:
                    found.append((entry.at_ms - killed_ms) / 1000)
                running[entry.turn_id] = re.findall(r'"node":"([^"]*)"', entry.body)[0]
            elif entry.kind in checker.TERMINAL_KINDS or entry.kind == "turn.awaiting":
                running.pop(entry.turn_id, None)
    return sorted(found)


# -- as the simulation's checker takes it


def _final(line: Line) -> Final:
    key = SessionKey(line["tenant"], line["session"])
    row = {**line["row"], "grants": tuple(line["row"]["grants"])}
    return Final(
        key,
        tuple(Entry(*each) for each in line["log"]),
        SessionHead(**{**line["head"], "key": key}),
        Session(**{**row, "key": key}),
        tuple(Turn(**{**turn, "progress": Progress(**turn["progress"])}) for turn in line["turns"]),
        line["owner"] is not None,
    )


def _fences(log: Iterable[Entry]) -> dict[int, int]:
    """Under which fence entries were written, as their own texts say; the oldest, of several."""
    return {
        entry.seq: min(map(int, marks))
        for entry in log
        if entry.kind in MARKED and (marks := FENCE.findall(entry.body))
    }


def _seen(record: Record, finals: dict[SessionKey, Final]) -> Seen:
    seen = Seen()
    keys = {key.session_id: key for key in finals}
    for line in record.history:
        key = keys.get(line.get("session", ""))
        if key is None:
            continue
        match line["what"]:
            case "opened":
                seen.canaries[key] = line["canary"]
            case "accepted":
                seen.accepted.add((key, line["turn"], line["text"]))
            case "cancelled":
                seen.cancelled.add((key, line["turn"]))
            case "closed":
                seen.closed.add(key)
            case "answering" if line["granted"]:
                seen.approved.add((key, line["call"]))
            case "answered":
                seen.answered.add((key, line["call"], line["granted"]))
            case _:
                pass
    seen.runs = [
        Run(
            session=line["session"],
            call_id=line["call"],
            name=line["name"],
            act=line["act"],
            text=line["canary"],
            once=line["name"] in ONCE,
            at_seconds=line["at"],
            current=False,
        )
        for line in record.runs
        if line["what"] == "run"
    ]
    return seen


# -- what only many processes show


def _births(record: Record, finals: dict[str, Final]) -> Iterator[str]:
    opened = Counter(line["session"] for line in record.of("opened"))
    for session_id in opened.keys() - finals.keys():
        yield f"{session_id}: opened, and not there"
    for session_id in finals.keys() - opened.keys():
        yield f"{session_id}: there, and opened by nobody"
    for session_id, times in opened.items():
        if times > 1:
            yield f"{session_id}: {times} clients were given it"


def _order(record: Record, finals: dict[str, Final]) -> Iterator[str]:
    """What was accepted before another was first sent stands before it in the log. What was
    acknowledged is there once; what was never answered, at most once."""
    sent: dict[tuple[str, str], float] = {}
    accepted: defaultdict[str, list[Line]] = defaultdict(list)
    for line in record.of("sent", "accepted"):
        if line["what"] == "sent":
            sent[line["session"], line["text"]] = line["at"]
        else:
            accepted[line["session"]].append(line)
    for session_id, lines in accepted.items():
        if session_id not in finals:
            continue
        places = _places(finals[session_id].log)
        acknowledged: list[tuple[float, int, str]] = []
        for line in lines:
            if (place := places.get(line["text"])) is None:
                yield f"{session_id}: {line['text']!r} was acknowledged and is not there"
            else:
                acknowledged.append((line["at"], place, line["text"]))
        acknowledged.sort()
        times = [at for at, _, _ in acknowledged]
        for _, place, text in acknowledged:
            before = acknowledged[: bisect_left(times, sent[session_id, text])]
            if late := [other for _, seq, other in before if seq > place]:
                yield f"{session_id}: {text!r} stands before {late[0]!r}, which was accepted first"


def _places(log: Iterable[Entry]) -> dict[str, int]:
    """The seq at which each text was accepted first."""
    places: dict[str, int] = {}
    for entry in log:
        if entry.kind in ("turn.queued", "turn.steered"):
            for text in re.findall(r'"text":"([^"]*)"', entry.body):
                places.setdefault(text, entry.seq)
    return places


def _streams(record: Record, finals: dict[str, Final]) -> Iterator[str]:
    """Over all connections of a reader: each entry once, in order, as it is in the log, to the
    end."""
    got: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for line in record.of("read"):
        got[line["session"]] += [(seq, shown) for seq, shown in line["got"]]
        if line["how"] == "reset":
            yield f"{line['session']}: its reader was sent a reset"
    for line in record.of("opened"):
        session_id = line["session"]
        if session_id not in finals:
            continue
        log = finals[session_id].log
        expected = [(entry.seq, digest(entry)) for entry in log]
        read = got[session_id]
        for place, (was, should) in enumerate(zip(read, expected, strict=False), start=1):
            if was != should:
                why = f"got {was}" if was[0] != should[0] else "got another text"
                yield f"{session_id}: its reader, where entry {place} was due, {why}"
                break
        else:
            if len(read) != len(expected):
                yield f"{session_id}: its reader got {len(read)} of {len(expected)} entries"


def _histories(record: Record, finals: dict[str, Final]) -> Iterator[str]:
    """Each history is a prefix of each later one."""
    known: dict[tuple[str, int], str] = {}
    reads: defaultdict[str, list[Line]] = defaultdict(list)
    for line in record.of("history"):
        if line["session"] in finals:
            reads[line["session"]].append(line)
    for session_id, lines in reads.items():
        said = [e.seq for e in finals[session_id].log if e.kind in TEXT_KINDS]
        for line in lines:
            seqs = [seq for seq, _ in line["read"]]
            if seqs != said[: len(seqs)]:
                yield f"{session_id}: a history of {seqs} is no prefix of {said}"
            for seq, shown in line["read"]:
                if known.setdefault((session_id, seq), shown) != shown:
                    yield f"{session_id}: message {seq} was read in two versions"
            earlier = [len(each["read"]) for each in lines if each["at"] < line["began"]]
            if earlier and max(earlier) > len(seqs):
                yield f"{session_id}: a history of {max(earlier)} messages had {len(seqs)} later"


def _calls(record: Record) -> Iterator[str]:
    """A call of a tool that is not idempotent ran once, by its id too; and no agent was given what
    was said elsewhere."""
    lines = [line for line in record.runs if line["what"] == "run"]
    times = Counter(line["call"] for line in lines if line["name"] in ONCE)
    for call_id, count in times.items():
        if count > 1:
            yield f"call {call_id} is not idempotent, and was run {count} times"
    for line in record.runs:
        if line["what"] == "wrong":
            yield f"{line['session']}: its agent was given {line['text']!r}"


def _told(record: Record) -> Iterator[str]:
    """What should not be said at all."""
    for line in record.of("broken"):
        yield f"{line['path']}: {line['status']} {line['told']}"
    for line in record.of("gave up"):
        yield f"{line['path']}: no node answered for long"
    for line in record.of("ended"):
        yield f"{line['place']}: the node ended by itself"
    for line in record.of("unrest"):
        yield f"not at rest: {line['left']}"
    for line in record.of("complaint"):
        yield f"{line['place']}: {line['message']}: {line['exception']}"


def summary(record: Record) -> Counter[str]:
    """The figures of a round."""
    counts = Counter(line["what"] for line in record.history)
    ends = Counter(
        entry[1] for line in record.finals for entry in line["log"] if entry[1].startswith("turn.")
    )
    taken = takeovers(record)
    return (
        counts
        + ends
        + Counter(
            {
                "entries": sum(len(line["log"]) for line in record.finals),
                "connections cut": sum(line["count"] for line in record.of("cuts")),
                "tools run": len(record.runs),
                "attempts taken over": len(taken),
                "takeover p50 ms": round(1000 * taken[len(taken) // 2]) if taken else 0,
                "takeover max ms": round(1000 * taken[-1]) if taken else 0,
            }
        )
    )


if __name__ == "__main__":
    judged = load(Path(sys.argv[1]))
    sys.stdout.write(f"{to_json(summary(judged))}\n")
    found = faults_of(judged)
    sys.stdout.write("".join(f"{fault}\n" for fault in found) or "nothing found\n")
    sys.exit(bool(found))
