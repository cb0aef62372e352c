"""The assistants of a server that is killed. What they do is said in the input; what they did is
noted in files, which outlive the process as other people's systems would."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from sessile import Assistant, History, Tools, TurnContext

HERE = Path(os.environ["PROBE_DIR"])


def note(name: str, text: str) -> None:
    """On the disk before anything else happens."""
    with (HERE / name).open("a") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())


async def hold() -> None:
    """For ever, or until a start after the test has let go."""
    if not (HERE / "go").exists():
        await asyncio.Event().wait()


worker = Assistant("worker")


@worker.agent
async def work(turn: TurnContext, _history: History, tools: Tools) -> AsyncIterator[str]:
    verb, _, rest = turn.input["text"].partition(" ")
    if verb == "hold":
        yield f"attempt {turn.attempt} "
        await turn.progress(current_iteration=turn.attempt, tokens_used=10 // turn.attempt)
        await hold()
    elif verb == "call":
        result = await tools.call(rest)
        yield f"{result.status}: {result.value or result.reason} "
    elif verb == "die":
        note("died", turn.turn_id)
        os._exit(9)
    yield f"heard {rest}"


def declare_tools(assistant: Assistant) -> None:
    @assistant.tool("once")
    async def once(turn: TurnContext) -> str:
        """Runs once."""
        note("once", turn.session_id)
        await hold()
        return "once done"

    @assistant.tool("again", idempotent=True)
    async def again(turn: TurnContext) -> str:
        """May run again."""
        note("again", turn.session_id)
        await hold()
        return "again done"

    @assistant.tool("thread")
    def thread(turn: TurnContext) -> str:
        """Blocks."""
        note("thread", turn.session_id)
        if not (HERE / "go").exists():
            threading.Event().wait()
        return "thread done"

    @assistant.tool("quick")
    async def quick(turn: TurnContext) -> str:
        """Is done at once."""
        note("quick", turn.session_id)
        return "quick done"


declare_tools(worker)
