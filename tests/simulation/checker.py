"""What must hold of every log and of what clients and tools saw: pure, after the fact.

Each rule answers with sentences that say what is wrong; no sentence, nothing found.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Literal

from sessile.adapters.memory import MemoryStore
from sessile.adapters.memory.rows import Kept
from sessile.core import codec
from sessile.core.events import (
    TERMINAL_KINDS,
    ApprovalDenied,
    ApprovalGranted,
    ApprovalRequested,
    Entry,
    Event,
    MessageAdded,
    MessageDelta,
    MessageReset,
    Progress,
    SessionClosed,
    SessionGranted,
    SessionOpened,
    SessionRevoked,
    Terminal,
    ToolCompleted,
    ToolFailed,
    ToolOutcome,
    ToolRefused,
    ToolStarted,
    TurnAwaiting,
    TurnCancelled,
    TurnCancelRequested,
    TurnCompleted,
    TurnEdited,
    TurnProgress,
    TurnQueued,
    TurnStarted,
    TurnSteered,
)
from sessile.core.ids import CallId, MessageId, SessionKey, TurnId
from sessile.core.session import (
    Session,
    SessionHead,
    Turn,
    evolve,
    evolve_session,
    unborn,
)
from sessile.core.transcript import TEXT_KINDS
from sessile.core.turns import evolve_turn
from sessile.settings import Settings

CANARY = re.compile(r"canary-\d+-")
ASKING = frozenset({"asks.pay", "asks.recall", "asks.wire"})
"""The tools of which each call asks for an approval."""
GRANT_OF = {"needs.refund": "refund", "asks.wire": "money"}
"""The tools that need a grant, and which."""
HISTORY_ENTRIES_MAX = Settings().history_entries_max
_decoded = lru_cache(maxsize=4096)(codec.decode)


@dataclass(frozen=True, slots=True)
class Final:
    """One session as the store holds it in the end; or held it, before it was deleted."""

    key: SessionKey
    log: tuple[Entry, ...]
    head: SessionHead
    session: Session
    turns: tuple[Turn, ...]
    leased: bool
    gone: bool = False


def final(store: MemoryStore, key: SessionKey) -> Final | None:
    """None where the session was deleted."""
    kept = store._kept.get(key)
    return None if kept is None else final_of(key, kept, gone=False)


def final_of(key: SessionKey, kept: Kept, *, gone: bool) -> Final:
    turns = tuple(sorted(kept.turns.values(), key=lambda turn: turn.position))
    leased = kept.lease.owner is not None
    return Final(key, tuple(kept.log), kept.head, kept.session, turns, leased, gone)


# One log ----------------------------------------------------------------------------------------


def faults_of_log(final: Final, fences: Mapping[int, int], *, ended: bool = True) -> list[str]:
    """`fences`: under which fence each entry of a turn's appends and ends was written. `ended`:
    the world has come to rest, so that nothing may be left running or waiting."""
    walk = _Walk(fences)
    faults = list(_numbering(final.log))
    if faults:
        return [f"{final.key.session_id}: {fault}" for fault in faults]
    events = [_decoded(entry) for entry in final.log]
    for entry, event in zip(final.log, events, strict=True):
        walk.step(entry, event)
    faults += walk.faults
    if ended:
        faults += walk.left()
        if final.leased:
            faults.append("the lease is held by nobody's turn")
    faults += _rows(final, events)
    return [f"{final.key.session_id}: {fault}" for fault in faults]


def _numbering(log: Iterable[Entry]) -> Iterator[str]:
    for place, entry in enumerate(log, start=1):
        if entry.seq != place:
            yield f"seq {entry.seq} at place {place}"
            return


def _rows(final: Final, events: list[Event]) -> Iterator[str]:
    head = evolve(unborn(final.key, final.head.user_id), events)
    if head != final.head:
        yield f"the head row is {final.head}, the log says {head}"
    session: Session | None = None
    turns: dict[TurnId, Turn] = {}
    for entry, event in zip(final.log, events, strict=True):
        session = evolve_session(session, event, key=final.key, at_ms=entry.at_ms)
        if entry.turn_id is not None:
            turn = evolve_turn(
                turns.get(entry.turn_id), event, key=final.key, seq=entry.seq, at_ms=entry.at_ms
            )
            if turn is not None:
                turns[entry.turn_id] = turn
    if session != final.session:
        yield f"the session row is {final.session}, the log says {session}"
    for kept, folded in zip(
        final.turns, sorted(turns.values(), key=lambda turn: turn.position), strict=False
    ):
        if kept != folded and _shown(kept) != _shown(folded):
            yield f"the turn row is {kept}, the log says {folded}"
    if len(final.turns) != len(turns):
        yield f"{len(final.turns)} turn rows, {len(turns)} turns in the log"


def _shown(turn: Turn) -> object:
    """As JSON has it: tuples and lists are one, and what no database takes was replaced."""
    return codec.to_json(asdict(turn))


@dataclass(slots=True)
class _Message:
    """A message in the making."""

    turn_id: TurnId
    lengths: Counter[str] = field(default_factory=Counter[str])


class _Walk:
    """One pass over a log."""

    def __init__(self, fences: Mapping[int, int]) -> None:
        self.faults: list[str] = []
        self._fences = fences
        self._fence = 0
        self._queued: dict[TurnId, TurnQueued] = {}
        self._known: set[TurnId] = set()
        self._running: TurnId | None = None
        self._attempt = 0
        self._ended: dict[TurnId, str] = {}
        self._to_cancel: TurnId | None = None
        self._closed = False
        self._open: dict[MessageId, _Message] = {}
        self._whole: set[MessageId] = set()
        self._announced: dict[CallId, TurnId] = {}
        self._started: dict[CallId, TurnId] = {}
        self._parents: dict[CallId, CallId | None] = {}
        """Of the calls that were started."""
        self._outcomes: set[CallId] = set()
        self._steers: dict[TurnId, TurnSteered] = {}
        self._delivered: Counter[TurnId] = Counter()
        self._user_messages: Counter[MessageId] = Counter()
        self._progress: defaultdict[TurnId, Progress] = defaultdict(Progress)
        self._gates = _Gates(self._fault)

    def step(self, entry: Entry, event: Event) -> None:
        at = f"entry {entry.seq} {entry.kind}"
        if entry.seq == 1 and not isinstance(event, SessionOpened):
            self._fault(f"{at}: a log begins with session.opened")
        if self._closed and not self._may_follow_the_close(event):
            self._fault(f"{at}: after the session was closed")
        fence = self._fences.get(entry.seq)
        if fence is not None and fence != self._fence:
            self._fault(f"{at}: written under fence {fence}, but the fence is {self._fence}")
        self._gates.step(at, event)
        match event:
            case TurnQueued():
                self._queue(at, event)
            case TurnEdited():
                if event.turn_id not in self._queued:
                    self._fault(f"{at}: {event.turn_id} is not queued")
            case TurnStarted():
                self._start(at, event)
            case TurnSteered():
                self._of_running(at, event.turn_id)
                self._steers[event.steer_id] = event
            case TurnCancelRequested():
                self._of_running(at, event.turn_id)
                self._to_cancel = event.turn_id
            case SessionClosed():
                self._closed = True
            case _ if isinstance(event, Terminal):
                self._end(at, event)
            case _:
                self._within(at, event)

    def left(self) -> Iterator[str]:
        """What is not as it is when a world has come to rest."""
        for turn_id in self._known - self._ended.keys():
            yield f"{turn_id} never ended"
        for steer_id in self._steers:
            if self._delivered[steer_id] != 1:
                yield f"steer {steer_id} was delivered {self._delivered[steer_id]} times"
        yield from self._gates.left()

    # -- turns

    def _may_follow_the_close(self, event: Event) -> bool:
        if isinstance(event, TurnQueued | TurnCancelled):
            return True
        turn_id = codec.turn_of(event)
        return turn_id is not None and turn_id == self._running

    def _queue(self, at: str, event: TurnQueued) -> None:
        if event.turn_id in self._known:
            self._fault(f"{at}: {event.turn_id} was accepted before")
        if event.position != len(self._known) + 1:
            self._fault(f"{at}: position {event.position} follows {len(self._known)}")
        if event.turn_id in self._steers:
            self._delivered[event.turn_id] += 1
        self._known.add(event.turn_id)
        self._queued[event.turn_id] = event

    def _start(self, at: str, event: TurnStarted) -> None:
        if event.fence != self._fence + 1:
            self._fault(f"{at}: fence {event.fence} follows {self._fence}")
        self._fence = event.fence
        if event.attempt == 1:
            if self._running is not None:
                self._fault(f"{at}: {event.turn_id} started while {self._running} ran")
            first = min(self._queued.values(), key=lambda queued: queued.position, default=None)
            if first is None or first.turn_id != event.turn_id:
                self._fault(f"{at}: {event.turn_id} started, but the queue's first is {first}")
            self._queued.pop(event.turn_id, None)
        elif event.turn_id != self._running or event.attempt != self._attempt + 1:
            self._fault(
                f"{at}: attempt {event.attempt} of {event.turn_id} follows"
                f" attempt {self._attempt} of {self._running}"
            )
        self._running, self._attempt = event.turn_id, event.attempt

    def _end(self, at: str, event: Terminal) -> None:
        if event.turn_id in self._ended:
            self._fault(f"{at}: {event.turn_id} has ended before, {self._ended[event.turn_id]}")
        self._ended[event.turn_id] = event.kind
        self._count(at, event.turn_id, event)
        if event.turn_id != self._running:
            if self._queued.pop(event.turn_id, None) is None:
                self._fault(f"{at}: {event.turn_id} neither ran nor waited")
            return
        if self._to_cancel == event.turn_id and not isinstance(event, TurnCancelled):
            self._fault(f"{at}: {event.turn_id} was to be cancelled")
        for call_id, turn_id in (self._announced | self._started).items():
            if turn_id == event.turn_id and call_id not in self._outcomes:
                self._fault(f"{at}: call {call_id} has no outcome")
        for message_id, message in self._open.items():
            if message.turn_id == event.turn_id:
                self._fault(f"{at}: message {message_id} was left open")
        self._open.clear()
        self._running, self._attempt, self._to_cancel = None, 0, None

    # -- what a turn writes

    def _within(self, at: str, event: Event) -> None:
        turn_id = codec.turn_of(event)
        if turn_id is not None:
            self._of_running(at, turn_id)
        match event:
            case MessageAdded():
                self._message(at, event)
            case MessageDelta():
                self._delta(at, event)
            case MessageReset():
                if self._open.pop(event.message_id, None) is None:
                    self._fault(f"{at}: {event.message_id} was not open")
                self._whole.add(event.message_id)
            case ToolStarted():
                if event.call_id in self._started or event.call_id in self._outcomes:
                    self._fault(f"{at}: {event.call_id} was started before")
                assert event.turn_id is not None
                self._started[event.call_id] = event.turn_id
                self._parents[event.call_id] = event.parent_call_id
            case _ if isinstance(event, ToolOutcome) and event.turn_id is None:
                self._outcomes.add(event.call_id)  # what a fork has copied
            case _ if isinstance(event, ToolOutcome):
                if event.call_id in self._outcomes:
                    self._fault(f"{at}: {event.call_id} has an outcome already")
                begun = self._started.keys() | self._announced.keys()
                if event.call_id not in begun and not isinstance(event, ToolRefused):
                    self._fault(f"{at}: {event.call_id} was never asked for")
                parent = self._parents.get(event.call_id, event.parent_call_id)
                if event.parent_call_id != parent:
                    self._fault(f"{at}: from within {event.parent_call_id}, started in {parent}")
                self._outcomes.add(event.call_id)
            case TurnAwaiting():
                for call in event.calls:
                    self._announced[call["call_id"]] = event.turn_id
            case TurnProgress():
                self._count(at, event.turn_id, event)
            case _:
                pass

    def _message(self, at: str, event: MessageAdded) -> None:
        self._open.pop(event.message_id, None)
        if event.message_id in self._whole:
            self._fault(f"{at}: {event.message_id} was whole, or void, before")
        self._whole.add(event.message_id)
        if event.steer_id is not None:
            self._delivered[event.steer_id] += 1
        if event.turn_id is not None and event.role == "assistant":
            for part in event.parts:
                if part["type"] == "tool_call":
                    self._announced[part["call_id"]] = event.turn_id

    def _delta(self, at: str, event: MessageDelta) -> None:
        if event.message_id in self._whole:
            self._fault(f"{at}: {event.message_id} was whole, or void, before")
        message = self._open.setdefault(event.message_id, _Message(event.turn_id))
        if event.offset != message.lengths[event.channel]:
            self._fault(f"{at}: offset {event.offset} at {message.lengths[event.channel]}")
        message.lengths[event.channel] += len(event.text)

    def _of_running(self, at: str, turn_id: TurnId) -> None:
        if turn_id in self._ended:
            self._fault(f"{at}: {turn_id} has ended")
        elif turn_id != self._running:
            self._fault(f"{at}: of {turn_id}, but {self._running} runs")

    def _count(self, at: str, turn_id: TurnId, now: Progress) -> None:
        before = self._progress[turn_id]
        for name in ("current_iteration", "tokens_used"):
            if getattr(now, name) < getattr(before, name):
                self._fault(f"{at}: {name} fell from {getattr(before, name)}")
        self._progress[turn_id] = before.raised_to(now)

    def _fault(self, sentence: str) -> None:
        self.faults.append(sentence)


class _Gates:
    """What the log says of approvals and grants, entry by entry."""

    def __init__(self, fault: Callable[[str], None]) -> None:
        self._fault = fault
        self._grants: set[str] = set()
        self._grants_since_start: frozenset[str] = frozenset()
        """Without a break."""
        self._asked: Counter[CallId] = Counter()
        self._answers: dict[CallId, bool] = {}
        self._approved: dict[CallId, TurnId] = {}
        """Calls that were approved, and neither ran nor were given up."""
        self._waiting: set[CallId] = set()
        self._alone = False
        self._of: TurnId | None = None

    def step(self, at: str, event: Event) -> None:
        match event:
            case SessionGranted():
                self._grants.add(event.grant)
            case SessionRevoked():
                self._grants.discard(event.grant)
                self._grants_since_start -= {event.grant}
            case TurnStarted():
                self._go_on(at)
                self._of = event.turn_id
                self._grants_since_start = frozenset(self._grants)
            case ApprovalRequested():
                self._asked[event.call_id] += 1
                if self._asked[event.call_id] > 1:
                    self._fault(f"{at}: {event.call_id} was asked for before")
            case TurnAwaiting():
                self._waiting, self._alone = set(event.call_ids), True
                if not self._waiting or not self._waiting <= self._asked.keys():
                    self._fault(f"{at}: waits for {event.call_ids}, which were not asked for")
            case ApprovalGranted() | ApprovalDenied():
                self._answer(at, event)
            case ToolStarted():
                self._start(at, event)
            case _ if isinstance(event, ToolOutcome) and event.turn_id is not None:
                self._end_call(at, event)
            case _ if isinstance(event, Terminal):
                self._end(at, event)
            case MessageAdded() | MessageDelta() | TurnProgress() | TurnSteered() if self._alone:
                self._fault(f"{at}: of a turn that waits")
            case _:
                pass

    def left(self) -> Iterator[str]:
        """What is not as it is when a world has come to rest."""
        for call_id in self._asked.keys() - self._answers.keys():
            yield f"the approval of {call_id} was never answered"

    def _go_on(self, at: str) -> None:
        if self._waiting:
            self._fault(f"{at}: {sorted(self._waiting)} wait for an answer")
        self._waiting, self._alone = set(), False

    def _answer(self, at: str, event: ApprovalGranted | ApprovalDenied) -> None:
        call_id = event.call_id
        if call_id in self._answers:
            self._fault(f"{at}: {call_id} was answered before")
        elif call_id not in self._waiting:
            self._fault(f"{at}: nobody waits for {call_id}")
        self._waiting.discard(call_id)
        self._answers[call_id] = isinstance(event, ApprovalGranted)
        if isinstance(event, ApprovalGranted):
            self._approved[call_id] = event.turn_id

    def _start(self, at: str, event: ToolStarted) -> None:
        self._approved.pop(event.call_id, None)
        if self._asks(event) and not self._answers.get(event.call_id):
            self._fault(f"{at}: {event.call_id} was not approved")
        needed = GRANT_OF.get(event.name, event.grant)
        if needed is not None and needed not in self._grants:
            self._fault(f"{at}: {event.call_id} needs {needed!r}, granted: {sorted(self._grants)}")
        if self._alone:
            self._fault(f"{at}: of a turn that waits")

    def _end_call(self, at: str, event: ToolOutcome) -> None:
        call_id = event.call_id
        if isinstance(event, ToolCompleted | ToolFailed) and self._asks(event):
            if not self._answers.get(call_id):
                self._fault(f"{at}: {call_id} was not approved")
        if isinstance(event, ToolRefused):
            self._refused(at, event)
            self._approved.pop(call_id, None)

    def _refused(self, at: str, event: ToolRefused) -> None:
        needed = GRANT_OF.get(event.name)
        if event.verdict == "needs_grant" and needed in self._grants_since_start:
            self._fault(f"{at}: {event.call_id} had what it needs")
        if event.verdict != "needs_grant" and self._answers.get(event.call_id):
            self._fault(f"{at}: {event.call_id} was approved, and refused")

    def _asks(self, event: ToolStarted | ToolOutcome) -> bool:
        return event.name in ASKING or event.call_id in self._asked

    def _end(self, at: str, event: Terminal) -> None:
        if isinstance(event, TurnCompleted):
            for call_id, turn_id in self._approved.items():
                if turn_id == event.turn_id:
                    self._fault(f"{at}: {call_id} was approved, and did not run")
        if event.turn_id == self._of:
            self._go_on(at)


# What was seen ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """A tool began its work: the record of it lies outside the system, as a sent letter does.

    `act`: which piece of work of which input it is. `current`: its turn's fence was the
    session's when it began.
    """

    session: str
    call_id: CallId | None
    name: str
    act: str
    text: str
    once: bool
    at_seconds: float
    current: bool


@dataclass(frozen=True, slots=True)
class Read:
    """All that one reader got, over all its connections, in the order in which it got it."""

    name: str
    key: SessionKey
    after: int
    entries: tuple[Entry, ...]
    whole: bool
    """It read on until the world had come to rest."""
    told: Literal["closed", "gone"] | None = None
    """What it was told of the session's end."""


@dataclass(frozen=True, slots=True)
class Told:
    """The history that an agent was given: the seq of each of its messages."""

    key: SessionKey
    turn_id: TurnId
    seqs: tuple[int, ...]


@dataclass(slots=True)
class Seen:
    """What clients, readers, tools and agents saw."""

    canaries: dict[SessionKey, str] = field(default_factory=dict[SessionKey, str])
    accepted: set[tuple[SessionKey, TurnId, str]] = field(
        default_factory=set[tuple[SessionKey, TurnId, str]]
    )
    """Acknowledged inputs: the turn that was answered, and the text."""
    cancelled: set[tuple[SessionKey, TurnId]] = field(
        default_factory=set[tuple[SessionKey, TurnId]]
    )
    """Acknowledged cancels."""
    closed: set[SessionKey] = field(default_factory=set[SessionKey])
    """Acknowledged closes."""
    forked: dict[SessionKey, tuple[SessionKey, TurnId]] = field(
        default_factory=dict[SessionKey, tuple[SessionKey, TurnId]]
    )
    """Acknowledged forks: of which session, at which turn."""
    deleting: set[SessionKey] = field(default_factory=set[SessionKey])
    """Sessions that somebody meant to delete."""
    deleted: set[SessionKey] = field(default_factory=set[SessionKey])
    """Acknowledged deletes; and sessions that somebody was told are not there."""
    approved: set[tuple[SessionKey, CallId]] = field(default_factory=set[tuple[SessionKey, CallId]])
    """Calls that somebody meant to approve."""
    answered: set[tuple[SessionKey, CallId, bool]] = field(
        default_factory=set[tuple[SessionKey, CallId, bool]]
    )
    """Acknowledged answers to calls that waited: whether they approve."""
    runs: list[Run] = field(default_factory=list[Run])
    reads: list[Read] = field(default_factory=list[Read])
    told: list[Told] = field(default_factory=list[Told])
    wrong: list[str] = field(default_factory=list[str])
    """What was wrong on the spot, such as a context of another session."""
    completed_at: dict[str, float] = field(default_factory=dict[str, float])
    """When each act's outcome became durable."""


def faults_of_world(finals: Mapping[SessionKey, Final], seen: Seen) -> list[str]:
    """All but the single logs: what joins them to what was seen."""
    faults = list(seen.wrong)
    for key, final in finals.items():
        faults += _crossed(final, seen.canaries.get(key, ""))
        faults += _marks(final)
        faults += _gated(final, seen)
    faults += _acknowledged(finals, seen)
    faults += _side_effects(seen)
    for read in seen.reads:
        if read.key in finals:
            faults += _stream(finals[read.key], read)
    for told in seen.told:
        if told.key in finals:
            faults += _history(finals[told.key].log, told)
    return faults


def faults_of_calm(finals: Mapping[SessionKey, Final]) -> Iterator[str]:
    """Where nothing befalls the nodes, no attempt is lost."""
    for key, final in finals.items():
        for turn in final.turns:
            waits = sum(
                entry.kind == "turn.awaiting" and entry.turn_id == turn.turn_id
                for entry in final.log
            )
            if turn.attempt > 1 + waits:
                yield f"{key.session_id}: {turn.turn_id}: {turn.attempt} attempts in calm weather"


def _crossed(final: Final, canary: str) -> Iterator[str]:
    for entry in final.log:
        for found in CANARY.findall(entry.body):
            if found != canary:
                yield f"{final.key.session_id}: {found} in entry {entry.seq} {entry.kind}"


def _marks(final: Final) -> Iterator[str]:
    """An input is accepted once, however often it was sent under one key; without one it is sent
    again only when nothing was stored."""
    marks = Counter[str]()
    for entry in final.log:
        if entry.kind in ("turn.queued", "turn.steered"):
            event = _decoded(entry)
            assert isinstance(event, TurnQueued | TurnSteered)
            if isinstance(event, TurnSteered) or event.when_busy != "steer":
                marks[event.input["text"]] += 1
    for text, times in marks.items():
        if times > 1:
            yield f"{final.key.session_id}: {text!r} was accepted {times} times"


def _gated(final: Final, seen: Seen) -> Iterator[str]:
    """What ran behind a gate was let through by the log, and answers are what was answered."""
    here = f"{final.key.session_id}: "
    events = [_decoded(entry) for entry in final.log]
    answers: dict[CallId, bool] = {}
    started: set[CallId] = set()
    for event in events:
        match event:
            case ApprovalGranted() | ApprovalDenied():
                answers[event.call_id] = isinstance(event, ApprovalGranted)
            case ToolStarted():
                started.add(event.call_id)
            case _:
                pass
    for run in seen.runs:
        if run.session != final.key.session_id or run.call_id is None:
            continue
        if run.name in ASKING and not answers.get(run.call_id):
            yield f"{here}{run.act} ran, and was not approved"
        if run.name in GRANT_OF and run.call_id not in started:
            yield f"{here}{run.act} ran, and its start is not in the log"
    for call_id, granted in answers.items():
        if granted and (final.key, call_id) not in seen.approved:
            yield f"{here}{call_id} was approved by nobody"
    for key, call_id, granted in sorted(seen.answered):
        if key == final.key and answers.get(call_id) is not granted:
            yield f"{here}{call_id} was acknowledged as {granted}, and is {answers.get(call_id)}"


def _acknowledged(finals: Mapping[SessionKey, Final], seen: Seen) -> Iterator[str]:
    for key, turn_id, text in sorted(seen.accepted):
        if key not in finals:
            continue
        here = f"{key.session_id}: "
        turns = {turn.turn_id: turn for turn in finals[key].turns}
        if turn_id not in turns:
            yield f"{here}{turn_id} was acknowledged and is not there"
        elif not any(
            entry.turn_id == turn_id and text in entry.body
            for entry in finals[key].log
            if entry.kind in ("turn.queued", "turn.steered")
        ):
            yield f"{here}{turn_id} was acknowledged with {text!r}, which is not there"
    for key, turn_id in sorted(seen.cancelled):
        if key not in finals:
            continue
        status = {turn.turn_id: turn.status for turn in finals[key].turns}.get(turn_id)
        if finals[key].gone and status in ("running", "awaiting"):
            continue  # it was to end so
        if status != "cancelled":
            yield f"{key.session_id}: the cancel of {turn_id} was acknowledged, and it is {status}"
    for key in seen.closed:
        if key in finals and finals[key].head.status != "closed":
            yield f"{key.session_id}: the close was acknowledged, and it is active"


def _side_effects(seen: Seen) -> Iterator[str]:
    times = Counter((run.session, run.act) for run in seen.runs if run.once)
    for (session, act), count in times.items():
        if count > 1:
            yield f"{session}: {act} is not idempotent, and was run {count} times"
    for run in seen.runs:
        done = seen.completed_at.get(run.act)
        if done is not None and run.current and run.at_seconds > done:
            yield f"{run.session}: {run.act} was completed, and was run again"


def _stream(final: Final, read: Read) -> Iterator[str]:
    log = final.log
    expected = log[read.after : read.after + len(read.entries)]
    if read.entries != expected:
        seqs = [entry.seq for entry in read.entries]
        yield f"{read.name} of {read.key.session_id} from {read.after} got {seqs}"
    elif final.gone or read.told == "gone":
        if read.whole and (read.told is None or not final.gone):
            yield f"{read.name} of {read.key.session_id}: {final.gone=}, and was told {read.told}"
    elif read.whole and read.after + len(read.entries) != len(log):
        got = read.after + len(read.entries)
        yield f"{read.name} of {read.key.session_id} got {got} of {len(log)} entries"


def _history(log: tuple[Entry, ...], told: Told) -> Iterator[str]:
    """What an agent is given is all that was said until then, in order, and nothing else; what was
    called within a call is not among it."""
    if not told.seqs:
        yield f"{told.key.session_id}: the agent of {told.turn_id} was given no history"
        return
    said = [entry for entry in log[: told.seqs[-1]] if entry.kind in TEXT_KINDS]
    expected = [entry.seq for entry in said[-HISTORY_ENTRIES_MAX:] if not _within_a_call(entry)]
    started = next(
        entry.seq
        for entry in log
        if entry.kind == "message.added" and entry.turn_id == told.turn_id
    )
    if list(told.seqs) != expected or told.seqs[-1] < started:
        yield (
            f"{told.key.session_id}: the agent of {told.turn_id}, begun at {started},"
            f" was given {list(told.seqs)}"
        )


def _within_a_call(entry: Entry) -> bool:
    event = _decoded(entry)
    return isinstance(event, ToolOutcome) and event.parent_call_id is not None


def ends_of(log: Iterable[Entry]) -> list[str]:
    """How the turns ended, in order."""
    return [entry.kind for entry in log if entry.kind in TERMINAL_KINDS]
