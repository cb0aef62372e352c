"""ADK looks for the agent here."""

from . import agent as agent  # noqa: TID252
