"""A figure that must stay 0 is worth something if it moves when it has to."""

import asyncio

from tests.guarantees.callers import assert_whole
from tests.guarantees.conftest import Serve
from tests.guarantees.servers import World

from sessile import Assistant, TurnContext

MISMATCHES = "sessile_session_mismatches_must_stay_zero_total"
ORPHANS = "sessile_orphaned_calls_must_stay_zero_total"
FENCED = "sessile_fence_refusals_total"


async def figures(world: World) -> dict[str, float]:
    told = (await world.http.get("/metrics")).text.splitlines()
    pairs = [line.split() for line in told if line and line[0] != "#" and "{" not in line]
    return {name: float(value) for name, value, *_ in pairs}


async def test_an_identity_that_is_another_session_s_rings_the_alarm(serve: Serve) -> None:
    lent: dict[str, TurnContext] = {}
    both = asyncio.Barrier(2)
    assistant = Assistant("lends")

    @assistant.agent
    async def answer(turn: TurnContext) -> str:
        text = turn.input["text"]
        lent[text] = turn
        await both.wait()
        if text == "steal":
            return lent["work"].session_id
        await both.wait()
        return turn.session_id

    async with serve(assistant) as world:
        mine, cleos = await world.ana.opened(), await world.cleo.opened()
        before = await figures(world)
        async with asyncio.TaskGroup() as tasks:
            thief = tasks.create_task(world.cleo.said(cleos, "steal"))
            worker = tasks.create_task(world.ana.said(mine, "work"))
            stolen = await thief
            during = await figures(world)
            await both.wait()
            worked = await worker
        logs = [await world.ana.log(mine), await world.cleo.log(cleos)]

    assert {before[name] for name in (MISMATCHES, ORPHANS, FENCED)} == {0.0}
    assert (during[MISMATCHES], during[ORPHANS], during[FENCED]) == (1.0, 0.0, 0.0)
    assert (stolen["status"], stolen["output"] or "") == ("failed", "")
    assert (worked["status"], worked["output"]) == ("completed", mine)
    assert mine not in str(logs[1])
    for log in logs:
        assert_whole(log)
