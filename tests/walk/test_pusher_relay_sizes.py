"""Nothing that is too large for a hosted service holds a session's relay up for ever."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.walk.hosted import Hosted
from tests.walk.people import walking
from tests.walk.test_pusher_relay import channel_of, relayed, service, until

from sessile.pusher.relay import DATA_BYTES_MAX

__all__ = ["service"]

WIDE = "\N{GRINNING FACE}" + "a" * 8_000
"""Within what a service takes, in UTF-8; in memory, Python holds four bytes a character."""


async def test_a_text_that_python_holds_wide_holds_nothing_up(
    tmp_path: Path, service: Hosted
) -> None:
    async with walking(data_dir=tmp_path, mount=relayed(service)) as walk:
        session_id = await walk.opened()
        await walk.said(session_id, WIDE)
        head = len(await walk.log(session_id))
        await walk.said(session_id, "and on")
        whole = await walk.log(session_id)

        channel = channel_of(session_id)
        await until(service, lambda: [e["seq"] for e in service.of(channel)][-1:] == [len(whole)])

        told = service.of(channel)
        assert [each["seq"] for each in told] == list(range(1, len(whole) + 1))
        assert told[head:] == whole[head:]
        wide = [each for each in whole if WIDE in str(each["body"])]
        assert len(wide) >= 3
        for each in told[:head]:
            assert each["body"] is None or each in whole


@pytest.mark.parametrize("size", [DATA_BYTES_MAX, 40_000])
async def test_a_projection_that_is_too_large_is_passed_over(
    tmp_path: Path, service: Hosted, size: int
) -> None:
    """For one that a service never takes, the log would wait for ever."""

    def cards(session_id: str, entry: Any) -> Any:
        if entry["kind"] == "turn.started":
            yield "card", {"text": "a" * size}
            yield "card", {"text": "small"}

    async with walking(data_dir=tmp_path, mount=relayed(service)) as walk:
        walk.server.project(cards)
        sessions = [await walk.opened() for _ in range(2)]
        await asyncio.gather(*(walk.said(each, "hello") for each in sessions))

        for session_id in sessions:
            log = await walk.log(session_id)
            channel = channel_of(session_id)
            await until(
                service, lambda channel=channel, log=log: service.of(channel)[-1:] == log[-1:]
            )
            cards_told = [
                each
                for each in service.took
                if each["name"] == "card" and channel in each["channels"]
            ]
            assert len(cards_told) == 1
            assert service.of(channel)[3] == {"text": "small", "seq": 3}
