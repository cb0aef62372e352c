"""The tools of one run of pydantic-ai: every call goes through the runtime, once."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai import RunContext, ToolDefinition
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import (
    AgentRunError,
    ApprovalRequired,
    CallDeferred,
    ToolFailed,
    ToolFailedError,
    ToolRetryError,
    UserError,
)
from pydantic_ai.messages import ModelRequest, ModelResponse, ToolCallPart, ToolReturn
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool
from pydantic_core import SchemaValidator, core_schema, from_json, to_json

from sessile.core.events import JsonObject
from sessile.core.ids import CallId
from sessile.integrations.pydantic_messages import (
    arguments_of,
    message_parts,
    shown,
    told,
    wire_name,
)
from sessile.ports.agent import ToolError, ToolResult, Tools

TOOL_RETRIES_MAX = 50
"""A model may be wrong about a tool as often as it is asked at all: pydantic-ai's request limit."""

_ANY_OBJECT = SchemaValidator(core_schema.dict_schema(core_schema.str_schema()))

Handler = Callable[[dict[str, Any]], Awaitable[Any]]


class Journal(AbstractCapability[Any]):
    """Made for one run and gone with it: no other run can meet what it holds.

    It offers the assistant's tools to the model, and stands around the execution of those that a
    user's agent has of its own.
    """

    def __init__(
        self, tools: Tools, *, pending: Mapping[str, CallId], declared: Iterable[str] = ()
    ) -> None:
        self.tools = tools
        self._desk = _Desk(self)
        self._declared = {wire_name(name): name for name in declared}
        self._call_ids = dict(pending)
        """Our ids of the last response's calls, by the provider's, which may come again in the
        next response."""
        self._asked: set[CallId] = set()
        self._functions: set[str] = set()
        self._outputs: set[str] = set()

    def announce(self, response: ModelResponse) -> tuple[JsonObject, ...]:
        """The response as message parts, its calls with ids of ours."""
        self._call_ids = {
            call.tool_call_id: self.tools.new_call_id()
            for call in response.tool_calls
            if call.tool_name not in self._outputs
        }
        names = {call.tool_name: self._name(call.tool_name) for call in response.tool_calls}
        return message_parts(response, self._call_ids, names)

    def _name(self, wire: str) -> str:
        """Ours. A model may call what it was not offered, as it was once or by a guess: it is
        refused under its own name, with the reason that holds for it."""
        if wire in self._desk.names:
            return self._desk.names[wire]
        return wire if wire in self._functions else self._declared.get(wire, wire)

    async def settle(self, calls: Sequence[ToolCallPart], answers: ModelRequest | None) -> None:
        """An outcome in the log for each call that came to no execution: of a tool that there is
        not, with arguments that are none, or beside the final answer."""
        for call in calls:
            call_id = self._call_ids.get(call.tool_call_id)
            if call_id is None or call_id in self._asked:
                continue
            name = self._name(call.tool_name)
            body = None
            if call.tool_name in self._functions:
                body = _not_run(_answer(call, answers))
            await self.tools.call(name, arguments_of(call), call_id=call_id, body=body)

    async def ask(
        self,
        name: str,
        call: ToolCallPart,
        *,
        body: Callable[[], Awaitable[Any]] | None = None,
        idempotent: bool | None = None,
    ) -> ToolResult:
        """The outcome of a call: from the log, or of running it now."""
        call_id = self._call_ids.get(call.tool_call_id)
        if call_id is not None:
            self._asked.add(call_id)
        return await self.tools.call(
            name, arguments_of(call), call_id=call_id, body=body, idempotent=idempotent
        )

    def get_toolset(self) -> AbstractToolset[Any]:
        return self._desk

    def get_ordering(self) -> CapabilityOrdering:
        return CapabilityOrdering(position="outermost")

    async def prepare_tools(
        self, ctx: RunContext[Any], tool_defs: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        self._functions = {each.name for each in tool_defs}
        return tool_defs

    async def prepare_output_tools(
        self, ctx: RunContext[Any], tool_defs: list[ToolDefinition]
    ) -> list[ToolDefinition]:
        self._outputs = {each.name for each in tool_defs}
        return tool_defs

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        handler: Handler,
    ) -> Any:
        if call.tool_name in self._desk.names or call.tool_call_id not in self._call_ids:
            # The desk asks for it itself; or it is a call within another tool, a part of that.
            return await handler(args)
        ran = _Ran(handler, args)
        idempotent = bool((tool_def.metadata or {}).get("idempotent"))
        result = await self.ask(call.tool_name, call, body=ran.body, idempotent=idempotent)
        if ran.raised is not None:
            raise ran.raised
        value = _value(result)
        return replace(ran.returned, return_value=value) if ran.returned else value


class _Desk(AbstractToolset[Any]):
    """The assistant's tools that this turn was offered, under names that every provider takes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tools = {wire_name(tool.name): tool for tool in journal.tools.offered}
        self.names = {wire: tool.name for wire, tool in self._tools.items()}

    @property
    def id(self) -> str | None:
        return None

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        # The arguments are validated by the tool itself: what is wrong with them is its failure,
        # and in the log.
        return {
            wire: ToolsetTool(
                toolset=self,
                tool_def=ToolDefinition(
                    name=wire,
                    description=tool.description,
                    parameters_json_schema=dict(tool.parameters),
                ),
                max_retries=TOOL_RETRIES_MAX,
                args_validator=_ANY_OBJECT,
            )
            for wire, tool in self._tools.items()
        }

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        call = ToolCallPart(name, tool_args, ctx.tool_call_id or "")
        return _value(await self._journal.ask(self.names[name], call))


class _Ran:
    """One execution of a user's own tool, between what the log and what pydantic-ai is told."""

    def __init__(self, handler: Handler, args: dict[str, Any]) -> None:
        self._handler = handler
        self._args = args
        self.raised: Exception | None = None
        self.returned: ToolReturn[Any] | None = None

    async def body(self) -> Any:
        try:
            value = await self._handler(self._args)
        except ToolRetryError as error:
            self.raised = error
            raise ToolError(shown(error.tool_retry.content)) from error
        except ToolFailedError as error:
            self.raised = error
            raise ToolError(shown(error.tool_failed.content)) from error
        except (CallDeferred, ApprovalRequired) as error:
            raise ToolError("The tool asks for an approval, which it cannot have here.") from error
        except (AgentRunError, UserError) as error:
            self.raised = error  # it ends the run
            raise
        if isinstance(value, ToolReturn):
            self.returned = value
            value = value.return_value
        return from_json(to_json(value, inf_nan_mode="null"))


def _value(result: ToolResult) -> Any:
    if result.status != "completed":
        raise ToolFailed(told(result.status, result.reason))
    return result.value


def _not_run(reason: str) -> Callable[[], Awaitable[Any]]:
    async def body() -> Any:
        raise ToolError(reason)

    return body


def _answer(call: ToolCallPart, answers: ModelRequest | None) -> str:
    for part in answers.parts if answers is not None else ():
        if getattr(part, "tool_call_id", None) == call.tool_call_id:
            return shown(getattr(part, "content", ""))
    return "The call was not run."
