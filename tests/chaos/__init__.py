"""Real processes that are killed, paused and cut off, and what is left of their sessions."""
