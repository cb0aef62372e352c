"""The tools of one turn: each call is authorised, journalled, and has one outcome."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NoReturn, Protocol

from sessile.core.codec import to_json
from sessile.core.context import ToolResult, TurnContext
from sessile.core.errors import SessileError
from sessile.core.events import ToolFailed, ToolOutcome, ToolStarted
from sessile.core.ids import CallId, MessageId, TurnId
from sessile.core.policy import Verdict, verdict
from sessile.core.transcript import Message
from sessile.ports.agent import Agent, AgentFailed, Tool, ToolError
from sessile.ports.apart import apart
from sessile.ports.clock import IdSource
from sessile.runtime.calls import HANDED_OFF, TOO_LATE, Arguments, Calls, Unnamed, failing
from sessile.runtime.journal import Journal
from sessile.runtime.threads import Threads
from sessile.settings import Settings


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


class Asking(Protocol):
    """The attempt for which an agent is asked, as its tools see it."""

    @property
    def decided(self) -> str | None: ...

    @property
    def handed_off(self) -> bool: ...

    def context(self, call_id: CallId | None, /) -> TurnContext:
        """For a tool that is called, or None: for nobody. Raises ContextExpired after the end."""
        ...

    async def steered_after(self, made: int) -> tuple[Message, ...]:
        """What the agent has not read yet, behind so many calls of its run."""
        ...

    def on_waiting(self) -> None:
        """Nothing runs any more but calls that wait for an approval."""
        ...


@dataclass(frozen=True, slots=True)
class Within:
    """Tools of an assistant that was asked by another, from within the call `parent`."""

    parent: CallId | None
    asking: Asking


class TurnTools:
    """Implements `ports.agent.Tools` for one attempt of one turn."""

    def __init__(
        self,
        *,
        turn_id: TurnId,
        agent: Agent,
        grants: Collection[str],
        calls: Calls,
        journal: Journal,
        ids: IdSource,
        settings: Settings,
        threads: Threads,
        asking: Asking,
        within: Within | None = None,
    ) -> None:
        self._turn_id = turn_id
        self._agent = agent
        self._grants = grants
        self._calls = calls
        self._journal = journal
        self._ids = ids
        self._settings = settings
        self._threads = threads
        self._asking = asking
        self._within = within
        self._tools = {tool.name: tool for tool in agent.tools}
        self._made: set[CallId] = set()
        self._drawn = list(calls.drawn) if agent.restarts and within is None else []
        self._known_as: dict[CallId, CallId] = {}
        tools = offered(agent, grants)
        self.offered = tools if within is None else tuple(t for t in tools if not t.approval)

    def new_call_id(self) -> CallId:
        return self._drawn.pop(0) if self._drawn else self._ids.call_id()

    async def steered(self) -> tuple[Message, ...]:
        self._asking.context(None)
        if self._asking.handed_off:
            return ()
        return await self._asking.steered_after(len(self._made))

    @property
    def decided(self) -> str | None:
        return self._asking.decided

    @property
    def handed_off(self) -> bool:
        return self._asking.handed_off

    @property
    def busy(self) -> bool:
        """A tool is running, this assistant's or that of one that was asked."""
        return bool(self._calls.running)

    async def call(
        self,
        name: str,
        arguments: Arguments | None = None,
        *,
        call_id: CallId | None = None,
        body: Callable[[], Awaitable[Any]] | None = None,
        idempotent: bool | None = None,
        parent: CallId | None = None,
        within: Callable[[CallId], Awaitable[Any]] | None = None,
    ) -> ToolResult:
        """`parent`: the call that makes this one. `within`: a body that makes calls, below it."""
        self._asking.context(None)  # an expired turn calls nothing
        given: Arguments = json.loads(to_json(arguments or {}))
        tool = None if body is not None or within is not None else self._tools.get(name)
        safe = bool(idempotent) if tool is None else tool.idempotent
        announced: CallId | None = None
        if self._within is not None:
            parent = parent or self._within.parent
            # None of its messages is in the log: ids of its own making would differ next time.
            announced = call_id
            call_id = None if announced is None else self._known_as.get(announced)
        if call_id is None:
            call_id = self._identified(name, given, idempotent=safe, parent=parent)
            if announced is not None:
                self._known_as[announced] = call_id
        if within is not None:
            body = partial(within, call_id)
        if parent is None:
            self._made.add(call_id)
        if (known := self._calls.outcomes.get(call_id)) is not None:
            return known
        assert call_id not in self._calls.running, f"{call_id} is running already"
        if (started := self._calls.started.get(call_id)) is not None and not started.idempotent:
            return await self._end(started.interrupted("The call was given up while it ran."))
        begun = ToolStarted(
            turn_id=self._turn_id,
            call_id=call_id,
            message_id=self._card(call_id),
            name=name,
            arguments=given,
            idempotent=safe,
            parent_call_id=parent,
            grant=None if tool is None else tool.grant,
        )
        if parent is None and self._asking.handed_off:
            return await self._end(begun.refused(verdict=HANDED_OFF, reason=TOO_LATE))
        if within is None:  # which only the assistant's author can have asked for
            body = (fails := self._fails(begun, tool)) or body
            said = await self._judged(begun, tool, brought=body is not None, asks=fails is None)
            if said.status != "allowed":
                return await self._end(begun.refused(verdict=said.status, reason=said.reason))
        self._calls.running.add(call_id)
        try:
            if started is None and (refusal := await self._start(begun)) is not None:
                return refusal
            return await self._end(await self._outcome(begun, body))
        finally:
            self._calls.running.discard(call_id)
            self._await_if_idle()

    def _card(self, call_id: CallId) -> MessageId:
        """The message that the call's events update in place."""
        if (started := self._calls.started.get(call_id)) is not None:
            return started.message_id
        return self._calls.cards.get(call_id) or self._ids.message_id()

    def _fails(self, begun: ToolStarted, tool: Tool | None) -> Callable[[], Awaitable[Any]] | None:
        """The body of a call that cannot work: nobody is asked to approve it."""
        if tool is None or not tool.approval or begun.call_id in self._calls.answers:
            return None
        return failing(tool, begun.arguments)

    async def _judged(
        self, begun: ToolStarted, tool: Tool | None, *, brought: bool, asks: bool
    ) -> Verdict:
        """Returns no verdict for a call that waits: its attempt ends, and the next one knows."""
        said = verdict(
            begun.name,
            known=tool is not None or brought,
            allowed=self._agent.tools_allowed,
            grant=None if tool is None else tool.grant,
            grants=self._grants,
            approval=tool is not None and tool.approval and asks,
        )
        if said.status != "needs_approval":
            return said
        if begun.parent_call_id is not None or self._within is not None:
            return replace(said, reason="A call from within a tool cannot wait for an approval.")
        answer = self._calls.answers.get(begun.call_id)
        if answer is None:
            await self._wait(begun)
        status: Literal["allowed", "denied"] = "allowed" if answer.granted else "denied"
        return Verdict(tool=begun.name, status=status, reason=answer.reason)

    async def _wait(self, begun: ToolStarted) -> NoReturn:
        """Until the attempt ends, which it does for an approval."""
        self._calls.waiting[begun.call_id] = begun
        self._await_if_idle()
        try:
            while True:
                await asyncio.get_running_loop().create_future()
        finally:
            self._calls.waiting.pop(begun.call_id, None)

    def _await_if_idle(self) -> None:
        """Once nothing runs but what waits, the turn asks for its approvals: no call is cut off."""
        if self._calls.waiting and not self._calls.running:
            asyncio.get_running_loop().call_soon(self._await)

    def _await(self) -> None:
        # No call has begun beside it, and its agent has not given it up.
        if self._calls.waiting and not self._calls.running:
            self._asking.on_waiting()

    async def _start(self, begun: ToolStarted) -> ToolResult | None:
        """A result where it must not run after all."""
        self._journal.check()
        self._calls.started[begun.call_id] = begun
        if begun.idempotent and begun.grant is None:
            self._journal.put(begun)
        else:
            # Durable before it runs: if the node is lost now, nobody runs it a second time; and
            # a grant is looked for in the transaction that writes this.
            await self._journal.write(begun)
        return self._calls.outcomes.get(begun.call_id)

    async def _outcome(
        self,
        begun: ToolStarted,
        body: Callable[[], Awaitable[Any]] | None,
    ) -> ToolOutcome:
        tool = self._tools.get(begun.name)
        own = None if tool is None else tool.timeout_seconds
        seconds = self._settings.tool_seconds_max if own is None else own
        try:
            ended = await apart(lambda: self._invoke(begun, tool, body), seconds=seconds)
        except TimeoutError:
            return begun.failed(f"The tool did not answer within {seconds:g} seconds.")
        try:
            value = ended.result()
        except (ToolError, SessileError) as error:
            return self._raised(begun, str(error))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  a guest's code
            return self._raised(begun, f"{type(error).__name__}: {error}".removesuffix(": "))
        try:
            text = to_json(value)
        except (TypeError, ValueError, RecursionError) as error:
            return begun.failed(f"The tool's answer is not JSON: {error}")
        if len(text.encode()) > self._settings.result_bytes_max:
            most = self._settings.result_bytes_max
            return begun.failed(f"The tool's answer is larger than {most} bytes.")
        return begun.completed(json.loads(text))

    def _raised(self, begun: ToolStarted, error: str) -> ToolFailed:
        return begun.failed(error[: self._settings.result_bytes_max])

    async def _invoke(
        self,
        begun: ToolStarted,
        tool: Tool | None,
        body: Callable[[], Awaitable[Any]] | None,
    ) -> Any:
        if body is not None:
            return await body()
        assert tool is not None
        context, arguments = self._asking.context(begun.call_id), begun.arguments
        if tool.blocking:
            return await self._threads.run(lambda: tool.call_blocking(context, arguments))
        return await tool.invoke(context, arguments)

    async def _end(self, outcome: ToolOutcome) -> ToolResult:
        if (known := self._calls.outcomes.get(outcome.call_id)) is not None:
            return known
        # Noted before it is durable: the journal keeps what it was given, also where this call is
        # cancelled while the outcome is on its way, and a call has one outcome.
        self._journal.put(outcome)
        result = self._calls.note(outcome)
        await self._journal.write()
        return result

    def _identified(
        self, name: str, arguments: Arguments, *, idempotent: bool, parent: CallId | None
    ) -> CallId:
        """A call that no message asked for is told by its question: the first of that name and
        these arguments which was not asked again yet. Calls side by side come in any order."""
        shown = to_json(arguments)
        asked_before = [
            each
            for each in self._calls.unnamed
            if each.parent == parent and each.call_id not in self._calls.asked
        ]
        for each in asked_before:
            if (each.name, each.arguments) == (name, shown):
                self._calls.asked.add(each.call_id)
                return each.call_id
        if not idempotent and any(each.name == name for each in asked_before):
            raise AgentFailed(
                "replay_mismatch",
                f"Run again from the log, the agent called {name} with other arguments than"
                " before; what it asks must follow from its history and its tools' answers.",
            )
        new_id = self._ids.call_id()
        self._calls.asked.add(new_id)
        self._calls.unnamed.append(Unnamed(new_id, name, shown, parent))
        return new_id
