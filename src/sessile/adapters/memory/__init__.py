"""Everything in memory: the reference that the other stores are held against, and the test
double. Nothing survives the process."""

from sessile.adapters.memory.store import MemoryStore

__all__ = ["MemoryStore"]
