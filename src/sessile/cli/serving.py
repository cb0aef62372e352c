"""A server that is open, from before its first connection to after its last."""

import asyncio
import gc
import json
import logging
import os
import shlex
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from importlib.metadata import version
from typing import NoReturn
from urllib.parse import quote

from sessile.cli.broken import no_database, no_postgres
from sessile.cli.failure import CommandFailed
from sessile.cli.plain import one_line
from sessile.cli.streams import silence
from sessile.core.errors import SessileError
from sessile.http.app import App
from sessile.http.listener import Listener
from sessile.settings import Settings, WrongSetting, without_password
from sessile.wiring import DevTokens, MissingExtra, Server, dev_tokens

logger = logging.getLogger("sessile.serve")

GARBAGE_THRESHOLD = 20_000
"""New objects before the youngest are looked through. Python's 700 is a turn or two: looking that
often was measured at a fifteenth of a busy server's processor time."""
HAND_BACK_SECONDS_MAX = 2.0
"""How long turns that are cancelled may take to be handed back."""


def spare_garbage() -> None:
    """What there is now stays: it is not looked through for garbage while turns wait."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


class Serving:
    def __init__(self, server: Server, listening: socket.socket) -> None:
        self._server = server
        self._listening = listening
        self._asked = asyncio.Event()
        self._asked_again = asyncio.Event()

    async def run(self) -> None:
        """Until a signal ends it. Raises CommandFailed where it cannot begin."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._server)
            except MissingExtra as error:
                raise CommandFailed(str(error)) from error
            except WrongSetting as error:
                raise CommandFailed(_flag_told(error)) from error
            except (SessileError, OSError, sqlite3.Error, ValueError) as error:
                raise CommandFailed(self._cannot_open(error)) from error
            await self._serve()

    def _on_signal(self) -> None:
        (self._asked_again if self._asked.is_set() else self._asked).set()

    def _cannot_open(self, error: Exception) -> str:
        settings = self._server.settings
        if getattr(error, "code", "") == "data_directory_locked":
            return (
                f"{error}; stop it, or give another directory by --data-dir. One that is stopping"
                f" lets go within {settings.drain_seconds_max:g} seconds"
            )
        if settings.shared:
            return no_postgres(settings.store_url, error)
        return no_database(settings.data_dir, error)

    async def _serve(self) -> None:
        settings = self._server.settings
        tokens: DevTokens | None = None
        if settings.local:
            try:
                tokens = dev_tokens(settings)
            except (ValueError, OSError) as error:
                raise CommandFailed(f"development tokens: {error}") from error
        else:
            await self._refuse_closed()
        listener = _Listener(self._app(), settings, http="httptools")
        spare_garbage()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listener.serve([self._listening]))
            self._announce(tokens)
            await self._asked.wait()
            # Replies are sent and streams are fed until the last turn has ended.
            left_seconds = await self._drained()
            listener.config.timeout_graceful_shutdown = max(1, round(left_seconds))
            listener.force_exit = self._asked_again.is_set()
            listener.should_exit = True
        logger.info("stopped")

    def _app(self) -> App:
        """Raises CommandFailed for what is wrong with a setting, or with the file pusher-app."""
        try:
            return self._server.app()
        except WrongSetting as error:
            raise CommandFailed(_flag_told(error)) from error
        except (ValueError, OSError) as error:
            raise CommandFailed(one_line(str(error))) from error

    async def _refuse_closed(self) -> None:
        """Raises CommandFailed where nobody could come in. Development tokens let nobody in from
        other machines."""
        settings = self._server.settings
        let_in = settings.oidc_issuer or settings.role == "turns"
        if not let_in and not await self._server.sign_in.is_used():
            raise CommandFailed(
                f"--host {settings.host} can be reached from other machines, where development"
                " tokens are good for nothing, and there is no other way in: add somebody by"
                " `sessile users add TENANT USER` or `sessile keys add TENANT USER`, or name an"
                " issuer by --oidc-issuer and --oidc-audience"
            )

    async def _drained(self) -> float:
        """No turn runs here any more. Answers what is left of the time for it."""
        loop = asyncio.get_running_loop()
        workers, most = self._server.workers, self._server.settings.drain_seconds_max
        end = loop.time() + most
        turns = "1 turn" if workers.running == 1 else f"{workers.running} turns"
        logger.info("draining", extra={"turns": workers.running})
        _say(f"Stopping: finishing {turns}, for {most:g} s at most; again to stop at once.")
        async with asyncio.TaskGroup() as tasks:
            drained = tasks.create_task(workers.drain())
            again = tasks.create_task(self._asked_again.wait())
            # A drain has an end of its own, unless an agent does not let itself be cancelled.
            await asyncio.wait(
                {drained, again},
                timeout=most + HAND_BACK_SECONDS_MAX,
                return_when=asyncio.FIRST_COMPLETED,
            )
            again.cancel()
            if not drained.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(HAND_BACK_SECONDS_MAX):
                        await workers.drain(at_once=True)
                if not drained.done():
                    logger.warning("turns left behind", extra={"turns": workers.running})
                    leave()
        return end - loop.time()

    def _announce(self, tokens: DevTokens | None) -> None:
        settings = self._server.settings
        host, port = self._listening.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        names = [assistant.name for assistant in self._server.assistants]
        logger.info(
            "serving",
            extra={
                "url": url,
                "assistants": names,
                "node": self._server.node_id,
                "pid": os.getpid(),
            },
        )
        data = str(settings.data_dir.absolute())
        if settings.store_url == "memory":
            data = "memory, which ends with the process"
        elif settings.shared:
            data = without_password(settings.store_url)
        body = json.dumps({"input": {"type": "message", "text": "Hello"}})
        asked = [f"'{url}/v1/turns?wait=30'", "-H 'Content-Type: application/json'", f"-d '{body}'"]
        file = str(settings.data_dir / "dev-tokens")
        logins = () if tokens is None else tokens.logins
        token = next((login.token for login in logins if login.role == "admin"), None)
        shown = token or "none of an admin"
        if token is not None and not sys.stdout.isatty():
            # What is written elsewhere is kept, sent on, and read by others.
            shown = "in the file of the others"
            token = f"$(awk '$4 == \"admin\" {{print $1; exit}}' {shlex.quote(file)})"
        if token is not None:
            asked.insert(1, f'-H "Authorization: Bearer {token}"')
        if tokens is None:
            asked.insert(1, '-H "Authorization: Bearer $TOKEN"')
        _say(f"Sessile {version('sessile')} on {url}")
        _say(f"  data        {one_line(data)}")
        _say(f"  assistants  {', '.join(names)}")
        if settings.role == "turns":
            _say("  runs turns only: /readyz and /metrics are there, and no API")
            return
        if settings.role == "surfaces":
            _say("  runs no turns: other nodes of this database do")
        if tokens is None:
            _say("  sign-in     by users, API keys and issuers: docs/sign-in.md")
        else:
            _say(f"  token       {shown}")
            _say(f"  others      {one_line(file)}")
            _say("  DEVELOPMENT TOKENS are let in, because this machine alone can reach the server")
        if settings.console:
            _say(f"  console     {_link(url, token)}")
        _say(f"  try         curl -s {' '.join(asked)}")
        chat = [called(), "chat"]
        if port != Settings().port:
            chat += ["--url", url]
        if settings.data_dir != Settings().data_dir:
            chat += ["--data-dir", str(settings.data_dir)]
        _say(f"  or          {shlex.join(chat)}")


def _link(url: str, token: str | None) -> str:
    """The console's address, signed in; where it would be kept, the command that makes it."""
    if token is None:
        return url
    if sys.stdout.isatty():
        return f"{url}/#token={quote(token, safe='')}"
    return f'echo "{url}/#token={token}"'


class _Listener(Listener):
    """Leaves the signals to us."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def leave() -> NoReturn:
    """At once: a thread that is still inside a tool is not waited for."""
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(0)


def called() -> str:
    """What a shell finds this command by: its name, or the path that it was called by."""
    path = sys.argv[0]
    by_path = os.path.basename(path) == "sessile" and shutil.which("sessile") is None
    return path if by_path else "sessile"


def _flag_told(error: WrongSetting) -> str:
    name, _, why = str(error).partition(":")
    return f"--{name.replace('_', '-')}:{why}"


def _say(line: str) -> None:
    """A server goes on where nobody reads it any more, or where the disk for it is full."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError:
        silence()
