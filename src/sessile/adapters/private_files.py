"""Files of secrets, which only their owner may read."""

import os
import tempfile
from pathlib import Path

FILE_MODE = 0o600


def write(path: Path, text: str) -> None:
    """Written whole beside the file and then put in its place: never half a file, and never
    readable to others."""
    _beside(path, text).replace(path)


def write_first(path: Path, text: str) -> None:
    """The same where there is none; one that another process has made meanwhile stays."""
    beside = _beside(path, text)
    try:
        os.link(beside, path)
    except OSError:
        if not path.exists():  # a file system without links
            beside.replace(path)
            return
    beside.unlink()


def close_to_others(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        path.chmod(FILE_MODE)


def _beside(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # of FILE_MODE
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return Path(beside)
