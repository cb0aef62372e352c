"""The chat without a terminal: lines in, replies out, and an exit code."""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

from sessile.cli.client import Ended, Lost, Refused, Unreachable, told
from sessile.cli.failure import FAILED, CommandFailed
from sessile.cli.plain import lines, one_line
from sessile.cli.talk import ANSWERS, HELP, Talk
from sessile.cli.view import Card, Note, Said

LINES_AHEAD_MAX = 100
INTERRUPTED = 130


async def pipe(talk: Talk, url: str) -> None:
    """Say each line, and print its reply before the next is said; where a call waits for an
    approval, the next line is the answer. Raises CommandFailed where a turn does not complete."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(_pipe(talk, url))
        stopped = tasks.create_task(stop.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            with suppress(Refused, Unreachable):
                await talk.cancel()
            raise CommandFailed("stopped", code=INTERRUPTED)
        stopped.cancel()


async def _pipe(talk: Talk, url: str) -> None:
    coming = _lines()
    try:
        async for text in coming:
            if text.startswith("/") and not text.startswith("//"):
                if not await _command(talk, text):
                    return
            elif text.strip():
                turn = await talk.say(text[1:] if text.startswith("//") else text)
                talk.view.settled()  # what was said before is not printed again
                await _printed(talk, turn["turn_id"], coming)
    except (Refused, Unreachable) as error:
        raise told(error, url) from error


async def _command(talk: Talk, text: str) -> bool:
    """Whether to go on."""
    name, _, rest = text.partition(" ")
    match name:
        case "/quit":
            return False
        case "/new":
            talk.leave(rest.strip() or talk.assistant)
        case "/open" if rest.strip():
            await talk.enter(rest.strip())
        case "/sessions":
            for session in await talk.sessions():
                _out(f"{session['session_id']} {session['assistant']} {session['status']}\n")
        case "/history":
            for block in await talk.history():
                if isinstance(block, Said):
                    _out(f"{block.role}: {lines(block.text)}\n")
        case "/help":
            _out(f"{HELP}\n")
        case _:
            raise CommandFailed(f"{one_line(name)} is no command here; /help lists them")
    return True


async def _printed(talk: Talk, turn_id: str, lines_coming: AsyncIterator[str]) -> None:
    """Print what the session does until the turn has ended."""
    view = talk.view
    if turn_id not in view.ended:
        async with aclosing(talk.follow()) as coming:
            async for followed in coming:
                match followed:
                    case Lost(why, seconds):
                        _err(f"connection lost ({one_line(why)}); again in {seconds:.1f} s")
                    case Ended(reason):
                        raise CommandFailed(f"the session is {reason}", code=FAILED)
                    case _:
                        _print_new(talk)
                        while (card := view.waiting) is not None:
                            await _answer(talk, card, lines_coming)
                if turn_id in view.ended:
                    break
    status = view.ended[turn_id]
    if status != "completed":
        raise CommandFailed(f"the turn {turn_id} was not completed: {status}", code=FAILED)


async def _answer(talk: Talk, card: Card, lines_coming: AsyncIterator[str]) -> None:
    """By the next line. Raises CommandFailed where that is no answer."""
    call = f"{card.name} {card.arguments}".rstrip()
    _err(f"[{call}] may it run? y or n")
    granted = ANSWERS.get((await anext(lines_coming, "")).strip().lower())
    if granted is None:
        again = f"`sessile chat --session {talk.session_id}`"
        raise CommandFailed(f"{call} waits: say y or n, now or in {again}", code=FAILED)
    await talk.answer(granted=granted)
    _err(f"[{call}] {'approved' if granted else 'denied'}")


def _print_new(talk: Talk) -> None:
    view = talk.view
    for block in view.settled():
        match block:
            case Said(role="assistant"):
                _out(f"{lines(block.text[block.shown :])}\n")
            case Card():
                call = f"{block.name} {block.arguments}".rstrip()
                _err(f"[{call}] {block.status}: {block.outcome}")
            case Note():
                _err(block.text)
            case Said():
                pass
    first = view.blocks[0] if view.blocks else None
    if isinstance(first, Said) and len(first.text) > first.shown:
        _out(lines(first.text[first.shown :]))
        first.shown = len(first.text)


async def _lines() -> AsyncIterator[str]:
    """Of standard input, read by a thread that nobody waits for."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    room = threading.Semaphore(LINES_AHEAD_MAX)

    def read() -> None:
        with suppress(RuntimeError):  # the chat ended first
            for line in sys.stdin:
                room.acquire()
                loop.call_soon_threadsafe(queue.put_nowait, line)
            loop.call_soon_threadsafe(queue.put_nowait, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await queue.get()) is not None:
        room.release()
        yield line.removesuffix("\n").removesuffix("\r")


def _out(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _err(text: str) -> None:
    sys.stderr.write(f"{lines(text)}\n")
    sys.stderr.flush()
