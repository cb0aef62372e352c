"""What a user writes with: declarations that the runtime is given, and nothing that runs."""

from sessile.kit.assistant import Assistant
from sessile.kit.tools import FunctionTool

__all__ = ["Assistant", "FunctionTool"]
