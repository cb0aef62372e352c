"""Assistants to be served: what an agent does costs nothing, so that Sessile is measured."""

import asyncio
from collections.abc import AsyncIterator

from sessile import Assistant, TurnContext
from sessile.core.transcript import History

echo = Assistant("echo")
reads = Assistant("reads")
streams = Assistant("streams")

WORDS = 40
WORD_SECONDS = 0.01


@echo.agent
async def _echo(turn: TurnContext) -> str:
    """The same text back."""
    text: str = turn.input["text"]
    return text


@reads.agent
async def _reads(turn: TurnContext, history: History) -> str:
    """As long an answer, from an agent that looks at what was said before."""
    said = sum(len(message.text) for message in history.messages)
    text: str = turn.input["text"]
    return f"{said} {text}"[: len(text)]


@streams.agent
async def _streams(turn: TurnContext) -> AsyncIterator[str]:
    """A hundred words a second, as a model writes them; the first one at once."""
    for number in range(WORDS):
        yield f"word{number} "
        await asyncio.sleep(WORD_SECONDS)
