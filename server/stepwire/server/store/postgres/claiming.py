"""Claim runs, and give them up: which replica owns a run.

A run is owned by the replica in `runs.owner`, as long as that one is in the table `replicas`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from stepwire.server.store.cluster import Owner
from stepwire.server.store.errors import OwnedElsewhereError
from stepwire.server.store.postgres.run_queries import Fetch
from stepwire.server.store.postgres.schema import CHANNEL
from stepwire.server.store.records import Claim, RunKey

__all__ = ["Claimed", "claim", "owners", "release"]

DEAD: Final = "NOT EXISTS (SELECT 1 FROM replicas p WHERE p.id = r.owner)"
"""Of a run: it has no living owner."""

_CLAIM: Final = f"""WITH found AS (SELECT pk, owner AS before FROM runs r WHERE namespace = $1 AND run_id = $2
        AND (owner IS NULL OR owner = $3 OR $4 OR {DEAD}) FOR NO KEY UPDATE),
    claimed AS (UPDATE runs SET token = token + 1, owner = $3 FROM found WHERE runs.pk = found.pk
        RETURNING token, runs.pk, version, last_sequence, before)
    SELECT token, pk, version, last_sequence, before, CASE WHEN before IS DISTINCT FROM $3 AND $3 IS NOT NULL THEN
        pg_notify('{CHANNEL}', json_build_array('claimed', $3::int8, $1::text, $2::text)::text) END FROM claimed"""
_OWNER: Final = """SELECT address, p.id FROM runs r LEFT JOIN replicas p ON p.id = owner
    WHERE namespace = $1 AND run_id = $2"""
_TRIES: Final = 8
"""How often a claim is tried when its owner goes between the refusal and the look at who it is."""


class Claimed(NamedTuple):
    """A claim.

    Attributes:
        claim: The claim.
        version: How many commits the run has.
        sequence: Up to which sequence.
        taken_from: The replica that it was taken over from; None if it had no owner, or this one.
    """

    claim: Claim
    version: int
    sequence: int
    taken_from: int | None


async def claim(fetch: Fetch, key: RunKey, me: int | None, *, force: bool) -> Claimed | None:
    """Claim a run for a replica; None when there is no such run.

    Raises:
        OwnedElsewhereError: Another living replica owns it.
    """
    address, owner = "", 0
    for _ in range(_TRIES):
        rows = await fetch(_CLAIM, *key, me, force)
        if rows:
            token, pk, version, sequence, before, _ = rows[0]
            return Claimed(Claim(key, token, pk), version, sequence, before if before != me else None)
        found = await fetch(_OWNER, *key)
        if not found:
            return None
        address, owner = found[0][0] or "", found[0][1] or 0
        if address:
            break
    raise OwnedElsewhereError(address, owner)


async def release(fetch: Fetch, claims: Collection[Claim], me: int) -> None:
    """Give up runs, those whose claims still hold."""
    await fetch(
        """WITH held AS (SELECT r.pk FROM runs r JOIN unnest($1::int8[], $2::int8[]) AS t (pk, token) USING (pk)
            WHERE r.token = t.token AND r.owner = $3 ORDER BY r.pk FOR NO KEY UPDATE OF r)
        UPDATE runs SET owner = NULL FROM held WHERE runs.pk = held.pk""",
        [each.handle for each in claims],
        [each.token for each in claims],
        me,
    )


async def owners(fetch: Fetch, keys: Collection[RunKey], me: int) -> Mapping[RunKey, Owner]:
    """Return the living owners of runs, other than `me`."""
    rows = await fetch(
        """SELECT r.namespace, r.run_id, p.id, p.address FROM unnest($1::text[], $2::text[]) AS t (namespace, run_id)
        JOIN runs r USING (namespace, run_id) JOIN replicas p ON p.id = r.owner WHERE p.id <> $3""",
        [key.namespace for key in keys],
        [key.run_id for key in keys],
        me,
    )
    return {RunKey(namespace, run_id): Owner(id_, address) for namespace, run_id, id_, address in rows}
