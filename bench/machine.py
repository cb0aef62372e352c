"""What it is measured on: processors, disk, versions; and who runs on which processor."""

import os
import platform
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})


_MINE = sorted(os.sched_getaffinity(0))
MEASURED, ASKING = _MINE[0], _MINE[-1]
"""The processor of what is measured, and that of what asks it: apart, if there are two."""


@contextmanager
def pinned(processor: int) -> Iterator[None]:
    """This process runs on one processor meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def filesystem(path: Path) -> str:
    """The type of the file system that holds the path."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mounted, found = line.split()[:3]
        inside = path == Path(mounted) or Path(mounted) in path.parents
        if inside and len(mounted) >= len(best):
            best, kind = mounted, found
    return kind


def disk_directory() -> Path:
    """Where temporary directories go: the first usual place that is not in memory."""
    for place in (Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()):
        if filesystem(place.resolve()) not in IN_MEMORY:
            return place.resolve()
    raise SystemExit("no directory on a disk was found; name one in TMPDIR")


def fsync_ms(directory: Path, *, times: int = 200) -> float:
    """How long the disk takes to make 4 KiB at the end of a file durable, in the median."""
    path = directory / "fsync"
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    block = os.urandom(4096)
    took: list[float] = []
    try:
        for _ in range(times):
            begun = time.perf_counter()
            os.write(file, block)
            os.fdatasync(file)
            took.append(time.perf_counter() - begun)
    finally:
        os.close(file)
        path.unlink()
    return median(took) * 1000


def describe(directory: Path) -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cores": len(_MINE),
        "memory_gib": round(memory / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "uvicorn": version("uvicorn"),
        "filesystem": filesystem(directory),
        "fsync_ms": round(fsync_ms(directory), 3),
        "commit": _commit(),
        "load_before": round(os.getloadavg()[0], 1),
    }


def cpu_seconds(pid: int) -> float:
    """What the process has used so far, user and system, to the nanosecond: /proc counts in
    hundredths. The clock is what Linux has for it, as clock_getcpuclockid(3) makes its number."""
    return time.clock_gettime((~pid << 3) | 2)


def rss_kib(pid: int) -> int:
    """Its resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def _commit() -> str:
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip() or "unknown"
