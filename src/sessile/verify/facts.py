"""A history, sorted once by what the checks ask for: each of them is then linear in its length."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from sessile.verify.answering import NONCE, Answer, answers_of
from sessile.verify.history import History, Kind, NoHistory, Op

ENDS = ("completed", "failed", "cancelled")
NOBODY = frozenset({"", "null", "none", "undefined", "nil", "nan"})


def is_no_id(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in NOBODY)


class Facts:
    def __init__(self, history: History) -> None:
        self.run = history.run
        self.ops = tuple(sorted(history.ops, key=lambda op: (op.began, op.number)))
        self.by_kind: dict[Kind, list[Op]] = defaultdict(list)
        for op in self.ops:
            self.by_kind[op.kind].append(op)

    def limit(self, name: str) -> float:
        """Raises NoHistory where the run had none of that name."""
        if name not in self.run.limits:
            raise NoHistory(f"the run had no limit {name}")
        return self.run.limits[name]

    def of(self, *kinds: Kind, part: str | None = None) -> Iterator[Op]:
        for kind in kinds:
            for op in self.by_kind[kind]:
                if part is None or op.part == part:
                    yield op

    @cached_property
    def owner(self) -> Mapping[str, str]:
        """Who opened each session."""
        owners: dict[str, str] = {}
        for op in self.of("open", "send", "press"):
            got = op.said.get("session")
            if op.ok and op.session is None and not is_no_id(got):
                owners.setdefault(str(got), op.principal)
        return owners

    @cached_property
    def born(self) -> Mapping[str, Op]:
        """What opened each session."""
        found: dict[str, Op] = {}
        for op in self.of("open", "send", "press"):
            got = op.said.get("session")
            if op.ok and op.session is None and not is_no_id(got):
                found.setdefault(str(got), op)
        return found

    @cached_property
    def twice_born(self) -> frozenset[str]:
        """Ids that were given more than once: of what was deleted, perhaps."""
        given: dict[str, int] = defaultdict(int)
        for op in self.of("open", "send", "press"):
            if op.ok and op.session is None:
                given[str(op.said.get("session"))] += 1
        return frozenset(session for session, times in given.items() if times > 1)

    @cached_property
    def refused_if_absent(self) -> frozenset[Kind]:
        """What is refused of a session that nobody has: only of these does a success say more."""
        return frozenset(
            op.kind for op in self.ops
            if op.part == "oracle" and op.outcome in ("refused", "failed")
            and op.session is not None and op.session not in self.owner
        )  # fmt: skip

    @cached_property
    def said_in(self) -> Mapping[str, list[Op]]:
        """What was accepted in each session."""
        found: dict[str, list[Op]] = defaultdict(list)
        for op in self.of("send", "press"):
            if op.ok and op.nonce is not None:
                found[op.session or str(op.said.get("session"))].append(op)
        return found

    @cached_property
    def asked_by_owner(self) -> Mapping[str, list[Op]]:
        """What each session's owner sent to it and read of it."""
        found: dict[str, list[Op]] = defaultdict(list)
        for op in self.of("send", "read"):
            if op.session is not None and self.owner.get(op.session) == op.principal:
                found[op.session].append(op)
        return found

    @cached_property
    def posts(self) -> Mapping[str, tuple[Op, ...]]:
        """What was sent, by nonce."""
        found: dict[str, list[Op]] = defaultdict(list)
        for op in self.of("send", "press"):
            if op.nonce is not None:
                found[op.nonce].append(op)
        return {nonce: tuple(ops) for nonce, ops in found.items()}

    @cached_property
    def home(self) -> Mapping[str, str]:
        """The session that each nonce was posted to, as its request or its reply named it."""
        homes: dict[str, str] = {}
        for nonce, ops in self.posts.items():
            for op in ops:
                named = op.session or op.said.get("session")
                if not is_no_id(named):
                    homes.setdefault(nonce, str(named))
        return homes

    @cached_property
    def turn_home(self) -> Mapping[str, str]:
        """The session of each turn, by the reply to what began it."""
        return {
            str(op.said["turn"]): str(op.session or op.said.get("session"))
            for op in self.of("send", "press")
            if op.ok and not is_no_id(op.said.get("turn"))
        }

    @cached_property
    def at_rest(self) -> Mapping[str, list[Op]]:
        """The reads of each session at rest by who opened it."""
        found: dict[str, list[Op]] = defaultdict(list)
        for op in self.of("read"):
            session = op.session or ""
            if op.settled and op.ok and self.owner.get(session, op.principal) == op.principal:
                found[session].append(op)
        return found

    @cached_property
    def settled(self) -> Mapping[tuple[str, str], Op]:
        """The last read of each session at rest, by session and path."""
        return {
            (session, op.said["path"]): op for session, reads in self.at_rest.items()
            for op in reads
        }  # fmt: skip

    @cached_property
    def answers(self) -> Mapping[str, Answer]:
        """What a probe answered, by the nonce of the message, in the order in which these were
        sent: as it was first seen in the session that the message was sent to, or first with what
        a tool of it was given."""
        found: dict[str, Answer] = {}
        if "probe" in self.run.can:
            for op in self.of("send", "turn", "read"):
                for answer in answers_of(op):
                    home = self.home.get(answer.nonce)
                    if home is None or home != (op.session or str(op.said.get("session"))):
                        continue
                    known = found.setdefault(answer.nonce, answer)
                    if answer.tool and not known.tool:
                        found[answer.nonce] = answer
        order = {nonce: place for place, nonce in enumerate(self.posts)}
        return dict(sorted(found.items(), key=lambda each: order[each[0]]))

    def last_reads(self, session: str) -> Iterable[tuple[str, Op]]:
        """Of a session at rest, by path."""
        return self._last_reads.get(session, {}).items()

    @cached_property
    def _last_reads(self) -> Mapping[str, Mapping[str, Op]]:
        return {
            session: {op.said["path"]: op for op in reads}
            for session, reads in self.at_rest.items()
        }

    @cached_property
    def told(self) -> Mapping[tuple[str, str], list[Op]]:
        """The events of each turn, by session and turn, from all streams."""
        found: dict[tuple[str, str], list[Op]] = defaultdict(list)
        for op in self.of("event"):
            found[op.session or "", str(op.said["turn"])].append(op)
        return found

    @cached_property
    def gone(self) -> Mapping[str, Op]:
        """The first thing that ended each session for good."""
        found: dict[str, Op] = {}
        for op in self.of("delete", "close"):
            if op.ok and op.session is not None:
                found.setdefault(op.session, op)
        return found

    @cached_property
    def contended(self) -> frozenset[int]:
        """The numbers of sends that were on their way together with another to their session."""
        found: set[int] = set()
        last: dict[str | None, Op] = {}
        for op in self.of("send"):
            before = last.get(op.session)
            if before is not None and op.began < before.ended:
                found |= {before.number, op.number}
            if before is None or before.ended < op.ended:
                last[op.session] = op
        return frozenset(found)

    def across(self, first: Op, then: Op) -> bool:
        """Whether the server was restarted between the two, or during one of them."""
        return any(
            first.began < op.ended and op.began < then.ended for op in self.by_kind["restart"]
        )

    @cached_property
    def events(self) -> Mapping[int, tuple[Op, ...]]:
        """By the number of their stream, in the order in which they came."""
        found: dict[int, list[Op]] = defaultdict(list)
        for op in sorted(self.by_kind["event"], key=lambda op: op.number):
            found[op.said["stream"]].append(op)
        return {stream: tuple(ops) for stream, ops in found.items()}

    @cached_property
    def streams(self) -> Mapping[int, Op]:
        return {op.said["stream"]: op for op in self.of("stream")}

    def whole(self) -> Iterator[tuple[Op, tuple[Op, ...]]]:
        """Streams that were read from a session's beginning until it rested: which the reader
        left, or which were ended behind the end of a turn. Another may have been lost."""
        for number, stream in self.streams.items():
            events, end = self.events.get(number, ()), stream.said["end"]
            over = end == "left" or (end == "ended" and events and events[-1].said["is"] == "ended")
            if over and stream.ok and stream.settled and stream.said["cursor"] is None:
                yield stream, events

    def sent_to(self, stream: Op) -> Iterator[Op]:
        """What began a turn of the stream's session while it was read."""
        sends = self.turns_of(stream.session)
        for place in range(bisect_left(sends, stream.said["opened"], key=_began), len(sends)):
            if sends[place].began > stream.ended:
                return
            if sends[place].ended <= stream.ended:
                yield sends[place]

    def turns_of(self, session: str | None) -> Sequence[Op]:
        """What began each of its turns, by when it began."""
        return self._sends.get(session or "", ())

    @cached_property
    def _sends(self) -> Mapping[str, list[Op]]:
        found: dict[str, list[Op]] = defaultdict(list)
        for op in sorted(self.of("send", "press"), key=_began):
            turn = op.said.get("turn")
            if op.ok and not is_no_id(turn) and str(turn) in self.turn_home:
                found[self.turn_home[str(turn)]].append(op)
        return found


def _began(op: Op) -> float:
    return op.began


def nonces(*texts: str) -> Iterator[str]:
    for text in texts:
        yield from NONCE.findall(text)


def texts(read: Op) -> Iterable[str]:
    return (item["text"] for item in read.said["items"])
