"""A PostgreSQL server of the tests' own: its cluster in a temporary folder, on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.ports import free_port

_FOLDERS = "/usr/lib/postgresql"


def programs() -> Path | None:
    """Return the folder of the newest installed server's programs; None without one."""
    found = sorted(Path(_FOLDERS).glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


# All tables of the store but the two in which its migrations have put a row.
_EMPTY = """
DO $$ DECLARE tables text; BEGIN
    SELECT string_agg(format('%I', tablename), ', ') INTO tables FROM pg_tables
        WHERE schemaname = 'public' AND tablename NOT IN ('schema_version', 'probe');
    IF tables IS NOT NULL THEN
        EXECUTE 'TRUNCATE ' || tables || ' RESTART IDENTITY';
    END IF;
END $$
"""

MISSING = "PostgreSQL is not installed (Debian: postgresql)"


class PostgresServer:
    """Start and stop, kill and start again. Root runs it as the user `postgres`, which Debian's package makes."""

    def __init__(self, settings: Sequence[str] = (), port: int = 0) -> None:
        bin_ = programs()
        if bin_ is None:
            raise LookupError(MISSING)
        self._bin = bin_
        # Not in pytest's folder: root closes that to the user who runs the server.
        self._home = Path(tempfile.mkdtemp(prefix="stepwire-postgres-"))
        self._folder = self._home / "cluster"
        self._settings = list(settings)
        self.port = port or free_port()
        self._as: list[str] = []
        if os.getuid() == 0:
            # Not subprocess's `user`: then it forks, and a fork beside gRPC's threads may crash.
            self._as = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(self._home, "postgres", "postgres")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the process that the server's other ones are children of."""
        assert self._process is not None
        return self._process.pid

    @property
    def dsn(self) -> str:
        """Return the address of the database `stepwire`."""
        return f"postgres://stepwire@127.0.0.1:{self.port}/stepwire"

    def create(self) -> Self:
        """Make the cluster and the database, and start."""
        self._folder.mkdir()
        if self._as:
            shutil.chown(self._folder, "postgres", "postgres")
        # A test kills processes, not the machine: to wait for the disk adds half a second.
        self._run(
            *("initdb", "--no-sync", "--pgdata", str(self._folder)),
            *("--username", "stepwire", "--auth", "trust", "--encoding", "UTF8"),
        )
        self.start()
        self.sql("CREATE DATABASE stepwire", database="postgres")
        return self

    def follow(self, primary: PostgresServer) -> Self:
        """Become a standby of another server: copy its cluster, and start."""
        self._run(
            "pg_basebackup",
            *("--host", "127.0.0.1", "--port", str(primary.port), "--username", "stepwire"),
            *(
                "--pgdata",
                str(self._folder),
                "--write-recovery-conf",
                "--wal-method",
                "stream",
                "--checkpoint",
                "fast",
                "--no-sync",
            ),
        )
        self.start()
        return self

    def promote(self) -> None:
        """Have this standby be the primary from now on."""
        self.sql("SELECT pg_promote()", database="postgres")

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [*self._as, str(self._bin / "postgres"), "-D", str(self._folder), "-p", str(self.port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        for setting in self._settings:
            command += ["-c", setting]
        ready = ("pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1")
        for _ in range(100):
            # After a kill the last children may still hold the shared memory: then it ends at once.
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    command,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,
                )
            try:
                self._run(*ready, tries=3)
                return
            except RuntimeError:
                continue
        raise RuntimeError("PostgreSQL does not start")

    def sql(self, statement: str, database: str = "stepwire") -> str:
        """Execute a statement."""
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "stepwire", "-d", database]
        return self._run("psql", "-qAtX", *address, "-c", statement)

    def copy(self, database: str, name: str) -> None:
        """Make a database that is a copy of another one, which may be in use."""
        self.sql(f"CREATE DATABASE {name}", database="postgres")
        address = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "stepwire"]
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            Path(file.name).chmod(0o644)
            file.write(self._run("pg_dump", *address, database))
            file.flush()
            self._run("psql", "-qX", "-v", "ON_ERROR_STOP=1", *address, "-d", name, "-f", file.name)

    def empty(self) -> None:
        """Make the database as new. Tables that are there stay, emptied: to make them again takes twice the time."""
        self.sql(_EMPTY)

    def kill(self) -> None:
        """End it with SIGKILL, all of its processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def pause(self) -> None:
        """Have all of its processes hang, with their connections open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        # Each of them has a session of its own, so there is no group to signal. The first one goes first, or last:
        # else it would start others, or take those that stand still for ended.
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        processes = [self.pid, *map(int, children)]
        for process in processes if number == signal.SIGSTOP else reversed(processes):
            os.kill(process, number)

    def restart(self, settings: Sequence[str]) -> None:
        """Stop it, and start it with other settings."""
        self.stop()
        self._settings = list(settings)
        self.start()

    def stop(self) -> None:
        """Stop it at once, without waiting for clients."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def _run(self, program: str, *arguments: str, tries: int = 1) -> str:
        for attempt in range(tries):
            done = subprocess.run(
                [*self._as, str(self._bin / program), *arguments], capture_output=True, text=True, timeout=60, cwd="/"
            )
            if done.returncode == 0:
                return str(done.stdout).strip()
            if attempt + 1 < tries:
                # pg_isready itself waits for a second only once something listens.
                subprocess.run(["sleep", "0.05"], check=True)
        raise RuntimeError(f"{program}: {done.stderr[-500:]}")

    def __enter__(self) -> Self:
        return self.create()

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)
