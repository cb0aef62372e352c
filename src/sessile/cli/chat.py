"""`sessile chat`: on a terminal a screen that is drawn again as things happen, else a pipe."""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sessile.cli.client import (
    Connected,
    Ended,
    JsonObject,
    Lost,
    Refused,
    Unreachable,
    connected,
    token_of,
    told,
)
from sessile.cli.failure import CommandFailed
from sessile.cli.keys import Editor, Leave, Line, Wish
from sessile.cli.piped import pipe
from sessile.cli.plain import cut, one_line
from sessile.cli.screen import Screen
from sessile.cli.talk import ANSWERS, HELP, Talk
from sessile.cli.view import Note

READ_BYTES = 65_536
WISHES_MAX = 1_000
FRAME_SECONDS = 0.05
SPIN_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command line said."""

    url: str
    token: str | None
    user: str | None
    session_id: str | None
    assistant: str | None
    data_dir: Path


def chat(asked: Asked) -> None:
    """Until one leaves. Raises CommandFailed."""
    asyncio.run(_chat(asked))


async def _chat(asked: Asked) -> None:
    token = token_of(asked.token, asked.data_dir, asked.user)
    async with connected(asked.url, token) as client:
        talk = Talk(client, asked.assistant)
        try:
            if asked.session_id is not None:
                await talk.enter(asked.session_id)
            else:
                await client.sessions(limit=1)  # the server is there, and knows the token
        except (Refused, Unreachable) as error:
            raise told(error, asked.url) from error
        try:
            if sys.stdin.isatty() and sys.stdout.isatty():
                await _Terminal(talk, asked.url).run()
            else:
                await pipe(talk, asked.url)
        except ExceptionGroup as group:
            failures, _ = group.split(CommandFailed)
            if failures is None:
                raise
            raise _first(failures) from None


def _first(group: BaseExceptionGroup[CommandFailed]) -> CommandFailed:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


class _Terminal:
    """A chat on a terminal. One task reads, one does what is wished, one follows, one draws."""

    def __init__(self, talk: Talk, url: str) -> None:
        self._talk = talk
        self._url = url
        self._editor = Editor()
        self._screen = Screen(Console(highlight=False), talk.view, self._editor)
        self._wishes: asyncio.Queue[Wish] = asyncio.Queue(WISHES_MAX)
        self._changed = asyncio.Event()
        self._leaving = asyncio.Event()
        self._switched = asyncio.Event()
        self._cancel = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        console = self._screen.console
        console.print(Text(f"Sessile chat on {self._url}; /help says what there is.", "dim"))
        with _typing(sys.stdin.fileno()):
            loop.add_reader(sys.stdin.fileno(), self._read)
            loop.add_signal_handler(signal.SIGINT, self._on_interrupt)
            self._screen.start()
            try:
                async with asyncio.TaskGroup() as tasks:
                    work = [
                        tasks.create_task(each)
                        for each in (
                            self._do(),
                            self._cancel_for_ever(),
                            self._follow(),
                            self._draw(),
                        )
                    ]
                    await self._leaving.wait()
                    for each in work:
                        each.cancel()
            finally:
                loop.remove_reader(sys.stdin.fileno())
                self._screen.refresh()
                self._screen.stop()
        if self._talk.session_id is not None:
            console.print(Text(f"sessile chat --session {self._talk.session_id}", "dim"))

    # -- what the user does

    def _read(self) -> None:
        typed = os.read(sys.stdin.fileno(), READ_BYTES)
        if not typed:
            self._leaving.set()
            return
        for wish in self._editor.feed(typed):
            if not self._wishes.full():
                self._wishes.put_nowait(wish)
        self._changed.set()

    def _on_interrupt(self) -> None:
        running = self._talk.view.running
        if running is not None and not running.cancelling:
            running.cancelling = True
            self._cancel.set()
        elif self._editor.text and running is None:
            self._editor.reset()
        else:
            self._leaving.set()
        self._changed.set()

    async def _cancel_for_ever(self) -> None:
        while True:
            await self._cancel.wait()
            self._cancel.clear()
            async with self._told():
                await self._talk.cancel()

    async def _do(self) -> None:
        while True:
            match await self._wishes.get():
                case Leave():
                    self._leaving.set()
                case Line(text):
                    async with self._told():
                        await self._line(text)
            self._changed.set()

    async def _line(self, text: str) -> None:
        if not text.strip():
            return
        if (granted := ANSWERS.get(text.strip().lower())) is not None and self._talk.view.waiting:
            await self._talk.answer(granted=granted)
            return
        if not text.startswith("/") or text.startswith("//"):
            await self._talk.say(text.removeprefix("/") if text.startswith("//") else text)
            return
        name, _, rest = text.partition(" ")
        rest = rest.strip()
        match name:
            case "/new":
                self._talk.leave(rest or self._talk.assistant)
                self._switched.set()
                self._note("The next message begins a new session.")
            case "/open" if rest:
                await self._talk.enter(rest)
                self._switched.set()
            case "/sessions":
                self._screen.say(_table(await self._talk.sessions()))
            case "/history":
                for block in await self._talk.history():
                    self._screen.show(block)
            case "/cancel":
                if not await self._talk.cancel():
                    self._note("No turn runs.")
            case "/approve" | "/deny":
                if not await self._talk.answer(granted=name == "/approve", reason=rest):
                    self._note("No call waits.")
            case "/steer" if rest:
                await self._talk.say(rest, when_busy="steer")
            case "/interrupt" if rest:
                await self._talk.say(rest, when_busy="interrupt")
            case "/quit" | "/exit":
                self._leaving.set()
            case "/help":
                self._screen.say(Text(HELP, "dim"))
            case "/open" | "/steer" | "/interrupt":
                self._note(f"{name} what? /help says more.")
            case _:
                self._note(f"{one_line(name)} is no command; /help lists them.")

    @asynccontextmanager
    async def _told(self) -> AsyncGenerator[None, None]:
        """What the server refuses is a line on the screen, and the chat goes on."""
        try:
            yield
        except Refused as refused:
            self._screen.show(Note(f"{refused.detail} ({refused.code})", bad=True))
        except Unreachable as error:
            self._screen.show(Note(f"no answer: {error}", bad=True))

    def _note(self, text: str) -> None:
        self._screen.show(Note(text))

    # -- what the session does

    async def _follow(self) -> None:
        """The session that the chat is in, whichever it is."""
        while True:
            await self._talk.entered.wait()
            self._switched.clear()
            async with asyncio.TaskGroup() as tasks:
                following = tasks.create_task(self._follow_one())
                switched = tasks.create_task(self._switched.wait())
                await asyncio.wait({following, switched}, return_when=asyncio.FIRST_COMPLETED)
                await switched
                following.cancel()

    async def _follow_one(self) -> None:
        async with self._told():
            async for followed in self._talk.follow():
                match followed:
                    case Connected():
                        self._screen.trouble = ""
                    case Lost(why):
                        self._screen.trouble = f"connection lost, reconnecting: {one_line(why)}"
                    case Ended(reason):
                        self._note(f"The session is {reason}; /new begins another.")
                    case _:
                        pass
                self._changed.set()

    async def _draw(self) -> None:
        """At most so often, and while something turns, so that it is seen to."""
        while True:
            self._screen.status = self._status()
            self._screen.refresh()
            running = self._talk.view.running is not None
            try:
                async with asyncio.timeout(SPIN_SECONDS if running else None):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            await asyncio.sleep(FRAME_SECONDS)

    def _status(self) -> str:
        talk = self._talk
        where = [talk.assistant or "the first assistant", talk.session_id or "a new session"]
        if talk.view.running is not None:
            again = "again leaves" if talk.view.running.cancelling else "stops it"
            what = "a call waits for y or n" if talk.view.waiting else "a turn runs"
            where.append(f"{what}, Ctrl-C {again}")
        return " · ".join(where)


@contextmanager
def _typing(terminal: int) -> Generator[None, None, None]:
    """Keys come as they are typed, and pasted text is marked as such."""
    before = termios.tcgetattr(terminal)
    # What was typed ahead is kept.
    tty.setcbreak(terminal, termios.TCSADRAIN)
    sys.stdout.write("\x1b[?2004h")
    sys.stdout.flush()
    try:
        yield
    finally:
        sys.stdout.write("\x1b[?2004l")
        sys.stdout.flush()
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _table(sessions: list[JsonObject]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("session", "assistant", "state", "title", "changed"):
        table.add_column(name)
    for each in sessions:
        state = "running" if each["running_turn_id"] else each["status"]
        title = cut(one_line(each["title"] or ""), 40)
        table.add_row(
            each["session_id"], Text(each["assistant"]), state, Text(title), each["updated_at"]
        )
    return table
