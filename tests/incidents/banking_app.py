"""Served by test_banking as a process of its own: the bank, with steps as long as it says."""

import os

from sessile import Server, Settings
from sessile.demo import banking

server = Server(
    *banking.assistants(step_seconds=float(os.environ["STEP_SECONDS"])), settings=Settings()
)
server.mount(banking.router(server))
