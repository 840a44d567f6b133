"""Claim runs, and give them up: which replica owns a run.

A run is owned by the replica in `runs.owner`, as long as that one is in the table `replicas`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from stepwire.server.store.cluster import Differences, Owner
from stepwire.server.store.errors import OwnedElsewhereError
from stepwire.server.store.postgres.run_queries import Fetch
from stepwire.server.store.postgres.schema import CHANNEL
from stepwire.server.store.records import Claim, RunKey

__all__ = ["Claimed", "claim", "compare", "owners", "release"]

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
_OWNED: Final = "SELECT array_agg(pk), array_agg(token), array_agg(version) FROM runs WHERE owner = $1"
_RUNS: Final = """SELECT pk, namespace, run_id, token, version, last_sequence, owner FROM runs
    WHERE pk = ANY($1::int8[])"""
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


async def compare(fetch: Fetch, me: int, held: Collection[Claim], version_of: Callable[[Claim], int]) -> Differences:
    """Compare the runs that a replica holds with those that it owns here.

    Args:
        fetch: Executes queries.
        me: The replica.
        held: The claims under which it holds runs.
        version_of: Returns how many commits of a run were acknowledged under its claim; 0 if that is not known.
    """
    # Before the query: what is acknowledged meanwhile must not be missed in what it finds.
    known = {claim.handle: (claim.token, version_of(claim), claim.key) for claim in held}
    ((handles, tokens, versions),) = await fetch(_OWNED, me)
    owned = dict(zip(handles or (), zip(tokens or (), versions or (), strict=True), strict=True))
    lost = []
    for handle, (token, version, _) in known.items():
        there, commits = owned.get(handle, (0, 0))
        if there != token or commits < version:
            lost.append(handle)
    strays = [handle for handle in owned if handle not in known]
    rows = await fetch(_RUNS, [*lost, *strays]) if lost or strays else ()
    found = {row[0]: row for row in rows}
    undone = {}
    for handle in lost:
        token, version, key = known[handle]
        _, namespace, run_id, there, commits, sequence, _ = found.get(handle, (0, "", "", 0, 0, -1, None))
        if (namespace, run_id) != key:
            undone[handle] = -1
        elif there < token or commits < version:
            undone[handle] = sequence
    claims = [
        Claim(RunKey(found[handle][1], found[handle][2]), found[handle][3], handle)
        for handle in strays
        if handle in found and found[handle][6] == me
    ]
    return Differences(lost, undone, claims)
