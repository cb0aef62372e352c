"""An agent workspace: agents look after their own context, and several clients talk to one session.

It speaks the public API alone: `/v1`, with `PUT …/grants` for `manage_sessions` and the session's
metadata for its provider. What stands in for a provider's model here follows fixed rules.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from sessile import AgentFailed, Assistant, History, Message, Tools, TurnContext

STEPS = 5
STEP_SECONDS = 1.0
WINDOW_TOKENS = 8_000
PROVIDER = "plain"

Provider = Callable[[Sequence[Message]], Awaitable[str]]
"""What answers a history: it knows nothing but what it is given."""

_ASKED = re.compile(
    r"(?P<context_status>context status)"
    r"|summari[sz]e: *(?P<context_summarize>[^\n]+)"
    r"|(?P<build>run the build)",
    re.IGNORECASE,
)


async def plain(messages: Sequence[Message]) -> str:
    """Says how many replies it was shown, so that one that was lost is missed."""
    replies = sum(message.role == "assistant" for message in messages)
    asked = [message.text for message in messages if message.role == "user"]
    return f"Reply {replies + 1}: you said {asked[-1]!r}."


async def terse(messages: Sequence[Message]) -> str:
    """Says little."""
    return "Noted."


def assistants(
    *,
    providers: Mapping[str, Provider] | None = None,
    pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
) -> tuple[Assistant, ...]:
    """The workspace's assistant. `providers`: by the names that a session's metadata may give as
    `provider`; `pause`: what the build does between two steps."""
    known = {PROVIDER: plain, "terse": terse} if providers is None else dict(providers)
    workspace = Assistant(
        "workspace",
        description="Looks after its own context; several clients may talk to one session.",
        window_tokens=WINDOW_TOKENS,
    )

    @workspace.tool("build.run", idempotent=True)
    async def build(turn: TurnContext) -> str:
        """Run the build, which takes a while and says how far it is."""
        for step in range(1, STEPS + 1):
            await pause(STEP_SECONDS)
            await turn.progress(note=f"Step {step} of {STEPS}")
        return "The build is done."

    @workspace.agent
    async def answer(turn: TurnContext, history: History, tools: Tools) -> AsyncIterator[str]:
        name = turn.metadata.get("provider", PROVIDER)
        provider = known.get(name) if isinstance(name, str) else None
        if provider is None:
            there = ", ".join(sorted(known))
            raise AgentFailed(
                "unknown_provider",
                f"There is no provider {name!r}: the session's metadata names one of {there}.",
            )
        for tool, arguments in _calls(turn.input["text"]):
            result = await tools.call(tool, arguments)
            told = result.reason if result.status != "completed" else _shown(result.value)
            yield f"{tool}, {result.status}: {told}\n"
        yield await provider(history.messages)

    return (workspace,)


def _calls(text: str) -> list[tuple[str, dict[str, str]]]:
    """What the text asks for, in its order."""
    calls: list[tuple[str, dict[str, str]]] = []
    for found in _ASKED.finditer(text):
        if found["context_status"]:
            calls.append(("context_status", {}))
        elif summary := found["context_summarize"]:
            calls.append(("context_summarize", {"summary": summary}))
        else:
            calls.append(("build.run", {}))
    return calls


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
