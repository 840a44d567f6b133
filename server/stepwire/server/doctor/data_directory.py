"""Check the data directory: which process holds it, what is in it, whether it can be written."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path

from stepwire.server.config import Settings
from stepwire.server.doctor.check import Check, ok, problem, warning
from stepwire.server.doctor.database import database
from stepwire.server.doctor.unfinished import unfinished_runs
from stepwire.server.registry import Registry
from stepwire.server.rpc import KEY_FILE, Signer
from stepwire.server.store import Inspection, StoreCorruptError, StoreError, holder_of, inspect_directory

_FREE_PROBLEM, _FREE_WARNING = 64 << 20, 1 << 30
_RESTORE = "restore a backup: docs/operations.md, Backup"
_AHEAD_SECONDS = 5.0
_RELEASED = datetime(2025, 1, 1, tzinfo=UTC).timestamp()
"""Seconds since the epoch; a clock that shows less is wrong."""


def data(settings: Settings, registry: Registry) -> Generator[Check, None, float | None]:
    """Check the data directory; return when a run in it last changed, None when that is not known."""
    if settings.data == ":memory:":
        yield warning("data", "in memory: nothing is kept after the server stops", "give a directory with --data")
        return None
    if settings.data.startswith(("postgres://", "postgresql://")):
        return (yield from database(settings, registry))
    directory = Path(settings.data)
    if not directory.exists():
        yield _absent(directory)
        return None
    if not directory.is_dir():
        yield problem("data", f"{directory} is not a directory", "give another one with --data")
        return None
    yield _writable(directory)
    yield _space(directory)
    yield _lock(directory)
    try:
        found = inspect_directory(directory)
    except StoreCorruptError as error:
        yield problem("database", str(error), _RESTORE)
        return None
    except (StoreError, OSError) as error:
        yield problem("database", str(error), "check that it is the right directory, and that this user may read it")
        return None
    if found is None:
        yield ok("database", "none yet: the first start creates it")
        if (directory / KEY_FILE).exists():
            yield _key(directory)
        return None
    yield _database(found)
    if found.version <= found.known:
        yield unfinished_runs(found.runs, registry)
    yield _key(directory)
    return found.last_change


def clock(last_change: float | None) -> Check:
    """Check that the clock shows a plausible time."""
    now = time.time()
    shown = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    advice = "set the clock: deadlines, retention and credentials depend on it"
    if now < _RELEASED:
        return problem("clock", f"{shown} is in the past", advice)
    if last_change is not None and last_change > now + _AHEAD_SECONDS:
        return warning("clock", f"{shown}, but a run changed {last_change - now:.0f} s later than that", advice)
    return ok("clock", shown)


def _absent(directory: Path) -> Check:
    parent = next((path for path in directory.absolute().parents if path.exists()), Path("/"))
    if not os.access(parent, os.W_OK | os.X_OK):
        return problem("data", f"{directory} does not exist, and {parent} cannot be written", "create it for this user")
    return ok("data", f"{directory} does not exist yet: the first start creates it")


def _writable(directory: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=directory, prefix=".doctor-") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        advice = "let the user of the server write to it, and check the space on the disk"
        return problem("data", f"{directory} cannot be written: {error.strerror}", advice)
    mode = directory.stat().st_mode
    if os.name == "posix" and mode & 0o007:
        advice = f"chmod o-rwx {directory}: the state of the runs and the key of the snapshots are in it"
        return warning("data", f"{directory} is open to all users of this machine", advice)
    return ok("data", f"{directory} can be written")


def _space(directory: Path) -> Check:
    free = shutil.disk_usage(directory).free
    message = f"{_bytes(free)} are free"
    advice = "make space, or let retention delete ended runs: --retention-age"
    if free < _FREE_PROBLEM:
        return problem("space", message, advice)
    return warning("space", message, advice) if free < _FREE_WARNING else ok("space", message)


def _lock(directory: Path) -> Check:
    try:
        holder = holder_of(directory)
    except OSError as error:
        advice = "make the user of the server its owner"
        return problem("lock", f"the lock file cannot be opened: {error.strerror}", advice)
    return ok("lock", f"a server has it: {holder}" if holder else "no server has it")


def _database(found: Inspection) -> Check:
    if found.damages:
        return problem("database", f"damaged: {'; '.join(found.damages)}", _RESTORE)
    message = f"{_bytes(found.size)}, schema {found.version}"
    if found.version > found.known:
        return problem("database", f"{message}, of a newer Stepwire (this one knows {found.known})", "update Stepwire")
    if found.version < found.known:
        message += f"; the next start brings it to schema {found.known}"
    return ok("database", f"{message}, undamaged")


def _key(directory: Path) -> Check:
    path = directory / KEY_FILE
    if not path.exists():
        advice = "copy the one of the old directory here if snapshots that clients hold must stay valid"
        return warning("key", f"there is no {KEY_FILE}: the next start creates one", advice)
    if os.name == "posix" and path.stat().st_mode & 0o077:
        return problem("key", f"{path} is open to other users: they can sign snapshots", f"chmod 600 {path}")
    try:
        Signer.of_directory(directory)
    except (OSError, ValueError) as error:
        return problem(
            "key",
            str(error),
            "restore it from a backup, or remove it: then snapshots that clients hold are no longer valid",
        )
    return ok("key", f"{KEY_FILE} is there, for its owner only")


def _bytes(number: int) -> str:
    value, unit = float(number), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
