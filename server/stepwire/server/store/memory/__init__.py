"""Keep runs in memory, for tests and runs that need not outlive the process."""

from stepwire.server.store.memory.store import MemoryStore

__all__ = ["MemoryStore"]
