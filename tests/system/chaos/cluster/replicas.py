"""Three replicas and their PostgreSQL, to be killed, paused and cut off."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import asyncpg
from tests.ports import free_port
from tests.postgres import MISSING, PostgresServer, programs
from tests.system.chaos.cluster.cutting import Cable
from tests.system.chaos.report import Unsupported
from tests.system.chaos.server import ServerProcess

COUNT = 3
LEASE = 3.0


class Replicas:
    """Start three replicas; an async context manager.

    With `cables` each of them reaches the database, and is reached by the others, through cables that can be cut. With
    `standby` commits wait for a second database, which can be promoted.
    """

    def __init__(
        self, work: Path, *, cables: bool = False, standby: bool = False, postgres: Sequence[str] = ("fsync=off",)
    ) -> None:
        if programs() is None:
            raise Unsupported(MISSING)
        self.effects = work / "effects.jsonl"
        self._settings = [*postgres, "max_connections=200"]
        if standby:
            self._settings += ["synchronous_standby_names=*"]
        self.database = PostgresServer(self._settings)
        self.standby: PostgresServer | None = None
        self._with_standby = standby
        self.servers: list[ServerProcess] = []
        self.to_database: list[Cable] = []
        self.to_replica: list[Cable] = []
        self._work = work
        self._cables = cables

    @property
    def target(self) -> str:
        """Return what a client connects to for all of them."""
        return "ipv4:" + ",".join(server.address for server in self.servers)

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:  # a cancelled start too leaves no process behind
            await self.__aexit__()
            raise
        return self

    async def _start(self) -> None:
        if self._with_standby:
            # Its first commit would wait for a standby that is not there yet.
            self.database = PostgresServer(self._settings[:-1])
        await asyncio.to_thread(self.database.create)
        if self._with_standby:
            await self.add_standby(free_port())
            await asyncio.to_thread(self.database.restart, self._settings)
            await self.synchronous()
        for number in range(COUNT):
            directory = self._work / f"replica{number}"
            directory.mkdir()
            settings: dict[str, Any] = {"lease": LEASE, "grace": 1.0}
            server = ServerProcess(directory, data=self.dsn, effects=self.effects, settings=settings)
            if self._cables:
                to_database = await Cable(f"127.0.0.1:{self.database.port}").open()
                to_replica = await Cable(server.address).open()
                self.to_database.append(to_database)
                self.to_replica.append(to_replica)
                server.data = self.database.dsn.replace(f":{self.database.port}/", f":{to_database.port}/")
                server.settings["advertise"] = f"127.0.0.1:{to_replica.port}"
            self.servers.append(server)
        for server in self.servers:
            server.spawn()
        await asyncio.gather(*(server.ready(120.0) for server in self.servers))

    async def __aexit__(self, *exc: object) -> None:
        for server in self.servers:
            server.kill()
        for cable in (*self.to_database, *self.to_replica):
            await cable.close()
        for database in filter(None, (self.standby, self.database)):
            await asyncio.to_thread(database.__exit__)

    @property
    def dsn(self) -> str:
        """Return the address of the database, of both if there is a standby."""
        if self.standby is None:
            return self.database.dsn
        ports = sorted((self.database.port, self.standby.port))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgres://stepwire@{hosts}/stepwire?target_session_attrs=read-write"

    async def add_standby(self, port: int) -> None:
        """Start a standby of the database on a port."""
        self.standby = PostgresServer(self._settings, port)
        await asyncio.to_thread(self.standby.follow, self.database)

    async def synchronous(self) -> None:
        """Wait until commits wait for the standby."""
        async with asyncio.timeout(60):
            query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            while (await self.fetch(query))[0][0] == 0:  # noqa: ASYNC110 - it is the database that changes
                await asyncio.sleep(0.05)

    async def promote(self) -> None:
        """Kill the database, and have the standby take its place."""
        dead, standby = self.database, self.standby
        assert standby is not None
        dead.kill()
        await asyncio.to_thread(standby.promote)
        self.database = standby
        await self.add_standby(dead.port)
        await asyncio.to_thread(dead.__exit__)
        await self.synchronous()

    def others(self, server: ServerProcess) -> list[ServerProcess]:
        """Return all but one."""
        return [each for each in self.servers if each is not server]

    async def start(self, server: ServerProcess, env: Mapping[str, str] | None = None) -> None:
        """Start one that is down, and wait until it serves."""
        server.spawn(env)
        await server.ready(120.0)

    async def fetch(self, statement: str) -> list[Any]:
        """Execute a statement in the database."""
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    async def some_run_of(self, server: ServerProcess, rng: random.Random) -> str | None:
        """Return a run that a replica owns now."""
        advertised = server.settings.get("advertise", server.address)
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            rows = await self.fetch(
                f"SELECT run_id FROM runs JOIN replicas r ON r.id = owner WHERE address = '{advertised}' LIMIT 50"
            )
            return str(rng.choice(rows)[0]) if rows else None
        return None
