"""The mappings for OpenAI's Conversations and Responses, held to a naive server of that API."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from tests.incidents.conftest import naive as served
from tests.verify.naive import MAPPING
from tests.verify.openai_naive import conversations
from tests.verify.test_planted import SHARED, found, told

from sessile.verify import loading, runner
from sessile.verify.checker import judge
from sessile.verify.history import History
from sessile.verify.mapping import Request


async def played(
    name: str, fault: str | None = None, *, only: Collection[str] = (), **differs: Any
) -> History:
    here = {"principals": MAPPING["principals"], "slow_text": MAPPING["slow_text"], **differs}
    target = replace(loading.load(name), **here)
    async with served(conversations(fault)) as site:
        plan = runner.Plan(url=site.url, target=target, limits=SHARED, messages_long=1, only=only)
        return await runner.play(plan)


async def test_each_way_to_respond_is_held_to_what_it_has_and_a_fault_is_named() -> None:
    clean, faulty, background = await asyncio.gather(
        played("openai", only=("basics", "busy", "gone")),
        played("openai", "session-substitution", only=("basics",)),
        played("openai-background"),
    )

    locked = [op for op in background.ops if op.status == 400]
    assert locked
    assert {op.outcome for op in locked} == {"busy"}
    assert found(clean) == set(), told(clean)
    assert found(background) == set(), told(background)
    assert found(faulty) == {"session-substitution"}, told(faulty)
    passed = {each.check.name for each in judge(background) if each.verdict == "passed"}
    assert passed >= {
        "lost-message", "undeclared-busy-policy", "unstoppable-turn", "session-resurrection",
        "existence-oracle", "stuck-run",
    }  # fmt: skip


async def test_what_a_page_lacks_is_not_lost() -> None:
    short = loading.load("openai").reads["items"]
    short = replace(short, request=Request(call=short.request.call.replace("100", "3")))

    history = await played("openai", only=("basics",), reads={"items": short})

    assert [op for op in history.ops if "more" in op.said]
    assert found(history) == set(), told(history)
