"""The key and the secret of the Pusher app, in a file that only its owner may read."""

import secrets
from pathlib import Path

from sessile.adapters import private_files

HEADER = "# The Pusher app of this server: its key, which pages show, and its secret.\n"


def load_or_create(path: Path, *, key: str = "", secret: str = "") -> tuple[str, str]:
    """Key and secret: those given, and for what is empty, what the file has; made where there
    is none. Raises ValueError for a file that it cannot read."""
    if not (key and secret):
        if not path.exists():
            made = f"{secrets.token_hex(10)} {secrets.token_hex(20)}"
            private_files.write_first(path, f"{HEADER}{made}\n")
        private_files.close_to_others(path)
        kept_key, kept_secret = _read(path)
        key, secret = key or kept_key, secret or kept_secret
    if not (_plain(key) and _plain(secret)):
        raise ValueError("pusher_key and pusher_secret: printable ASCII without spaces and colons")
    return key, secret


def _read(path: Path) -> tuple[str, str]:
    text = path.read_text("utf-8", errors="replace")
    lines = [each.partition("#")[0].split() for each in text.splitlines()]
    match [fields for fields in lines if fields]:
        case [[key, secret]]:
            return key, secret
        case _:
            raise ValueError(f"{path}: should have one line: a key and a secret")


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not set(text) & set(" :#/?")
