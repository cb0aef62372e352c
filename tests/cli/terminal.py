"""`sessile chat` on a terminal of its own: keys in, and what was drawn."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Self

from tests.cli.conftest import WAIT_SECONDS, environment

_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
ROWS, COLUMNS = 30, 100
# So that Ctrl-C is a signal to the chat, as it is in a shell.
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Terminal:
    """What was drawn is kept as it came, without the controls; what was drawn twice is there
    twice."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        self._grew = threading.Condition()
        self._drawn = ""
        self._looked = 0
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, "-m", "sessile", *arguments],
            cwd=cwd,
            env=environment(TERM="xterm", COLUMNS=str(COLUMNS), LINES=str(ROWS)),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        self._reader.join(WAIT_SECONDS)
        os.close(self._master)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Found in what was drawn since the last thing that was waited for."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, self._drawn[self._looked :])

        with self._grew:
            match = self._grew.wait_for(found, WAIT_SECONDS)
            assert match, f"no {pattern!r} in\n{self._drawn[self._looked :]}"
            self._looked += match.end()
        return match

    def end(self) -> int:
        return self.process.wait(WAIT_SECONDS)

    def modes(self) -> list[object]:
        return list(termios.tcgetattr(self._slave))

    @property
    def drawn(self) -> str:
        with self._grew:
            return self._drawn

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:
                return
            if not data:
                return
            with self._grew:
                self._drawn += _CONTROLS.sub("", data.decode("utf-8", "replace"))
                self._grew.notify_all()
