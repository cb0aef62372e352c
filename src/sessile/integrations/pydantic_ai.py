"""The agent loop: pydantic-ai drives the model, and the session's log is its journal.

A run gets the history without a prompt: a fresh turn and one that lost its node are the same to
it. A response is in the log before its tools run; each of its calls goes through the runtime under
the call id that the log announced, so that what has an outcome is not run again.

An agent that a user brings gets the turn as its `deps`: `Agent(…, deps_type=TurnContext)`. Its own
tools are journalled like an assistant's. What to know of them:

- A tool is run again after a crash only if it says that it may: `metadata={"idempotent": True}`.
  What it does inside, be it another agent's run, is not journalled. Of a `ToolReturn`, the value is
  in the log and the extra content is not.
- Nothing that is shared by runs may hold what belongs to one user. An `MCPToolset` that is made
  once has one MCP session for all runs, with the headers of whichever run came first: give it
  `headers=` as a function of the run context, or build it in `@agent.toolset`.
- `system_prompt` is left out where there is a history, which is always: use `instructions`.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

from pydantic_ai import Agent, AgentRun, DeferredToolRequests
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.exceptions import (
    AgentRunError,
    ContentFilterError,
    ModelAPIError,
    ModelHTTPError,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
    UserError,
)
from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
)
from pydantic_ai.usage import RunUsage
from pydantic_graph import End

from sessile.core.context import TurnContext
from sessile.core.events import JsonObject, Progress
from sessile.core.transcript import History
from sessile.integrations.pydantic_journal import TOOL_RETRIES_MAX, Journal
from sessile.integrations.pydantic_messages import fold, rejected, shown
from sessile.ports.agent import (
    AgentEvent,
    AgentFailed,
    MessageEnd,
    TextDelta,
    ThinkingDelta,
    Tool,
    Tools,
)

os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")  # a server's stderr is for its log

PROGRESS_SECONDS = 0.1

Run = AgentRun[Any, Any]


class Declared(Protocol):
    """What an assistant says of itself: the agent that it brought, or a model and instructions."""

    @property
    def name(self) -> str: ...

    @property
    def model(self) -> Any: ...

    @property
    def instructions(self) -> str: ...

    @property
    def brought(self) -> Any: ...

    @property
    def tools(self) -> Sequence[Tool]: ...


class PydanticLoop:
    """Drives an assistant's turns by an agent of pydantic-ai."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        if declared.brought is not None:
            self._agent: AbstractAgent[Any, Any] = declared.brought
            return
        model = declared.model
        if model is None or model == "demo":
            from sessile.integrations.demo_model import demo_model  # noqa: PLC0415

            model = demo_model()
        self._agent = Agent(
            model,
            name=declared.name,
            instructions=declared.instructions or None,
            deps_type=TurnContext,
            retries={"tools": TOOL_RETRIES_MAX},
        )

    @property
    def reads_history(self) -> bool:
        return True

    @property
    def restarts(self) -> bool:
        return False

    async def run(
        self, turn: TurnContext, history: History, tools: Tools
    ) -> AsyncIterator[AgentEvent]:
        folded = fold(history, turn.turn_id)
        if folded.answered:
            # With instructions, pydantic-ai would ask the model once more.
            return
        declared = [tool.name for tool in self._declared.tools]
        journal = Journal(tools, pending=folded.pending, declared=declared)
        with _failures():
            async with self._agent.iter(
                message_history=folded.messages,
                conversation_id=turn.session_id,
                deps=turn,
                capabilities=[journal],
                infer_name=False,
            ) as run:
                drive = _Drive(
                    run, journal, responses=folded.responses, tokens=turn.reached.tokens_used
                )
                # What is left half-way is closed from the inside out, the model's stream first.
                async with aclosing(drive.events()) as events:
                    async for event in events:
                        yield event


class _Drive:
    """One run, step by step."""

    def __init__(self, run: Run, journal: Journal, *, responses: int, tokens: int) -> None:
        self._run = run
        self._journal = journal
        self._meter = _Meter(run, responses=responses, tokens=tokens)
        self._text: list[str] = []
        self._thinking: list[str] = []

    async def events(self) -> AsyncGenerator[AgentEvent]:
        node = self._run.next_node
        parts: tuple[JsonObject, ...] = ()
        while not isinstance(node, End):
            if Agent.is_model_request_node(node):
                if refused := rejected(parts, node.request):
                    yield MessageEnd(refused)
                async with aclosing(self._asked(node)) as events:
                    async for event in events:
                        yield event
                node = await self._run.next(node)
                response = self._run.all_messages()[-1]
                parts = ()
                if isinstance(response, ModelResponse):
                    parts = self._journal.announce(response)
            elif Agent.is_call_tools_node(node):
                if any(part["type"] == "tool_call" for part in parts):
                    yield MessageEnd(parts)
                    parts = ()
                calls = node.model_response.tool_calls
                node = await self._run.next(node)
                await self._journal.settle(calls, self._answers(node))
                if self._journal.tools.handed_off:
                    return  # another assistant goes on
            else:
                node = await self._run.next(node)
        for event in self._final(parts):
            yield event

    async def _asked(self, node: Any) -> AsyncGenerator[AgentEvent]:
        """One request to the model: what the user has steered in goes along."""
        for message in await self._journal.tools.steered():
            self._run.enqueue(message.text)
        self._text.clear()
        self._thinking.clear()
        async with node.stream(self._run.ctx) as stream:
            yield self._meter.read(self._run.usage)
            async for event in stream:
                if delta := _delta(event):
                    (self._text if isinstance(delta, TextDelta) else self._thinking).append(
                        delta.text
                    )
                    yield delta
                if self._meter.due():
                    yield self._meter.read(stream.usage)
        yield self._meter.read(self._run.usage)

    def _answers(self, node: Any) -> ModelRequest | None:
        """What the model is told of its last calls."""
        if not isinstance(node, End):
            request: ModelRequest = node.request
            return request
        last = self._run.all_messages()[-1]
        return last if isinstance(last, ModelRequest) else None

    def _final(self, parts: tuple[JsonObject, ...]) -> Iterator[AgentEvent]:
        """The reply, where it differs from what was streamed. A message that may be left open is:
        it is then written together with the turn's end."""
        assert self._run.result is not None
        output: Any = self._run.result.output
        if isinstance(output, DeferredToolRequests):
            raise AgentFailed("approval_unsupported", "The agent's tool asks for an approval.")
        said = "".join(part["text"] for part in parts if part["type"] == "text")
        text = shown(output) if output is not None else said
        if not parts:
            yield TextDelta(text)
        elif not said.endswith(text):
            kept = (part for part in parts if part["type"] == "thinking")
            yield MessageEnd((*kept, {"type": "text", "text": text}))
        elif list(parts) != self._streamed():
            yield MessageEnd(parts)

    def _streamed(self) -> list[JsonObject]:
        streamed = (("thinking", self._thinking), ("text", self._text))
        return [{"type": kind, "text": "".join(text)} for kind, text in streamed if text]


class _Meter:
    """Counts responses and tokens on from what the turn had reached, and tells of them not too
    often."""

    def __init__(self, run: Run, *, responses: int, tokens: int) -> None:
        self._run = run
        self._responses = responses
        self._tokens = tokens
        self._loop = asyncio.get_running_loop()
        self._told_at = self._loop.time()

    def due(self) -> bool:
        return self._loop.time() - self._told_at >= PROGRESS_SECONDS

    def read(self, usage: RunUsage) -> Progress:
        self._told_at = self._loop.time()
        return Progress(
            current_iteration=self._responses + self._run.ctx.state.run_step,
            tokens_used=self._tokens + usage.total_tokens,
        )


def _delta(event: Any) -> TextDelta | ThinkingDelta | None:
    match event:
        # The first piece of a part comes with its start.
        case PartStartEvent(part=TextPart(content=text)) if text:
            return TextDelta(text)
        case PartDeltaEvent(delta=TextPartDelta(content_delta=text)) if text:
            return TextDelta(text)
        case PartStartEvent(part=ThinkingPart(content=text)) if text:
            return ThinkingDelta(text)
        case PartDeltaEvent(delta=ThinkingPartDelta(content_delta=str(text))) if text:
            return ThinkingDelta(text)
        case _:
            return None


@contextmanager
def _failures() -> Generator[None]:
    """What pydantic-ai raises, in words that may be shown: a provider's answer is for the log."""
    try:
        yield
    except UsageLimitExceeded as error:
        raise AgentFailed("usage_limit", str(error)) from error
    except ContentFilterError as error:
        raise AgentFailed("content_filtered", "The model's provider filtered it.") from error
    except UnexpectedModelBehavior as error:
        raise AgentFailed("model_misbehaved", error.message, retry=True) from error
    except ModelAPIError as error:
        raise _provider_failed(error) from error
    except ExceptionGroup as group:
        # Each of several models has failed: the last word is with the one that may recover.
        failures = [_provider_failed(e) for e in group.exceptions if isinstance(e, ModelAPIError)]
        if not failures:
            raise
        raise max(failures, key=lambda failure: failure.retry) from group
    except UserError as error:
        raise AgentFailed("agent_misconfigured", str(error)) from error
    except AgentRunError as error:
        raise AgentFailed("agent_stopped", error.message) from error


def _provider_failed(error: ModelAPIError) -> AgentFailed:
    if not isinstance(error, ModelHTTPError):
        return AgentFailed("model_unreachable", "The model's provider was not reached.", retry=True)
    status = error.status_code
    said = f"The model's provider answered {status}."
    if status == 429:
        return AgentFailed("model_rate_limited", said, retry=True)
    if status >= 500:
        return AgentFailed("model_unavailable", said, retry=True)
    return AgentFailed("model_refused", said)
