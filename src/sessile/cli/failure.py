"""How a command gives up: one line that says what to do, and an exit code."""

FAILED = 1
"""The command did its work, and something is wrong with what it worked on."""
MISUSED = 2
"""The command could not begin: its arguments, or what is around it, have to change first."""


class CommandFailed(Exception):
    """Ends the process with `code`, and `message` on stderr; no traceback."""

    def __init__(self, message: str, *, code: int = MISUSED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
