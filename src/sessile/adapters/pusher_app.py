"""The key and the secret of the Pusher app, in a file that only its owner may read."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

FILE_MODE = 0o600
HEADER = "# The Pusher app of this server: its key, which pages show, and its secret.\n"


def load_or_create(path: Path, *, key: str = "", secret: str = "") -> tuple[str, str]:
    """Key and secret: those given, and for what is empty, what the file has; made where there
    is none. Raises ValueError for a file that it cannot read."""
    if not (key and secret):
        if not path.exists():
            _save(path, secrets.token_hex(10), secrets.token_hex(20))
        if path.stat().st_mode & 0o077:
            path.chmod(FILE_MODE)
        kept_key, kept_secret = _read(path)
        key, secret = key or kept_key, secret or kept_secret
    if not (_plain(key) and _plain(secret)):
        raise ValueError("pusher_key and pusher_secret: printable ASCII without spaces and colons")
    return key, secret


def _read(path: Path) -> tuple[str, str]:
    lines = [each.partition("#")[0].split() for each in path.read_text("utf-8").splitlines()]
    match [fields for fields in lines if fields]:
        case [[key, secret]]:
            return key, secret
        case _:
            raise ValueError(f"{path}: should have one line: a key and a secret")


def _save(path: Path, key: str, secret: str) -> None:
    """Written whole beside the file and then put in its place: never half a file, and of nodes
    that begin at once, the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{HEADER}{key} {secret}\n")
    with suppress(FileExistsError):
        path.hardlink_to(beside)
    beside.unlink()


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not set(text) & set(" :#/?")
