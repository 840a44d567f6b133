"""Check the database that replicas share: whether it can be used, what is in it, who uses it, how safe it is."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from stepwire.server.config import Settings
from stepwire.server.doctor.check import Check, ok, problem, warning
from stepwire.server.doctor.peer_addresses import peer_addresses
from stepwire.server.doctor.unfinished import unfinished_runs
from stepwire.server.extras import how_to_install
from stepwire.server.registry import Registry
from stepwire.server.store import StoreError

if TYPE_CHECKING:
    from stepwire.server.store.postgres.inspection import ReplicaInspection

_CLOCK_SECONDS = 5.0
"""How far the clocks of this machine and of the database may differ without a word."""


def database(settings: Settings, registry: Registry) -> Generator[Check, None, float | None]:
    """Check the database; return when a run in it last changed, None when that is not known."""
    try:
        from stepwire.server.store.postgres.inspection import inspect_database  # its driver is an extra
    except ModuleNotFoundError as error:
        yield problem("data", f"{error.name} is not installed", how_to_install("postgres"))
        return None
    try:
        found = asyncio.run(inspect_database(settings.data))
    except StoreError as error:
        yield problem("data", str(error), "check the address, the credential, and that PostgreSQL runs")
        return None
    if found.in_recovery:
        yield problem("data", "this PostgreSQL is a standby", "add target_session_attrs=read-write to the address")
        return None
    if found.encoding != "UTF8":
        yield problem("data", f"the database is encoded in {found.encoding}", "make one with ENCODING 'UTF8'")
        return None
    yield ok("data", f"PostgreSQL {found.server} can be reached")
    if found.version > found.known:
        yield problem(
            "database", f"schema {found.version}, of a newer Stepwire ({found.known} here)", "update Stepwire"
        )
        return None
    next_start = f"; the next start brings it to {found.known}" if 0 < found.version < found.known else ""
    yield ok("database", f"schema {found.version}{next_start}" if found.version else "empty: the first start fills it")
    yield _standbys(found.synchronous, found.standbys)
    yield _clock(found.now)
    yield unfinished_runs(found.runs, registry)
    yield _replicas(found.replicas, settings, registry)
    yield from _keys(settings)
    yield from peer_addresses(found, settings)
    return found.last_change


def _standbys(synchronous: bool, standbys: Sequence[tuple[str, str]]) -> Check:
    names = ", ".join(f"{name or 'unnamed'} ({state})" for name, state in standbys)
    if synchronous:
        return ok(
            "standby", f"a commit waits for a standby: {names or 'none is connected, or this user cannot see it'}"
        )
    if names:
        advice = "set synchronous_standby_names: docs/cluster.md"
        return warning("standby", f"{names}: promoting it may lose what was acknowledged", advice)
    return ok("standby", "none: what is acknowledged is on the disk of one machine")


def _clock(now: float) -> Check:
    apart = now - time.time()
    message = f"the database's clock is {abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} this one"
    if abs(apart) > _CLOCK_SECONDS:
        return warning("db clock", message, "set the clocks: deadlines go by the database's, credentials by this one")
    return ok("db clock", message)


def _replicas(found: Sequence[ReplicaInspection], settings: Settings, registry: Registry) -> Check:
    if not found:
        return ok("replicas", "none is up")
    silent = [each.address for each in found if each.beat_age > settings.lease]
    message = ", ".join(f"{each.address} ({_runs(each)}{', draining' if each.draining else ''})" for each in found)
    if silent:
        advice = "see whether they run and reach the database: the others take their runs over"
        return warning("replicas", f"{message}; no beat of {', '.join(silent)}", advice)
    for served in registry:
        others = {each.versions[served.name] for each in found if served.name in each.versions}
        if others and served.told not in others:
            message += f"; {served.name} is served in another version than the one here: {', '.join(sorted(others))}"
    return ok("replicas", message)


def _runs(replica: ReplicaInspection) -> str:
    return f"{replica.runs} run{'' if replica.runs == 1 else 's'}"


def _keys(settings: Settings) -> Generator[Check, None, None]:
    for name in ("cluster_key", "accept_cluster_key", "snapshot_key"):
        path = getattr(settings, name)
        if path is None:
            continue
        if os.name == "posix" and path.stat().st_mode & 0o077:
            yield problem(name.replace("_", " "), f"{path} is open to other users", f"chmod 600 {path}")
        elif len(path.read_bytes().strip()) < 32:
            yield problem(name.replace("_", " "), f"{path} has less than 32 bytes", "make one: openssl rand -hex 32")
        else:
            yield ok(name.replace("_", " "), f"{path} is there, for its owner only")
