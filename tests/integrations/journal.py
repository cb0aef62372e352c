"""A turn without a server: a journal in lists, which honours what `ports.agent` promises."""

import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from sessile.core.codec import encode, to_json
from sessile.core.context import Identity, TurnContext
from sessile.core.errors import ContextExpired
from sessile.core.events import (
    Entry,
    Event,
    JsonObject,
    MessageAdded,
    Progress,
    SessionSummarized,
    ToolCompleted,
    ToolFailed,
    ToolInterrupted,
    ToolRefused,
    ToolStarted,
)
from sessile.core.ids import CallId, Fence, MessageId, Seq, SessionId, TenantId, TurnId, UserId
from sessile.core.transcript import TEXT_KINDS, History, Message, messages
from sessile.ports.agent import (
    AgentEvent,
    AgentLoop,
    MessageEnd,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolError,
    ToolResult,
)

Outcome = ToolCompleted | ToolFailed | ToolInterrupted | ToolRefused


class Door:
    """Open until the turn ends. Keeps what the turn reported."""

    def __init__(self) -> None:
        self.is_open = True
        self.reports: list[tuple[Progress, str]] = []
        self.emitted: list[str] = []

    def check(self) -> None:
        if not self.is_open:
            raise ContextExpired

    async def progress(self, progress: Progress, note: str) -> None:
        self.reports.append((progress, note))

    async def emit(self, text: str) -> None:
        self.emitted.append(text)


def identity(session: str = "ses_1", turn: str = "trn_1", **changes: Any) -> Identity:
    values: dict[str, Any] = {
        "tenant_id": TenantId("acme"),
        "user_id": UserId("ana"),
        "session_id": SessionId(session),
        "turn_id": TurnId(turn),
        "fence": Fence(1),
        "attempt": 1,
        "assistant": "demo",
        "grants": (),
        "input": {"type": "message", "text": ""},
    }
    return Identity(**values | changes)


def context(session: str = "ses_1", turn: str = "trn_1", door: Door | None = None) -> TurnContext:
    return TurnContext(identity(session, turn), door or Door(), History(()))


@dataclass
class Journal:
    """One session's log, and one turn after another on it."""

    session_id: str = "ses_1"
    events: list[Event] = field(default_factory=list[Event])
    turn_id: str = "trn_1"
    tools: tuple[Tool, ...] = ()
    to_steer: list[str] = field(default_factory=list[str])
    """What the user steers in; each `steered()` delivers all there is."""
    yielded: list[AgentEvent] = field(default_factory=list[AgentEvent])
    door: Door = field(default_factory=Door)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def asked(self, text: str, *, turn_id: str = "trn_1") -> "Journal":
        self.turn_id = turn_id
        self._add("user", [{"type": "text", "text": text}])
        return self

    def entries(self) -> list[Entry]:
        return [
            Entry(Seq(at), each.kind, getattr(each, "turn_id", None), 0, encode(each))
            for at, each in enumerate(self.events, 1)
        ]

    def history(self) -> History:
        entries = self.entries()
        start = max((e.seq for e in entries if e.kind == SessionSummarized.kind), default=1)
        return History(e for e in entries if e.kind in TEXT_KINDS and e.seq >= start)

    def transcript(self) -> list[tuple[str, str]]:
        return [(message.role, message.text) for message in self.history().messages]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def of(self, *kinds: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kinds)]

    def cut(self, length: int) -> "Journal":
        """What another node finds, had this one been lost after `length` events."""
        rest = list(self.events[:length])
        next_id = itertools.count(1000)
        return Journal(
            session_id=self.session_id,
            events=rest,
            turn_id=self.turn_id,
            tools=self.tools,
            ids=next_id,
        )

    async def run(self, loop: AgentLoop) -> str:
        """Drive one run to its end; the text of the message that ends it."""
        history = self.history() if loop.reads_history else History(())
        turn = TurnContext(identity(self.session_id, self.turn_id), self.door, history)
        text: list[str] = []
        thinking: list[str] = []
        passed_over = (
            sum(isinstance(e, MessageAdded) for e in self.since_asked()) if loop.restarts else 0
        )
        async with aclosing(loop.run(turn, history, Desk(self, turn))) as yielded:  # type: ignore[type-var]
            async for event in yielded:
                self.yielded.append(event)
                if passed_over:
                    passed_over -= isinstance(event, MessageEnd)
                    continue
                match event:
                    case TextDelta():
                        text.append(event.text)
                    case ThinkingDelta():
                        thinking.append(event.text)
                    case MessageEnd():
                        self._end(event.parts, text, thinking)
                    case Progress():
                        pass
        if text or thinking:
            self._end(None, text, thinking)
        replies = [e for e in self.of(MessageAdded) if e.role == "assistant"]
        parts = replies[-1].parts if replies else ()
        return "".join(part["text"] for part in parts if part["type"] == "text")

    def since_asked(self) -> list[Event]:
        """What was appended since the user last spoke."""
        asked = [
            at
            for at, event in enumerate(self.events)
            if isinstance(event, MessageAdded) and event.role == "user"
        ]
        return self.events[asked[-1] + 1 :]

    def _end(
        self, parts: Sequence[JsonObject] | None, text: list[str], thinking: list[str]
    ) -> None:
        if parts is None:
            parts = [{"type": "text", "text": "".join(text)}]
            if thinking:
                parts.insert(0, {"type": "thinking", "text": "".join(thinking)})
        self._add("assistant", parts)
        text.clear()
        thinking.clear()

    def _add(self, role: Any, parts: Iterable[JsonObject]) -> None:
        message_id = MessageId(f"msg_{next(self.ids)}")
        self.events.append(
            MessageAdded(
                turn_id=TurnId(self.turn_id), message_id=message_id, role=role, parts=tuple(parts)
            )
        )

    def steer(self) -> tuple[Message, ...]:
        before = len(self.events)
        for text in self.to_steer:
            self._add("user", [{"type": "text", "text": text}])
        self.to_steer.clear()
        return tuple(m for m in messages(self.entries()) if m.seq > before)


class Desk:
    """The tools of one turn: authorised, journalled, one outcome a call."""

    decided = None
    handed_off = False

    def __init__(self, journal: Journal, turn: TurnContext) -> None:
        self._journal = journal
        self._turn = turn
        self._tools = {tool.name: tool for tool in journal.tools}
        self._unnamed: set[CallId] = set()

    @property
    def offered(self) -> tuple[Tool, ...]:
        return tuple(self._tools.values())

    def new_call_id(self) -> CallId:
        return CallId(f"call_{next(self._journal.ids)}")

    async def steered(self) -> tuple[Message, ...]:
        return self._journal.steer()

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        call_id: CallId | None = None,
        body: Callable[[], Awaitable[Any]] | None = None,
        idempotent: bool | None = None,
    ) -> ToolResult:
        journal = self._journal
        if call_id is None:
            call_id = self._by_what_it_asks(name, arguments or {})
        for each in journal.of(ToolCompleted, ToolFailed, ToolInterrupted, ToolRefused):
            if each.call_id == call_id:
                return self._result(each)
        tool = self._tools.get(name)
        if tool is None and body is None:
            reason = "The assistant has no such tool."
            return self._log(ToolRefused, call_id, name, arguments, verdict="denied", reason=reason)
        repeatable = tool.idempotent if idempotent is None and tool else bool(idempotent)
        if any(each.call_id == call_id for each in journal.of(ToolStarted)):
            if not repeatable:
                reason = "The node was lost while the tool ran."
                return self._log(ToolInterrupted, call_id, name, arguments, reason=reason)
        else:
            self._log(ToolStarted, call_id, name, arguments, idempotent=repeatable)
        try:
            value = await self._run(tool, arguments or {}, body)
        except ToolError as error:
            return self._log(ToolFailed, call_id, name, arguments, error=str(error))
        except Exception as error:  # noqa: BLE001  # a guest's code ends here
            said = f"{type(error).__name__}: {error}"
            return self._log(ToolFailed, call_id, name, arguments, error=said)
        to_json(value)
        return self._log(ToolCompleted, call_id, name, arguments, result=value)

    async def _run(
        self,
        tool: Tool | None,
        arguments: Mapping[str, Any],
        body: Callable[[], Awaitable[Any]] | None,
    ) -> Any:
        if body is not None:
            return await body()
        assert tool is not None
        if tool.blocking:
            return tool.call_blocking(self._turn, arguments)
        return await tool.invoke(self._turn, arguments)

    def _by_what_it_asks(self, name: str, arguments: Mapping[str, Any]) -> CallId:
        """The first such call since the user last spoke that no message announced and that was
        not asked for again yet; or a new one."""
        passed_over = set(self._unnamed)
        for event in self._journal.since_asked():
            if isinstance(event, MessageAdded):
                passed_over |= {p["call_id"] for p in event.parts if p["type"] == "tool_call"}
            elif isinstance(event, ToolStarted) and event.call_id not in passed_over:
                if (event.name, event.arguments) == (name, arguments):
                    self._unnamed.add(event.call_id)
                    return event.call_id
        call_id = self.new_call_id()
        self._unnamed.add(call_id)
        return call_id

    def _log(
        self,
        kind: Callable[..., Any],
        call_id: CallId,
        name: str,
        arguments: Mapping[str, Any] | None,
        **values: Any,
    ) -> ToolResult:
        event = kind(
            turn_id=TurnId(self._journal.turn_id),
            call_id=call_id,
            message_id=MessageId(f"msg_of_{call_id}"),
            name=name,
            arguments=dict(arguments or {}),
            **values,
        )
        self._journal.events.append(event)
        return self._result(event)

    def _result(self, event: Any) -> ToolResult:
        match event:
            case ToolCompleted():
                return ToolResult(
                    call_id=event.call_id, name=event.name, status="completed", value=event.result
                )
            case ToolFailed():
                return ToolResult(
                    call_id=event.call_id, name=event.name, status="failed", reason=event.error
                )
            case ToolInterrupted():
                return ToolResult(
                    call_id=event.call_id,
                    name=event.name,
                    status="interrupted",
                    reason=event.reason,
                )
            case _:
                return ToolResult(
                    call_id=event.call_id,
                    name=event.name,
                    status="refused",
                    reason=getattr(event, "reason", None),
                )
