"""The composition root: settings and assistants in, a running server out. Only it names
adapters."""

from sessile.adapters.dev_tokens import DevTokens
from sessile.wiring.agents import runnable
from sessile.wiring.erase import erase_user
from sessile.wiring.identity import open_accounts
from sessile.wiring.server import Server, dev_tokens, pusher_keys
from sessile.wiring.stores import MissingExtra, made, migrate, open_archive, open_store, raise_epoch

__all__ = [
    "DevTokens",
    "MissingExtra",
    "Server",
    "dev_tokens",
    "erase_user",
    "made",
    "migrate",
    "open_accounts",
    "open_archive",
    "open_store",
    "pusher_keys",
    "raise_epoch",
    "runnable",
]
