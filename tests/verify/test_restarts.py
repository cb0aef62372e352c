"""A server that is killed and started again: what is then missing is found, and only that; the hook
itself; and Sessile."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Process, environment, until
from tests.incidents.conftest import naive as served
from tests.servers.postgres import free_port
from tests.verify.naive import MAPPING, app
from tests.verify.restarted import Kept
from tests.verify.test_checks import CAN, ONE, Told
from tests.verify.test_planted import found, told

from sessile.verify import loading, runner
from sessile.verify.checker import judge
from sessile.verify.history import History, Kind
from sessile.verify.hooks import Hook, NotDone, Restart

VERIFY = Path(__file__).parents[2] / "docs" / "verify.md"
IN_A_SESSION = "read -r _ _ _ _ _ session _ < /proc/$$/stat; test $session = $$"
"""Of its own, so that what interrupts the run does not interrupt the server that it leaves."""
LIMITS = {**runner.LIMITS, "told_seconds": 1.0, "recovery_seconds": 1.0}


async def played(fault: str | None, hook: Hook | None = None) -> History:
    backend = Kept(fault)
    async with served(app(backend)) as site:
        plan = runner.Plan(
            url=site.url, target=loading.read_mapping(MAPPING), limits=LIMITS, only=("restart",),
            hooks={"restart": hook or backend},
        )  # fmt: skip
        return await runner.play(plan)


def verdicts(history: History) -> dict[str, tuple[str, str]]:
    return {each.check.name: (each.verdict, each.why) for each in judge(history)}


async def test_nothing_is_missing_of_a_backend_with_a_disk() -> None:
    history = await played(None)

    assert found(history) == set(), told(history)
    passed = {name for name, (verdict, _) in verdicts(history).items() if verdict == "passed"}
    assert passed >= {"session-amnesia", "stuck-run", "replay-gap", "replay-duplicate"}


async def test_what_a_restart_breaks_is_reported_and_nothing_else_is() -> None:
    """Several runs wait at once, each for a backend of its own."""
    names = {
        "forgets": "session-amnesia",
        "loses": "session-amnesia",
        "leaves": "stuck-run",
        "replay-gap": "replay-gap",
    }
    histories = await asyncio.gather(*map(played, names))

    for (fault, name), history in zip(names.items(), histories, strict=True):
        assert found(history) == {name}, (fault, told(history))


async def test_a_backend_that_was_not_restarted_is_not_tested() -> None:
    class Fails(Kept):
        async def __call__(self) -> str:
            raise NotDone("the command ended with 3: no such server")

    history = await played(None, Fails())

    why = "the server was not restarted: the command ended with 3: no such server"
    assert verdicts(history)["session-amnesia"] == ("not testable", why)
    assert found(history) == set(), told(history)


async def test_without_a_hook_a_restart_is_not_tested() -> None:
    async with served(app(Kept())) as site:
        target = loading.read_mapping(MAPPING)
        plan = runner.Plan(url=site.url, target=target, limits=LIMITS, only=("keys", "restart"))
        history = await runner.play(plan)

    why = "there is no restart hook: --restart COMMAND"
    assert verdicts(history)["session-amnesia"] == ("not testable", why)
    assert not [op for op in history.ops if op.part == "restart"]


@asynccontextmanager
async def answering() -> AsyncIterator[str]:
    """The address of a server that answers everything."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (IN_A_SESSION, "a connection to it outlived the command, so it was not killed"),
        ("echo no such server >&2; exit 3", "the command ended with 3: no such server"),
        ("exec sleep 60", "it did not answer within 1.5 s"),
    ],
)
async def test_a_command_that_restarts_nothing_is_told_of(command: str, why: str) -> None:
    async with answering() as url:
        hook = Restart(command=command, url=url, seconds_max=1.5)

        with pytest.raises(NotDone, match=why):
            await hook()


def example() -> str:
    """The script of the page."""
    blocks = re.findall(r"^```sh\n(.+?)^```", VERIFY.read_text(), re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if block.startswith("# restart.sh"))


@contextmanager
def ended(pid: Path) -> Iterator[None]:
    """Whatever it was started as last."""
    try:
        yield
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_sessile_remembers_what_it_accepted_and_takes_up_its_turns(tmp_path: Path) -> None:
    """As the page says it is done."""
    (tmp_path / "restart.sh").write_text(example())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    there = environment(PATH=path, SESSILE_PORT=str(free_port()))
    url = f"http://127.0.0.1:{there['SESSILE_PORT']}"
    log = tmp_path / "server.log"
    subprocess.run(["sh", "restart.sh"], cwd=tmp_path, env=there, check=True)
    with ended(tmp_path / "server.pid"):
        until(lambda: log.exists() and " on http" in log.read_text())
        first = (tmp_path / "server.pid").read_text()
        arguments = ("verify", url, "--restart", "sh restart.sh", "--part", "restart", "--json")
        with Process(*arguments, cwd=tmp_path, env=there) as verify:
            code = verify.end()
        assert (tmp_path / "server.pid").read_text() != first

    assert code == 0, verify.told
    checks = {each["name"]: each for each in json.loads("".join(verify.lines))["checks"]}
    for name in ("session-amnesia", "stuck-run", "replay-gap", "replay-duplicate"):
        assert checks[name]["verdict"] == "passed", checks[name]["why"]


class Restarted(Told):
    """One message, and then a restart."""

    def __init__(self, *, accepted: bool = True) -> None:
        super().__init__(*CAN, "restart")
        self.did("open", session=None, said={"session": "ses_1", "sessions": ["ses_1"]})
        self.sent(status=202 if accepted else 503)

    def did(self, kind: Kind, **more: Any) -> None:
        super().did(kind, **{"part": "restart", **more})

    def restarted(self) -> None:
        self.did("restart", session=None)


def test_a_message_that_a_history_had_is_missed_whatever_became_of_its_turn() -> None:
    told = Restarted()
    told.read("messages", ONE)
    told.restarted()
    told.asked("failed")
    told.read("messages", "another")

    assert told.found == {"session-amnesia"}


@pytest.mark.parametrize("state", ["failed", "cancelled", "running"])
def test_a_message_that_no_history_had_yet_is_missed_only_where_its_turn_completed(
    state: str,
) -> None:
    for ends, names in ((state, set[str]()), ("completed", {"session-amnesia"})):
        told = Restarted()
        told.restarted()
        told.asked(ends)
        told.read("messages")

        assert told.found == names


def test_a_message_is_missed_whose_turn_was_under_way_before_and_is_not_known_after() -> None:
    told = Restarted()
    told.asked("running")
    told.restarted()
    told.did("turn", turn="trn_1", status=500)
    told.read("messages")

    assert told.found == {"session-amnesia"}


def test_a_reply_that_was_there_is_missed() -> None:
    told = Restarted()
    told.read("messages", ONE, "a reply")
    told.restarted()
    told.read("messages", ONE)

    assert told.found == {"session-amnesia"}


def test_a_session_is_gone_where_its_last_read_says_so_and_not_where_it_could_not_be_read() -> None:
    for status, names in ((404, {"session-amnesia"}), (500, set[str]()), (503, set[str]())):
        told = Restarted()
        told.read("messages", ONE)
        told.restarted()
        told.did("read", status=status)

        assert told.found == names


def test_a_message_that_was_not_accepted_before_the_restart_is_not_missed() -> None:
    told = Restarted(accepted=False)
    told.restarted()
    told.read("messages")

    assert told.found == set()


def test_a_turn_that_a_restart_interrupted_has_a_limit_of_its_own() -> None:
    for limit, names in (("stuck_seconds", set[str]()), ("recovery_seconds", {"stuck-run"})):
        told = Restarted()
        told.restarted()
        told.asked("running")
        told.now += runner.LIMITS[limit]
        told.asked("running")

        assert told.found == names, limit


def test_what_is_told_again_after_a_restart_moves_nothing() -> None:
    for event, names in (("1", {"stuck-run"}), ("2", set[str]())):
        told = Restarted()
        told.heard("text", id="1")
        told.restarted()
        told.asked("running")
        told.now += runner.LIMITS["recovery_seconds"]
        told.heard("text", id=event)
        told.asked("running")

        assert told.found == names, event
