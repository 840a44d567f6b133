"""A server process to be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
from tests.ports import free_port
from tests.system.chaos.workload import EFFECTS

from stepwire.v1 import workflow_service_pb2, workflow_service_pb2_grpc

ROOT = Path(__file__).resolve().parents[3]

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # Come back at once: what is measured is the server, not gRPC's patience.
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 100),
    # A connection of its own for each channel.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    # Of several addresses each gets its share of the calls.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
)


class ProcessEndedError(RuntimeError):
    """A server ended before it answered."""


class ServerProcess:
    """Serve the workload on data in `directory`, always on the same port; start and kill it at will.

    `settings` are further ones of the server, `effects` is the file of effects if several servers share one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        data: Path | str | None = None,
        prefix: Sequence[str] = (),
        effects: Path | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.data = data or directory / "data"
        self.effects = effects or directory / "effects.jsonl"
        self.settings = dict(settings or {})
        self.log = directory / "server.log"
        self.address = f"127.0.0.1:{free_port()}"
        self.spawned_at = 0.0
        self._prefix = list(prefix)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether it lives."""
        return self._process is not None and self._process.poll() is None

    def spawn(self, env: Mapping[str, str] | None = None) -> None:
        """Start the process; `ready` waits until it serves."""
        command = [*self._prefix, sys.executable, "-m", "tests.system.chaos.serve", str(self.data), self.address]
        if self.settings:
            command.append(json.dumps(self.settings))
        # Bytecode lies ready, as it does for an installed package: no start compiles what the one before it did.
        own = {**os.environ, EFFECTS: str(self.effects)}
        own.pop("PYTHONDONTWRITEBYTECODE", None)
        with self.log.open("ab") as log:
            self.spawned_at = time.monotonic()
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**own, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def ready(self, timeout: float = 60.0) -> float:
        """Wait for the first call that succeeds; return the seconds since the process was started.

        Raises `ProcessEndedError` as soon as the process ends instead, `RuntimeError` if it does not answer in time.
        """
        async with grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS) as channel:
            stub = workflow_service_pb2_grpc.WorkflowServiceStub(channel)
            request = workflow_service_pb2.ListWorkflowsRequest()
            answered = asyncio.ensure_future(stub.ListWorkflows(request, wait_for_ready=True, timeout=timeout))
            try:
                while not (await asyncio.wait((answered,), timeout=0.05))[0]:
                    if not self.running:
                        raise ProcessEndedError(
                            f"the server ended with {self.wait()} before it answered\n{self.tail()}"
                        )
                await answered
            except grpc.aio.AioRpcError as error:
                raise RuntimeError(f"the server does not answer: {error.details()}\n{self.tail()}") from error
            finally:
                answered.cancel()
        return time.monotonic() - self.spawned_at

    @property
    def cpu(self) -> float:
        """Return the processor seconds that it has used; unlike the clock's, a busy machine does not add to them."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit code."""
        assert self._process is not None
        return self._process.wait(timeout)

    def tail(self, size: int = 4000) -> str:
        """Return the end of what it logged."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""
