"""The composition root: settings and assistants in, a running server out. Only it names
adapters."""

from sessile.wiring.erase import erase_user
from sessile.wiring.server import Server, dev_tokens, pusher_keys, runnable
from sessile.wiring.stores import MissingExtra, migrate, open_archive, open_store, raise_epoch

__all__ = [
    "MissingExtra",
    "Server",
    "dev_tokens",
    "erase_user",
    "migrate",
    "open_archive",
    "open_store",
    "pusher_keys",
    "raise_epoch",
    "runnable",
]
