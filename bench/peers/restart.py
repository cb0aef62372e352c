"""`python -m bench.peers.restart FILE`: kills the server whose process is in the file, with -9,
and starts it again as it was started; the file then has the new one. Its log is beside it."""

import subprocess
import sys
from pathlib import Path

import psutil


def main(file: Path) -> None:
    before = psutil.Process(int(file.read_text()))
    command, directory, environment = before.cmdline(), before.cwd(), before.environ()
    kill(before)
    with file.with_suffix(".log").open("ab") as output:
        again = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    file.write_text(str(again.pid))


def kill(process: psutil.Process) -> None:
    """With what it has started; what has ended by itself is left."""
    for each in [*process.children(recursive=True), process]:
        each.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
