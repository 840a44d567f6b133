"""Keep the gaps of a store: times by its clock in which no process used it; see `aging`."""

from __future__ import annotations

import sqlite3

from stepwire.server.store.aging import GAP_SECONDS, Gap


def read_gaps(connection: sqlite3.Connection, now: float) -> tuple[list[Gap], Gap | None]:
    """Return the gaps that are kept, and the new one before `now` if the last commit or gap is long ago."""
    kept = [Gap(began, ended) for began, ended in connection.execute("SELECT began, ended FROM gaps")]
    seen = [gap.end for gap in kept]
    seen += [at for (at,) in connection.execute("SELECT at FROM commits ORDER BY id DESC LIMIT 1")]
    last = max(seen, default=now)
    return kept, Gap(last, now) if now - last > GAP_SECONDS else None


def keep_gap(connection: sqlite3.Connection, gap: Gap) -> None:
    """Keep a gap; a job of the writer."""
    connection.execute("INSERT INTO gaps VALUES (?, ?)", gap)
