"""Sessile: a session server for AI agents and chat assistants."""
