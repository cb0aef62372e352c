"""A tool that blocks, and what it cannot do from its thread."""

from tests.runtime.rig import ANN

from sessile.core.context import TurnContext
from sessile.core.transcript import History
from sessile.kit.assistant import Assistant
from sessile.ports.agent import Tools
from sessile.settings import Settings
from sessile.wiring import Server

WAIT_SECONDS = 20.0


async def test_a_tool_that_blocks_is_told_that_it_cannot_call() -> None:
    async def act(turn: TurnContext, history: History, tools: Tools) -> str:
        return (await tools.call("block")).reason or ""

    blocking = Assistant("blocking", agent=act)

    @blocking.tool
    def block(turn: TurnContext) -> None:
        turn.call("other")

    @blocking.tool
    async def other(turn: TurnContext) -> None:
        raise AssertionError("never")

    async with Server(blocking, settings=Settings(store_url="memory")) as server:
        session = (await server.open(ANN)).found.head.key.session_id
        submitted = await server.submit(ANN, session, "hello", wait_seconds=WAIT_SECONDS)

    assert submitted.turn.output == (
        "A tool that blocks cannot do this: it is for one that is async."
    )
