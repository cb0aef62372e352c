"""The page's own JavaScript, run as it stands there."""

import asyncio
import inspect
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.pusher.browser import HERE, install, node
from tests.walk.pusher import PATIENCE_SECONDS, Channels, channels

from sessile.core.errors import SessileError
from sessile.pusher import frames, gate, requests, signing

PAGE = Path(__file__).parents[2] / "docs" / "pusher.md"
AROUND = """
import pusherJs from "pusher-js";
const Pusher = pusherJs.Pusher ?? pusherJs.default ?? pusherJs;
const [KEY, token, sessionId] = process.argv.slice(-3);
const show = (entry) => console.log(JSON.stringify(entry));
const given = globalThis.fetch;
globalThis.fetch = (path, options) => given(`http://localhost:3006${path}`, options);
"""


def script(port: int) -> str:
    blocks = re.findall(r"^```js\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    return (AROUND + "\n".join(blocks)).replace("3006", str(port)).replace("localhost", "127.0.0.1")


@asynccontextmanager
async def page(served: Channels, session_id: str) -> AsyncIterator[asyncio.StreamReader]:
    await asyncio.to_thread(install)
    process = await asyncio.create_subprocess_exec(
        *node(),
        "--input-type=module",
        "--eval",
        script(served.port),
        *("--", served.keys.key, served.walk.token("alice"), session_id),
        cwd=HERE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        process.kill()
        await process.wait()


async def test_the_page_s_client_shows_each_entry_once_and_in_order(tmp_path: Path) -> None:
    async with channels(tmp_path) as served:
        walk, hub = served.walk, served.walk.server.hub
        session_id = await walk.opened()
        await walk.said(session_id, "before")
        async with page(served, session_id) as shown, asyncio.timeout(PATIENCE_SECONDS):
            told = [json.loads(await shown.readline())]
            for cut in (False, True, False, True, False):
                if cut:
                    for socket_id in hub.switchboard.registry.sockets_of(
                        f"private-sb-{session_id}"
                    ):
                        hub.close(socket_id, frames.DRAINING)
                await walk.said(session_id, "more")
            log = await walk.log(session_id)
            while len(told) < len(log):
                told.append(json.loads(await shown.readline()))

        assert told == log


def test_every_code_of_the_surface_is_documented() -> None:
    rows = set(
        re.findall(r"^\| `(\w+)` \| (\d+) \|", (PAGE.parent / "errors.md").read_text(), re.M)
    )
    known = {
        (cls.code, str(cls.status))
        for module in (gate, requests, signing)
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, SessileError) and cls.__module__ == module.__name__
    }
    closes = {
        fault.code
        for _, fault in inspect.getmembers(frames, lambda value: isinstance(value, frames.Fault))
    }

    told = {int(code) for code in re.findall(r"\b(\d{4})\b", PAGE.read_text())}
    assert known
    assert known <= rows
    assert closes <= told
