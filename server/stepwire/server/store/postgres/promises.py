"""What a database does with an acknowledged commit: whether a crash or a failover can lose it."""

from __future__ import annotations

from typing import Final

from stepwire.server.store.postgres.run_queries import Fetch

__all__ = ["SYNCHRONOUS", "weaknesses"]

SYNCHRONOUS: Final = (
    "current_setting('synchronous_standby_names') <> '' AND current_setting('synchronous_commit') NOT IN"
    " ('off', 'local')"
)
"""An SQL expression: whether a commit waits for a standby."""


async def weaknesses(fetch: Fetch) -> list[str]:
    """Return how acknowledged work can be lost here, a sentence each; empty when it cannot."""
    ((fsync, commit, synchronous, standbys),) = await fetch(
        f"""SELECT current_setting('fsync'), current_setting('synchronous_commit'), {SYNCHRONOUS},
        (SELECT count(*) FROM pg_stat_replication)"""
    )
    found = []
    if fsync == "off":
        found.append("fsync is off: a crash of its machine can lose or damage acknowledged work")
    if commit == "off":
        found.append("synchronous_commit is off: a crash can lose acknowledged work of the last moments")
    elif standbys and not synchronous:
        found.append(
            "its standbys are asynchronous: when one of them is promoted, acknowledged work of the last moments is lost"
        )
    return found
