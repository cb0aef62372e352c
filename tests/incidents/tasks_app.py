"""Served by test_tasks as a process of its own: the task API, with steps as long as it says."""

import os

from sessile import Server, Settings
from sessile.demo import tasks

server = Server(
    *tasks.assistants(step_seconds=float(os.environ["STEP_SECONDS"])), settings=Settings()
)
server.mount(tasks.router(server))
