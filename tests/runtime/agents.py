"""Assistants that several race tests share."""

import asyncio

from sessile.core.context import TurnContext
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant

Heard = list[list[tuple[str, str]]]


def echo(heard: Heard | None = None) -> Assistant:
    """Replies to what was last said, and keeps the history that it was given."""
    assistant = Assistant("echo")

    @assistant.agent
    async def answer(turn: TurnContext, history: History) -> str:
        if heard is not None:
            heard.append([(message.role, message.text) for message in history.messages])
        return f"re: {turn.input['text']}"

    return assistant


def waits(until: asyncio.Event | None = None, *, asked: list[int] | None = None) -> Assistant:
    """Answers `done` once it may, and keeps in which attempts it was asked."""
    assistant = Assistant("waits")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        if asked is not None:
            asked.append(turn.attempt)
        await (until or asyncio.Event()).wait()
        return "done"

    return assistant
