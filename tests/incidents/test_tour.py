"""What the pages tell a newcomer to type, typed at a plain server."""

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Serve, environment

from sessile import Assistant, Principal, Server, Settings, TenantId, UserId

ROOT = Path(__file__).parents[2]
TOUR_SECONDS_MAX = 60


def blocks(page: str, language: str, *, section: str = "") -> list[str]:
    """The code of a page, or of one section of it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if section:
        text = text.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`sessile serve`, and nothing else."""
    with Serve(tmp_path_factory.mktemp("plain")) as served:
        yield served.ready()


def typed(served: Serve, code: list[str]) -> str:
    """What the commands print. A stream that stays open is left after a while: on a machine that
    does much else besides, a longer one."""
    there = "\n".join(code).replace("localhost:3006", served.url.removeprefix("http://"))
    there = there.replace("curl -N -H", "curl -N --max-time 2 -H")
    there = there.replace("--max-time 3", "--max-time 6")
    ran = subprocess.run(
        ["bash", "-uc", there],
        cwd=served.directory,
        env=environment(no_proxy="*"),
        capture_output=True,
        text=True,
        timeout=2 * TOUR_SECONDS_MAX,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.stdout


def test_the_tour_is_as_it_is_told_and_takes_a_minute(bare: Serve) -> None:
    began = time.monotonic()
    said = typed(bare, blocks("README.md", "sh", section="A tour in 60 seconds"))
    seconds = time.monotonic() - began

    assert '"output":"Your name is Ana."' in said
    looked_up = re.findall(r'\n{"turn_id":"(\w+)"[^\n]*"text":"Look up order 7"', said)
    assert len(looked_up) == 2
    assert len(set(looked_up)) == 1
    assert '"name":"orders.lookup"' in said
    _, coming_back = said.split('"text":"Run the slow report"', 1)
    assert "Step 10 of 10" in coming_back
    assert coming_back.count("event: turn.completed") == 1
    ids = [int(found) for found in re.findall(r"^id: (\d+)$", coming_back, re.MULTILINE)]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert '"status":"awaiting"' in said
    assert '"output":"Order 7 is refunded: 55.3 EUR."' in said
    assert said.rstrip().endswith('"details":{}}')
    assert '"code":"session_not_found"' in said.splitlines()[-1]
    assert re.findall(r'"code":"(?!session_not_found)\w+"', said) == []
    assert seconds < TOUR_SECONDS_MAX


def test_the_demos_are_as_they_are_told(bare: Serve) -> None:
    said = typed(bare, blocks("docs/demo.md", "sh"))

    assert r"debug.getSessionInfo: {\"session_id\"" in said
    assert '"status":"awaiting"' in said
    replies = [line for line in said.splitlines() if line.startswith('{"sessionId"')]
    sites, bank = replies[:3], replies[3:]
    assert len({re.findall(r'"sessionId":"(\w+)"', line)[0] for line in sites}) == 1
    assert "Tâches de Maple Tower" in sites[-1]
    assert "EUR on account 1234" in bank[-1]
    assert '"status": "completed"' in said
    assert "I kept a note" in said
    assert "context_status, refused: This needs the grant" in said
    assert "context_status, completed: " in said
    assert "context_summarize, completed: " in said
    assert re.findall(r'"code":"\w+"', said) == []


def test_routes_of_your_own_are_as_they_are_told(tmp_path: Path) -> None:
    (code,) = blocks("docs/demo.md", "python")
    (tmp_path / "app.py").write_text(code)
    commands = r"""
    TOKEN=$(awk '$3 == "alice" {print $1}' sessile-data/dev-tokens)
    post() { curl -s -H 'Content-Type: application/json' http://localhost:3006"$@"; echo; }
    mine() { post "$@" -H "Authorization: Bearer $TOKEN"; }
    press() { mine "/v1/sessions/$SID/turns?wait=10" -d '{"input": {"type": "button", '"$1"'}}'; }
    post /shop/sessions -d '{"text": "Hello"}'
    mine /shop/sessions -d '{"text": "Hello"}' -H 'Idempotency-Key: k' | tee said
    mine /shop/sessions -d '{"text": "Hello"}' -H 'Idempotency-Key: k'
    SID=$(grep -o 'ses_[0-9a-f]*' said)
    press '"button": "more", "payload": {"page": 2}'
    press '"button": "less", "payload": {}'
    """

    with Serve(tmp_path, "app.py") as served:
        unknown, said, repeated, more, less = typed(served.ready(), [commands]).splitlines()

    assert '"code":"unauthenticated"' in unknown
    assert '"reply":"Page 1."' in said
    assert repeated == said
    assert '"output":"Page 2."' in more
    assert '"output":"This button is of last year\'s catalogue."' in less


async def test_the_assistants_of_the_readme_are_what_is_said_of_them(tmp_path: Path) -> None:
    support, echo = (
        _assistant(code)
        for code in blocks("README.md", "python", section="An assistant of your own")
    )
    ana = Principal(tenant_id=TenantId("acme"), user_id=UserId("ana"))
    async with Server(echo, settings=Settings(store_url="memory")) as server:
        session_id = (await server.open(ana)).found.head.key.session_id
        done = await server.submit(ana, session_id, "say it again", wait_seconds=30)

    assert done.turn.output == "say it again "
    assert {tool.name: (tool.idempotent, tool.approval) for tool in support.tools} == {
        "orders.lookup": (True, False),
        "orders.cancel": (False, True),
    }


def _assistant(code: str) -> Assistant:
    names: dict[str, Any] = {}
    exec(code, names)
    (assistant,) = (each for each in names.values() if isinstance(each, Assistant))
    return assistant
