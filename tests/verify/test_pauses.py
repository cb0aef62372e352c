"""A server that is paused amid a turn and goes on when another has taken that over: what it then
writes is found, and only that; what it takes to see it; and the hooks."""

import asyncio
import runpy
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic_ai.messages import ModelRequest, UserPromptPart
from tests.incidents.conftest import naive as served
from tests.servers.postgres import free_port
from tests.verify.naive import app
from tests.verify.paused import MAPPING, Paused
from tests.verify.test_checks import CAN, Told
from tests.verify.test_planted import found, told

from sessile.verify import loading, runner
from sessile.verify.answering import WORD
from sessile.verify.checker import judge
from sessile.verify.history import History, Kind, Op
from sessile.verify.hooks import Hook, NotDone, Pause, Resume

LIMITS = {**runner.LIMITS, "told_seconds": 0.5, "recovery_seconds": 2.0, "pause_seconds": 1.0}
NEEDS = ("pause", "probe", "resume", "events.texts")


def plan(url: str, hooks: Mapping[Kind, Hook], **limits: float) -> runner.Plan:
    return runner.Plan(
        url=url, target=loading.read_mapping(MAPPING), limits={**LIMITS, **limits},
        only=("pause",), hooks=hooks,
    )  # fmt: skip


async def played(fault: str | None) -> History:
    backend = Paused(fault)
    async with served(app(backend)) as site:
        history = await runner.play(plan(site.url, backend.hooks))
    assert backend.told == ["pause", "resume"]
    return history


def verdict(history: History) -> tuple[str, str]:
    (result,) = judge(history, only=["zombie-write"])
    return result.verdict, result.why


async def test_what_writes_on_in_a_turn_that_it_has_lost_is_reported_and_nothing_else_is() -> None:
    faults = (None, "zombie-write", "alone", "pause", "resume")
    histories = dict(zip(faults, await asyncio.gather(*map(played, faults)), strict=True))

    for fault, history in histories.items():
        names = {"zombie-write"} if fault == "zombie-write" else set[str]()
        assert found(history) == names, (fault, told(history))
    assert verdict(histories[None]) == ("passed", "")
    untested = {fault: verdict(history) for fault, history in list(histories.items())[2:]}
    assert untested == {
        "alone": ("not testable", "no other process took the turn over within 1 s"),
        "pause": ("not testable", "the server was not paused: it does not listen"),
        "resume": ("not testable", "the server did not go on: it does not listen"),
    }


class Slow:
    """A hook that ends when it may."""

    command = "slow"

    def __init__(self) -> None:
        self.began, self.may_end = asyncio.Event(), asyncio.Event()
        self.ended = False

    async def __call__(self) -> str:
        self.began.set()
        await self.may_end.wait()
        self.ended = True
        return ""


@pytest.mark.parametrize("when", ["pausing", "paused", "resuming"])
async def test_a_server_goes_on_when_the_run_is_stopped(when: str) -> None:
    """By Ctrl-C, or because its time is over."""
    pause, resume, paused = Slow(), Slow(), asyncio.Event()
    if when != "pausing":
        pause.may_end.set()

    def seen(op: Op) -> None:
        if op.kind == "pause":
            paused.set()

    async with served(app(Paused())) as site, asyncio.TaskGroup() as tasks:
        seconds = 0.01 if when == "resuming" else 60.0
        hooks: dict[Kind, Hook] = {"pause": pause, "resume": resume}
        this = plan(site.url, hooks, pause_seconds=seconds)
        playing = tasks.create_task(runner.play(this, seen=seen))
        await {"pausing": pause.began, "paused": paused, "resuming": resume.began}[when].wait()
        playing.cancel()
        await resume.began.wait()
        assert not playing.done()
        resume.may_end.set()
        await asyncio.wait([playing])

    assert playing.cancelled()
    assert resume.ended


@contextmanager
def server(source: str) -> Iterator[tuple[int, str]]:
    """A process of its own: its number, and where it listens as `listening`."""
    port = free_port()
    program = f"import socket\nlistening = socket.create_server(('127.0.0.1', {port}))\n"
    ready = "print(flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-c", program + ready + source], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


ANSWERS = """
while True:
    taken = listening.accept()[0]
    taken.recv(1)
    taken.sendall(b"HTTP/1.1 404 Not Found\\r\\ncontent-length: 0\\r\\n\\r\\n")
    taken.close()
"""


async def test_a_process_is_paused_and_goes_on() -> None:
    with server(ANSWERS) as (pid, url):
        pause = Pause(command=f"kill -STOP {pid}; echo stopped", url=url, seconds_max=10)
        resume = Resume(command=f"kill -CONT {pid}", url=url, seconds_max=10)

        assert await pause() == "stopped"
        with pytest.raises(NotDone, match=r"it did not answer within 0\.2 s"):
            await Resume(command="true", url=url, seconds_max=0.2)()
        assert await resume() == ""
        with pytest.raises(NotDone, match="it still answers, by 404"):
            await Pause(command="true", url=url, seconds_max=10)()


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("echo no such process >&2; exit 3", "the command ended with 3: no such process"),
        ("exec sleep 60", "the command did not end within 0.5 s"),
        ("true", "it is gone: "),
    ],
)
async def test_a_command_that_pauses_nothing_is_told_of(command: str, why: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(NotDone, match=why):
        await Pause(command=command, url=url, seconds_max=0.5)()


def words(run: int, *places: int) -> str:
    return "".join(f"run-{run:08x}-{place} " for place in places)


class Again(Told):
    """What a reader is told who comes back after a pause, each text an event."""

    def __init__(self, *texts: str, can: tuple[str, ...] = (*CAN, *NEEDS)) -> None:
        super().__init__(*can)
        self.did("open", session=None, said={"session": "ses_1", "sessions": ["ses_1"]})
        self.sent()
        for kind in ("pause", "resume"):
            self.did(kind, session=None)
        for text in texts:
            self.heard("text", text=text)

    def did(self, kind: Kind, **more: Any) -> None:
        super().did(kind, **{"part": "pause", **more})

    def over(self, *, status: int = 200, **more: Any) -> None:
        """The stream ends."""
        said = {"stream": 1, "cursor": "1", "end": "left", "opened": self.now, "silence": 0.0}
        self.did("stream", said={**said, **more}, status=status)

    @property
    def verdict(self) -> tuple[str, str]:
        return verdict(History(self.run, tuple(self.ops)))


PASSED = ("passed", "")
UNTOLD = ("not testable", "the stream was not told again")
ALONE = ("not testable", "no other process took the turn over within 40 s")


@pytest.mark.parametrize(
    "texts",
    [
        (words(1, 0), words(2, 0), words(1, 1)),
        (words(1, 0, 1), words(2, 0) + words(1, 2)),
        (words(1, 0) + words(2, 0) + words(1, 1),),
        (words(1, 0), words(2, 0), words(3, 0), words(1, 1)),
        (words(1, 0), words(2, 0), words(3, 0), words(2, 1)),
        (words(1, 0), words(2, 0), words(1, 0, 1)),
    ],
)
def test_a_word_behind_another_run_s_is_written_by_who_has_lost_the_turn(
    texts: tuple[str, ...],
) -> None:
    told = Again(*texts)
    told.over()

    assert told.found == {"zombie-write"}


@pytest.mark.parametrize(
    "texts",
    [
        (words(1, 0, 1), words(2, 0, 1)),
        (words(1, 0), words(2, 0), words(3, 0)),
        # Each event has all the text until then; and at the end all is told once more.
        (
            words(1, 0),
            words(1, 0, 1),
            words(1, 0, 1) + words(2, 0),
            words(1, 0, 1) + words(2, 0, 1),
        ),
        (words(1, 0, 1), words(2, 0), words(1, 0, 1) + words(2, 0)),
        # A word may be cut.
        (words(1, 10, 11), words(2, 0), words(1, 12)[:-2]),
    ],
)
def test_runs_that_follow_one_another_and_what_is_told_once_more_are_none(
    texts: tuple[str, ...],
) -> None:
    told = Again(*texts)
    told.over()

    assert (told.found, told.verdict) == (set(), PASSED)


def test_what_shows_it_are_three_events() -> None:
    told = Again(words(1, 0), words(1, 1), words(2, 0), words(2, 1), words(1, 2), words(1, 3))
    told.over()

    (result,) = judge(History(told.run, tuple(told.ops)), only=["zombie-write"])
    (finding,) = result.findings
    first, since, again = ((told.ops[n - 1].said["text"]) for n in finding.ops)
    assert (first, since, again) == (words(1, 1), words(2, 0), words(1, 2))
    assert finding.what == "run-00000001 wrote on in trn_1 after run-00000002 had taken it over."


def test_one_turn_s_runs_are_not_another_s() -> None:
    told = Again()
    for turn, run in (("trn_1", 1), ("trn_2", 2), ("trn_1", 1)):
        told.heard("text", turn=turn, text=words(run, len(told.ops)))
    told.over()

    assert (told.found, told.verdict) == (set(), ALONE)


def test_the_order_is_that_of_one_reader_who_came_back() -> None:
    texts = (words(1, 0), words(2, 0), words(1, 1))
    others: list[dict[str, Any]] = [{"cursor": None}, {"end": "broken"}, {"status": 503}]
    for how in others:
        told = Again(*texts)
        told.over(**how)
        assert (told.found, told.verdict) == (set(), UNTOLD), how

    told = Again(*texts[:2])
    told.over()
    told.heard("text", text=texts[2], stream=2)
    told.over(stream=2)
    assert told.found == set()


def test_a_turn_that_nobody_took_over_is_not_tested() -> None:
    told = Again(words(1, 0), words(1, 1))
    told.over()

    assert told.verdict == ALONE


@pytest.mark.parametrize(
    ("lacks", "why"),
    [
        ("pause", "there is no pause hook: --pause COMMAND --resume COMMAND"),
        ("probe", "the mapping has no probe (an agent that tells what it is shown)"),
        ("resume", "the mapping has no stream.resume_header or resume_query"),
        ("stream", "the mapping has no stream"),
        ("events.texts", "the mapping has no stream.events.texts"),
    ],
)
def test_what_it_takes_is_named(lacks: str, why: str) -> None:
    without = {lacks, "resume", "events.texts"} if lacks == "stream" else {lacks}
    told = Again(can=tuple(each for each in (*CAN, *NEEDS) if each not in without))

    assert told.verdict == ("not testable", why)


def test_a_turn_that_a_pause_held_up_has_a_limit_of_its_own() -> None:
    for limit, names in (("stuck_seconds", set[str]()), ("recovery_seconds", {"stuck-run"})):
        told = Again()
        del told.ops[-2:]
        told.asked("running")
        told.now += runner.LIMITS["pause_seconds"]
        told.did("resume", session=None)
        told.asked("running")
        told.now += runner.LIMITS[limit]
        told.asked("running")

        assert told.found == names, limit


async def run_of(name: str) -> str:
    """Which run of a probe it was, by each of its words in turn."""
    probe = runpy.run_path(str(loading.probes()[name]))
    saying: AsyncIterator[str]
    if name == "sessile":
        saying = probe["answer"](SimpleNamespace(input={"text": "probe: wait"}), None, None)
    else:
        saying = probe["stream"]([ModelRequest(parts=[UserPromptPart("probe: wait")])], None)
    said = [word for text in [text async for text in saying] for word in WORD.findall(text)]
    assert [int(place) for _, place in said] == list(range(len(said)))
    (run,) = {run for run, _ in said}
    return str(run)


async def test_each_run_of_a_probe_that_streams_has_words_of_its_own() -> None:
    names = 2 * ["sessile", "pydantic_ai"]

    runs = await asyncio.gather(*map(run_of, names))

    assert len(set(runs)) == len(names)
