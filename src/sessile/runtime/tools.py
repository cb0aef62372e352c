"""The tools of one turn: each call is authorised, journalled, and has one outcome."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Literal

from sessile.core.codec import to_json
from sessile.core.context import TurnContext
from sessile.core.errors import SessileError
from sessile.core.events import (
    ToolCompleted,
    ToolFailed,
    ToolInterrupted,
    ToolOutcome,
    ToolRefused,
    ToolStarted,
)
from sessile.core.ids import CallId, TurnId
from sessile.core.policy import Verdict, verdict
from sessile.core.transcript import Message
from sessile.ports.agent import Agent, AgentFailed, Tool, ToolError, ToolResult
from sessile.ports.clock import IdSource
from sessile.runtime.journal import Journal
from sessile.settings import Settings

Arguments = Mapping[str, Any]


class Threads:
    """The node's threads for tools that block. A slot is held until its thread really returns."""

    def __init__(self, *, threads_max: int) -> None:
        self._pool = ThreadPoolExecutor(threads_max, thread_name_prefix="tool")
        self._free = threads_max

    @property
    def free(self) -> int:
        """Slots for further blocking calls; none left means that this node should take no turn."""
        return self._free

    async def run(self, call: Callable[[], Any]) -> Any:
        """Run it with the caller's context variables. Cancelling leaves the thread to its end."""
        loop = asyncio.get_running_loop()
        context = copy_context()
        self._free -= 1
        future = self._pool.submit(context.run, call)
        future.add_done_callback(lambda _: _later(loop, self._release))
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _release(self) -> None:
        self._free += 1


def _later(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """From a thread that may outlive the loop."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said of a call. `reason` where it was denied."""

    granted: bool
    reason: str = ""


@dataclass(slots=True)
class Calls:
    """What the log says of a turn's tool calls: kept up to date by the attempt that runs."""

    announced: dict[CallId, tuple[str, Arguments]] = field(
        default_factory=dict[CallId, tuple[str, Arguments]]
    )
    """Calls that a message asked for and that have no outcome: name and arguments."""
    started: dict[CallId, ToolStarted] = field(default_factory=dict[CallId, ToolStarted])
    """Calls that were started and have no outcome."""
    outcomes: dict[CallId, ToolResult] = field(default_factory=dict[CallId, ToolResult])
    unnamed: list[tuple[CallId, str, str]] = field(default_factory=list[tuple[CallId, str, str]])
    """Calls that no message asked for, since the agent was last spoken to: id, name, arguments."""
    cards: dict[CallId, MessageId] = field(default_factory=dict[CallId, MessageId])
    """Of the calls that an approval was asked for."""
    answers: dict[CallId, Answer] = field(default_factory=dict[CallId, Answer])


def offered(agent: Agent, grants: Collection[str]) -> tuple[Tool, ...]:
    """The agent's tools that its allow-list has, and that the session is granted."""
    usable = ("allowed", "needs_approval")
    return tuple(tool for tool in agent.tools if _verdict(agent, tool, grants).status in usable)


def verdicts(agent: Agent, grants: Collection[str]) -> tuple[Verdict, ...]:
    """One for each tool of the agent: nothing is hidden."""
    return tuple(_verdict(agent, tool, grants) for tool in agent.tools)


def _verdict(agent: Agent, tool: Tool, grants: Collection[str]) -> Verdict:
    return verdict(
        tool.name,
        known=True,
        allowed=agent.tools_allowed,
        grant=tool.grant,
        grants=grants,
        approval=tool.approval,
    )


class TurnTools:
    """Implements `ports.agent.Tools` for one attempt of one turn."""

    def __init__(
        self,
        *,
        turn_id: TurnId,
        agent: Agent,
        calls: Calls,
        journal: Journal,
        ids: IdSource,
        settings: Settings,
        threads: Threads,
        context: Callable[[], TurnContext],
        steered: Callable[[], Awaitable[tuple[Message, ...]]],
    ) -> None:
        self._turn_id = turn_id
        self._agent = agent
        self._calls = calls
        self._journal = journal
        self._ids = ids
        self._settings = settings
        self._threads = threads
        self._context = context
        self._steered = steered
        self._tools = {tool.name: tool for tool in agent.tools}
        self._asked: set[CallId] = set()
        self._running: set[CallId] = set()
        self.offered = offered(agent)

    def new_call_id(self) -> CallId:
        return self._ids.call_id()

    async def steered(self) -> tuple[Message, ...]:
        self._context()
        return await self._steered()

    @property
    def busy(self) -> bool:
        """A tool is running."""
        return bool(self._running)

    async def call(
        self,
        name: str,
        arguments: Arguments | None = None,
        *,
        call_id: CallId | None = None,
        body: Callable[[], Awaitable[Any]] | None = None,
        idempotent: bool | None = None,
    ) -> ToolResult:
        self._context()  # an expired turn calls nothing
        given: Arguments = json.loads(to_json(arguments or {}))
        safe = self._idempotent(name) if idempotent is None else idempotent
        if call_id is None:
            call_id = self._identified(name, given, idempotent=safe)
        if (known := self._calls.outcomes.get(call_id)) is not None:
            return known
        assert call_id not in self._running, f"{call_id} is running already"
        started = self._calls.started.get(call_id)
        if started is not None and not started.idempotent:
            (outcome,) = interrupted((started,), "The call was given up while it ran.")
            return await self._end(outcome)
        begun = ToolStarted(
            turn_id=self._turn_id,
            call_id=call_id,
            message_id=self._ids.message_id() if started is None else started.message_id,
            name=name,
            arguments=given,
            idempotent=safe,
        )
        known_tool = name in self._tools or body is not None
        said = verdict(name, known=known_tool, allowed=self._agent.tools_allowed)
        if said.status != "allowed":
            return await self._end(_refused(begun, said))
        self._running.add(call_id)
        try:
            if started is None:
                await self._start(begun)
            return await self._end(await self._outcome(begun, body))
        finally:
            self._running.discard(call_id)

    def _idempotent(self, name: str) -> bool:
        return name in self._tools and self._tools[name].idempotent

    async def _start(self, begun: ToolStarted) -> None:
        self._calls.started[begun.call_id] = begun
        if begun.idempotent:
            self._journal.put(begun)
        else:
            # Durable before it runs: if the node is lost now, nobody runs it a second time.
            await self._journal.write(begun)

    async def _outcome(
        self,
        begun: ToolStarted,
        body: Callable[[], Awaitable[Any]] | None,
    ) -> ToolOutcome:
        tool = self._tools.get(begun.name)
        seconds = self._settings.tool_seconds_max
        if tool is not None and tool.timeout_seconds is not None:
            seconds = tool.timeout_seconds
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                value = await self._invoke(begun, tool, body)
        except TimeoutError:
            if not deadline.expired():
                return _failed(begun, "TimeoutError")
            return _failed(begun, f"The tool did not answer within {seconds:g} seconds.")
        except (ToolError, SessileError) as error:
            return self._raised(begun, str(error))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return self._raised(begun, f"{type(error).__name__}: {error}")  # of its own making
        except (Exception, SystemExit) as error:  # noqa: BLE001  a guest's code ends here
            return self._raised(begun, f"{type(error).__name__}: {error}")
        try:
            text = to_json(value)
        except (TypeError, ValueError, RecursionError) as error:
            return _failed(begun, f"The tool's answer is not JSON: {error}")
        if len(text.encode()) > self._settings.result_bytes_max:
            most = self._settings.result_bytes_max
            return _failed(begun, f"The tool's answer is larger than {most} bytes.")
        return ToolCompleted(
            turn_id=begun.turn_id,
            call_id=begun.call_id,
            message_id=begun.message_id,
            name=begun.name,
            arguments=begun.arguments,
            result=json.loads(text),
        )

    def _raised(self, begun: ToolStarted, error: str) -> ToolFailed:
        return _failed(begun, error[: self._settings.result_bytes_max])

    async def _invoke(
        self,
        begun: ToolStarted,
        tool: Tool | None,
        body: Callable[[], Awaitable[Any]] | None,
    ) -> Any:
        if body is not None:
            return await body()
        assert tool is not None
        context, arguments = self._context(), begun.arguments
        if tool.blocking:
            return await self._threads.run(lambda: tool.call_blocking(context, arguments))
        return await tool.invoke(context, arguments)

    async def _end(self, outcome: ToolOutcome) -> ToolResult:
        if (known := self._calls.outcomes.get(outcome.call_id)) is not None:
            return known
        # Noted before it is durable: the journal keeps what it was given, also where this call is
        # cancelled while the outcome is on its way, and a call has one outcome.
        self._journal.put(outcome)
        self._calls.started.pop(outcome.call_id, None)
        self._calls.announced.pop(outcome.call_id, None)
        result = self._calls.outcomes[outcome.call_id] = result_of(outcome)
        await self._journal.write()
        return result

    def _identified(self, name: str, arguments: Arguments, *, idempotent: bool) -> CallId:
        """A call that no message asked for is told by its question: the first of that name and
        these arguments which was not asked again yet. Calls side by side come in any order."""
        shown = to_json(arguments)
        asked_before = [each for each in self._calls.unnamed if each[0] not in self._asked]
        for known_id, known_name, known_arguments in asked_before:
            if (known_name, known_arguments) == (name, shown):
                self._asked.add(known_id)
                return known_id
        if not idempotent and any(known_name == name for _, known_name, _ in asked_before):
            raise AgentFailed(
                "replay_mismatch",
                f"Run again from the log, the agent called {name} with other arguments than"
                " before; what it asks must follow from its history and its tools' answers.",
            )
        new_id = self._ids.call_id()
        self._asked.add(new_id)
        self._calls.unnamed.append((new_id, name, shown))
        return new_id


def _refused(begun: ToolStarted, said: Verdict) -> ToolRefused:
    return ToolRefused(
        turn_id=begun.turn_id,
        call_id=begun.call_id,
        message_id=begun.message_id,
        name=begun.name,
        arguments=begun.arguments,
        verdict=said.status,
        reason=said.reason,
    )


def _failed(begun: ToolStarted, error: str) -> ToolFailed:
    return ToolFailed(
        turn_id=begun.turn_id,
        call_id=begun.call_id,
        message_id=begun.message_id,
        name=begun.name,
        arguments=begun.arguments,
        error=error,
    )


def interrupted(calls: Iterable[ToolStarted], reason: str) -> tuple[ToolInterrupted, ...]:
    """The outcome of calls that will never have another."""
    return tuple(
        ToolInterrupted(
            turn_id=call.turn_id,
            call_id=call.call_id,
            message_id=call.message_id,
            name=call.name,
            arguments=call.arguments,
            reason=reason,
        )
        for call in calls
    )


def result_of(outcome: ToolOutcome) -> ToolResult:
    """What the caller of a tool is told."""
    match outcome:
        case ToolCompleted():
            return ToolResult(
                call_id=outcome.call_id, name=outcome.name, status="completed", value=outcome.result
            )
        case ToolFailed():
            return _unsuccessful(outcome, "failed", outcome.error)
        case ToolInterrupted():
            return _unsuccessful(outcome, "interrupted", outcome.reason)
        case ToolRefused():
            return _unsuccessful(outcome, "refused", outcome.reason)


def _unsuccessful(
    outcome: ToolOutcome, status: Literal["failed", "interrupted", "refused"], reason: str
) -> ToolResult:
    return ToolResult(call_id=outcome.call_id, name=outcome.name, status=status, reason=reason)
