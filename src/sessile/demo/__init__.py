"""Assistants and systems to try the server with, written on the public names alone."""
