"""The composition root: settings and assistants in, a running server out. Only it names
adapters."""

from sessile.wiring.server import Server, dev_tokens, pusher_keys, runnable
from sessile.wiring.stores import MissingExtra, migrate, open_archive, open_store

__all__ = [
    "MissingExtra",
    "Server",
    "dev_tokens",
    "migrate",
    "open_archive",
    "open_store",
    "pusher_keys",
    "runnable",
]
