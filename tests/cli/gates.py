"""Agents that wait where a test says: for a file to come, having written one that says so."""

from pathlib import Path

APP = """
import asyncio
from pathlib import Path

from sessile import Assistant, Tools, TurnContext

HERE = Path(__file__).parent
slow = Assistant("slow")


async def gate(name):
    (HERE / f"{name}.reached").touch()
    while not (HERE / f"{name}.open").exists():
        await asyncio.sleep(0.01)


@slow.agent
async def answer(turn, history, tools):
    yield "It began, "
    await gate(turn.input["text"])
    yield "and it ended."


only = Assistant("only", exclusive=True)


@only.agent
async def counts(turn, history):
    said = sum(message.role == "user" for message in history.messages)
    return f"That was message {said}."


stubborn = Assistant("stubborn")


@stubborn.agent
async def stays(turn):
    (HERE / "stubborn.reached").touch()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


blocked = Assistant("blocked")


@blocked.tool("hang")
def hang(turn: TurnContext) -> str:
    import time

    (HERE / "hang.reached").touch()
    while not (HERE / "hang.open").exists():
        time.sleep(0.01)
    return "done"


@blocked.agent
async def hangs(turn, history, tools: Tools):
    await tools.call("hang")
    return "done"
"""


def open_gate(directory: Path, name: str) -> None:
    (directory / f"{name}.open").touch()
