"""Replicas as processes over one PostgreSQL, which starts once for all tests here.

`trio` are three replicas that the tests share: those that a test killed or stopped are started again for the next one.
`start` starts others, with settings of their own, over a database of their own. All of them end when a worker leaves
this folder: three idle replicas and their database use a fifteenth of a core.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import pytest
from tests.integration.cluster.support import Database, alive
from tests.postgres import MISSING, PostgresServer, programs
from tests.serving import ServerProcess

FLOWS = [f"tests.integration.cluster.flows:{name}" for name in ("Ask=ask", "Chat=chat", "Slow=slow", "Limited=limited")]
GRACE = ["--grace", "1s"]


@pytest.fixture(scope="package")
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL server."""
    if programs() is None:
        pytest.skip(MISSING)
    # A killed replica proves nothing about the disk; without waiting for it the tests take half the time.
    with PostgresServer(["fsync=off", "max_connections=300"]) as server:
        yield server


class Trio(NamedTuple):
    """Three replicas and their database."""

    a: ServerProcess
    b: ServerProcess
    c: ServerProcess
    database: Database

    @property
    def replicas(self) -> list[ServerProcess]:
        return [self.a, self.b, self.c]


@pytest.fixture(scope="package")
def shared(postgres: PostgresServer) -> Iterator[Trio]:
    """Three replicas that are started once."""
    database = Database(postgres, "stepwire")
    a, b, c = (ServerProcess(database.dsn, FLOWS, args=GRACE) for _ in range(3))
    trio = Trio(a, b, c, database)
    try:
        yield trio
    finally:
        for each in trio.replicas:
            each.kill()
        database.close()


def begin(replicas: Sequence[ServerProcess], database: Database) -> None:
    """Start those that do not run, and wait until all of them are replicas."""
    down = [each for each in replicas if not each.running]
    if down:
        with ThreadPoolExecutor(len(down)) as threads:
            list(threads.map(ServerProcess.start, down))
    alive(database, len(replicas))


@pytest.fixture
def trio(shared: Trio) -> Trio:
    """Three replicas that run."""
    begin(shared.replicas, shared.database)
    return shared


class Started(NamedTuple):
    """Replicas over a database of their own."""

    replicas: list[ServerProcess]
    database: Database


Start = Callable[..., Started]
_numbers = itertools.count()


@pytest.fixture
def start(postgres: PostgresServer) -> Iterator[Start]:
    """Start replicas over a new database: `start(3)`, with further arguments and workflows if need be."""
    database = Database(postgres, f"test_{next(_numbers)}").create()
    with ExitStack() as stack:
        stack.callback(database.close)

        def start(count: int, args: Sequence[str] = (), specs: Sequence[str] = FLOWS) -> Started:
            made = [ServerProcess(database.dsn, specs, args=[*GRACE, *args]) for _ in range(count)]
            for each in made:
                stack.callback(each.kill)
            with ThreadPoolExecutor(count) as threads:
                list(threads.map(ServerProcess.start, made))
            return Started(made, database)

        yield start
