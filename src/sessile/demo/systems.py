"""What a server serves that was given nothing to serve: the demo assistant, and five systems that
show what a session is for."""

from sessile import Server, Settings
from sessile.demo import banking, sites, support, tasks, workspace
from sessile.demo.assistant import demo_assistant


def demo_server(settings: Settings) -> Server:
    """All of it. The routes of systems with a wire format of their own are there where this
    machine alone can reach them, or `demo_open` says so: some ask for no token."""
    desk = support.assistants()
    server = Server(
        demo_assistant(others=desk[:1]),
        *desk,
        *sites.assistants(),
        *banking.assistants(),
        *tasks.assistants(),
        *workspace.assistants(),
        settings=settings,
    )
    for each in desk:
        server.project(support.shown, assistant=each.name)
    if settings.local or settings.demo_open:
        for system in (sites, banking, tasks):
            server.mount(system.router(server))
    return server
