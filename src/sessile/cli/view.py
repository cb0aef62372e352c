"""What a chat shows, as a fold of the session's entries: no terminal, no network.

Blocks are kept while they may still change; `settled` hands over those that will not, in order.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from sessile.cli.client import Entry, JsonObject
from sessile.cli.plain import cut, one_line

CARD_CHARS_MAX = 160
QUEUE_CHARS_MAX = 60
ENDED_MAX = 1_000

CardStatus = Literal["started", "waiting", "completed", "failed", "interrupted", "refused"]


@dataclass(slots=True)
class Said:
    """A message, perhaps still being written. `shown`: how much of its text was handed over."""

    message_id: str
    role: str
    text: str = ""
    thinking: str = ""
    done: bool = False
    partial: bool = False
    shown: int = 0


@dataclass(slots=True)
class Card:
    """A tool call, updated in place. It is `waiting` until a person approves or denies it."""

    call_id: str
    name: str
    arguments: str
    status: CardStatus = "started"
    outcome: str = ""
    nested: bool = False

    @property
    def done(self) -> bool:
        return self.status not in ("started", "waiting")


@dataclass(slots=True)
class Note:
    """What happened to a turn or the session, in a line."""

    text: str
    bad: bool = False
    done: bool = True


Block = Said | Card | Note


@dataclass(slots=True)
class Running:
    """The turn that runs, and how far it is."""

    turn_id: str
    current_iteration: int = 0
    total_iterations: int = 0
    tokens_used: int = 0
    total_tokens: int = 0
    note: str = ""
    cancelling: bool = False
    awaiting: bool = False
    """Nobody runs it: it waits for approvals."""

    def raise_to(self, numbers: JsonObject) -> None:
        self.current_iteration = max(self.current_iteration, numbers["current_iteration"])
        self.total_iterations = max(self.total_iterations, numbers["total_iterations"])
        self.tokens_used = max(self.tokens_used, numbers["tokens_used"])
        self.total_tokens = max(self.total_tokens, numbers["total_tokens"])


@dataclass(slots=True)
class View:
    """One session, as far as `cursor`."""

    cursor: int = 0
    blocks: list[Block] = field(default_factory=list[Block])
    queue: dict[str, str] = field(default_factory=dict[str, str])
    running: Running | None = None
    ended: dict[str, str] = field(default_factory=dict[str, str])
    """How the turns ended that ended while one looked."""

    @property
    def waiting(self) -> Card | None:
        """The first call that waits to be approved or denied."""
        cards = (block for block in self.blocks if isinstance(block, Card))
        return next((card for card in cards if card.status == "waiting"), None)

    def begin(self, snapshot: JsonObject, approvals: Iterable[Entry] = ()) -> None:
        """Forget everything, and go on from this state. Its messages are blocks that are done.

        `approvals`: the entries that say what its turn waits for.
        """
        session, running = snapshot["session"], snapshot["running_turn"]
        self.cursor = session["head"]
        self.blocks = [block for wire in snapshot["messages"] for block in blocks_of(wire)]
        self.queue = {turn["turn_id"]: _asked(turn["input"]) for turn in snapshot["queued_turns"]}
        self.running = None
        if running is not None:
            self.running = Running(running["turn_id"], awaiting=running["status"] == "awaiting")
            self.running.raise_to(running)
        for entry in approvals:
            self._of_approval(entry.kind.partition(".")[2], entry.body)

    def begin_new(self) -> None:
        """Forget everything: there is no session yet."""
        self.cursor, self.running = 0, None
        self.blocks, self.queue = [], {}

    def apply(self, entry: Entry) -> None:
        """Take in the next entry; one that is known already changes nothing."""
        if entry.seq <= self.cursor:
            return
        self.cursor = entry.seq
        body, turn_id = entry.body, entry.turn_id or ""
        match entry.kind.split("."):
            case ["turn", what]:
                self._of_turn(what, turn_id, body)
            case ["message", what]:
                self._of_message(what, body)
            case ["tool", what]:
                self._of_tool(what, body)
            case ["approval", what]:
                self._of_approval(what, body)
            case ["session", "closed"]:
                self.blocks.append(Note("The session was closed."))
            case ["session", "handed_off"]:
                self.blocks.append(Note(f"{one_line(body['assistant'])} takes over."))
            case _:
                pass

    def settled(self) -> list[Block]:
        """The blocks at the front that will not change any more; they are no longer kept."""
        first_open = next(
            (place for place, block in enumerate(self.blocks) if not block.done), len(self.blocks)
        )
        settled, self.blocks = self.blocks[:first_open], self.blocks[first_open:]
        return settled

    def _of_turn(self, what: str, turn_id: str, body: JsonObject) -> None:
        match what:
            case "queued" | "edited":
                self.queue[turn_id] = _asked(body["input"])
            case "started":
                self.queue.pop(turn_id, None)
                waited = self.running is not None and self.running.awaiting
                self.running = Running(turn_id)
                if body["attempt"] > 1 and not waited:
                    self.blocks.append(Note("The server was lost; the turn goes on."))
            case "progress" if self.running is not None:
                self.running.raise_to(body)
                self.running.note = one_line(body["note"])
            case "awaiting" if self.running is not None:
                self.running.awaiting = True
            case "cancel_requested" if self.running is not None:
                self.running.cancelling = True
            case "steered":
                self.blocks.append(Note(f"steered: {cut(_asked(body['input']), CARD_CHARS_MAX)}"))
            case "completed" | "failed" | "cancelled" | "interrupted":
                self._end(what, turn_id, body)
            case _:
                pass

    def _end(self, status: str, turn_id: str, body: JsonObject) -> None:
        self.ended[turn_id] = status
        if len(self.ended) > ENDED_MAX:
            del self.ended[next(iter(self.ended))]
        if self.queue.pop(turn_id, None) is None:
            for block in self.blocks:
                if isinstance(block, Said) and not block.done:
                    block.partial = block.done = True
                elif isinstance(block, Card) and not block.done:
                    block.status = "interrupted"
            self.running = None
        if status == "failed":
            error = body["error"]
            said = f"{error.get('message', '')} ({error.get('code', '')})"
            self.blocks.append(Note(f"failed: {one_line(said)}", bad=True))
        elif status != "completed":
            reason = one_line(body["reason"])
            self.blocks.append(Note(f"{status}: {reason}", bad=status == "interrupted"))

    def _of_message(self, what: str, body: JsonObject) -> None:
        message_id = body["message_id"]
        said = next(
            (b for b in self.blocks if isinstance(b, Said) and b.message_id == message_id), None
        )
        match what:
            case "delta":
                if said is None:
                    said = Said(message_id, "assistant")
                    self.blocks.append(said)
                if body["channel"] == "thinking":
                    said.thinking = _joined(said.thinking, body)
                else:
                    said.text = _joined(said.text, body)
            case "reset" if said is not None:
                self.blocks.remove(said)
                if said.shown:
                    self.blocks.append(Note("The reply above was cut off; it begins again."))
            case "added":
                text = "".join(p["text"] for p in body["parts"] if p["type"] == "text")
                if said is None:
                    said = Said(message_id, body["role"])
                    self.blocks.append(said)
                if not text.startswith(said.text[: said.shown]):
                    said.shown = 0
                said.text, said.done = text, True
                said.partial = body["state"] == "partial"
                if not text and not said.thinking:
                    self.blocks.remove(said)
                self.blocks.extend(_buttons(body["parts"]))
            case _:
                pass

    def _of_approval(self, what: str, body: JsonObject) -> None:
        if what == "requested":
            self._card(body).status = "waiting"
        elif (card := self._card_of(body["call_id"])) is not None:
            card.status = "started"  # denied or not: its outcome comes when the turn goes on

    def _card_of(self, call_id: str) -> Card | None:
        cards = (block for block in self.blocks if isinstance(block, Card))
        return next((card for card in cards if card.call_id == call_id), None)

    def _card(self, body: JsonObject) -> Card:
        card = self._card_of(body["call_id"])
        if card is None:
            card = Card(body["call_id"], one_line(body["name"]), _arguments(body["arguments"]))
            card.nested = body.get("parent_call_id") is not None
            self.blocks.append(card)
        return card

    def _of_tool(self, what: str, body: JsonObject) -> None:
        card = self._card(body)
        match what:
            case "completed":
                card.status, card.outcome = "completed", _short(body["result"])
            case "failed":
                card.status, card.outcome = "failed", _short(body["error"])
            case "interrupted" | "refused":
                card.status, card.outcome = what, _short(body["reason"])
            case _:
                card.status = "started"


def blocks_of(wire: JsonObject) -> Iterable[Block]:
    """A message of a history, as blocks that are done."""
    partial = wire["state"] == "partial"
    if wire["role"] == "tool":
        for part in wire["parts"]:
            status = part["status"]
            outcome = part["result"] if status == "completed" else part["reason"]
            arguments = _arguments(part["arguments"])
            yield Card(part["call_id"], one_line(part["name"]), arguments, status, _short(outcome))
    elif wire["text"]:
        yield Said(wire["message_id"], wire["role"], wire["text"], done=True, partial=partial)
        yield from _buttons(wire["parts"])


def _buttons(parts: Iterable[JsonObject]) -> Iterable[Note]:
    labels = [f"[{one_line(part['label'])}]" for part in parts if part["type"] == "button"]
    if labels:
        yield Note(" ".join(labels))


def _joined(text: str, delta: JsonObject) -> str:
    """Where the beginning was missed, the offset is past the end of what is known."""
    offset = delta["offset"]
    before = text[:offset] if offset <= len(text) else f"{text}…"
    return f"{before}{delta['text']}"


def _asked(given: JsonObject) -> str:
    text: object = given.get("text", "")
    return one_line(str(text))


def _arguments(arguments: JsonObject) -> str:
    said = " ".join(f"{one_line(name)}={_short(value)}" for name, value in arguments.items())
    return cut(said, CARD_CHARS_MAX)


def _short(value: Any) -> str:
    text: str = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cut(one_line(text), CARD_CHARS_MAX)
