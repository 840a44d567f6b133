"""Store runs in PostgreSQL, or in what speaks its protocol with the same guarantees."""

from stepwire.server.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
