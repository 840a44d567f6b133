"""The servers of the scenarios, each in a process of its own.

python -m tests.system.conformance.servers   serves the one whose store fails
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import struct_pb2
from tests.serving import ROOT, ServerProcess
from tests.system.conformance.workflows import Counter

from stepwire.server.app import Server, Settings
from stepwire.server.auth import new_key
from stepwire.server.registry import Registry
from stepwire.server.store import (
    Claim,
    Commit,
    MemoryStore,
    OwnedElsewhereError,
    RunKey,
    RunRecord,
    StoreCorruptError,
    StoreUnavailableError,
)
from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import run_service_pb2_grpc, types_pb2

FLOWS = "tests/system/conformance/workflows.py"
SERVED = ("Fields=fields", "Dialog=dialog", "Counter=counter", "Failing=failing", "Sleeper=sleeper", "Family=family")
WEB = ("--web", "127.0.0.1:0")
SPECS = [f"{FLOWS}:{name}" for name in SERVED]


class Serving:
    """The addresses of the servers and of their web, and the variables that they give to the scenarios."""

    def __init__(self, addresses: dict[str, str], web: dict[str, str], variables: dict[str, str]) -> None:
        self.addresses = addresses
        self.web = web
        self.variables = variables


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[Serving]:
    """Serve the scenarios, with data in a directory."""
    with contextlib.ExitStack() as stack:
        blocked = _blocked_run(directory / "main")
        main = stack.enter_context(ServerProcess(directory / "main", SPECS, args=WEB))
        draining = stack.enter_context(_draining(directory / "draining"))
        broken = stack.enter_context(_broken(directory / "broken.log"))
        key = new_key()
        access = directory / "access.toml"
        access.write_text(f'[[keys]]\nid = "{key.id}"\nhash = "{key.hash}"\nname = "reader"\nscopes = ["read"]\n')
        guarded = stack.enter_context(
            ServerProcess(directory / "guarded", SPECS, args=("--api-keys", str(access), "--insecure", *WEB))
        )
        yield Serving(
            {"main": main.address, "guarded": guarded.address, "draining": draining.address, "broken": broken[0]},
            {
                "main": _web_of(main),
                "guarded": _web_of(guarded),
                "draining": _web_of(draining),
                "broken": f"http://{broken[1]}",
            },
            {"blocked_run": blocked, "reader_key": key.key},
        )


def _web_of(server: ServerProcess) -> str:
    return server.hear(r"console at (http://\S+)")


def _blocked_run(data: Path) -> str:
    """Leave a run behind whose workflow the next server on this data does not serve."""
    with ServerProcess(data, [f"{FLOWS}:Dialog=retired"]) as server, grpc.insecure_channel(server.address) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        run_id = _start(stub, "retired", {"topics": ["name"]})
        for response in stub.StreamEvents(pb.StreamEventsRequest(run_id=run_id), timeout=60):
            if any(entry.type == "Question" for entry in response.events.entries):
                return run_id
    raise RuntimeError("the run asked nothing")


@contextlib.contextmanager
def _draining(data: Path) -> Iterator[ServerProcess]:
    """Give a server that was told to stop and waits for a step that sleeps."""
    server = ServerProcess(data, SPECS, args=("--grace", "3600", *WEB)).start()
    try:
        with grpc.insecure_channel(server.address) as channel:
            stub = run_service_pb2_grpc.RunServiceStub(channel)
            _start(stub, "sleeper", {"seconds": 3600})
            os.kill(server.pid, signal.SIGTERM)
            for attempt in range(1000):
                try:
                    _start(stub, "counter", {"ticks": 0}, request_id=f"probe-{attempt}")
                except grpc.RpcError as error:
                    if error.code() == grpc.StatusCode.UNAVAILABLE:
                        break
                    raise
            else:
                raise RuntimeError("the server does not drain")
        yield server
    finally:
        server.kill()


def _start(stub: Any, workflow: str, fields: dict[str, Any], request_id: str = "") -> str:
    value = struct_pb2.Struct()
    value.update(fields)
    payload = types_pb2.Payload(value=struct_pb2.Value(struct_value=value))
    request = pb.StartRunRequest(workflow=workflow, input=payload, request_id=request_id)
    return str(stub.StartRun(request, timeout=60).run.run_id)


@contextlib.contextmanager
def _broken(log: Path) -> Iterator[tuple[str, str]]:
    command = [sys.executable, "-m", "tests.system.conformance.servers"]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            addresses = process.stdout.readline().split()
            if not addresses:
                raise RuntimeError(f"the server did not start:\n{log.read_text()}")
            yield addresses[0], addresses[1]
        finally:
            process.kill()


class FailingStore(MemoryStore):
    """Fail by the id of the run.

    full-… the disk is full, down-… it cannot be reached, torn-… its data is damaged, bug-… a defect,
    away-… another replica has it.
    """

    def commit(self, commit: Commit) -> asyncio.Future[Claim]:
        """Commit, or fail."""
        run_id = commit.record.key.run_id
        if not run_id.startswith(("full-", "down-")):
            return super().commit(commit)
        failed: asyncio.Future[Claim] = asyncio.get_running_loop().create_future()
        failed.set_exception(StoreUnavailableError("the disk of the test", full=run_id.startswith("full-")))
        return failed

    async def get(self, key: RunKey) -> RunRecord | None:
        """Read a run."""
        if key.run_id.startswith("bug-"):
            raise RuntimeError("secret-of-the-server")
        if key.run_id.startswith("away-"):
            raise OwnedElsewhereError("127.0.0.1:1")
        if key.run_id.startswith("torn-"):
            raise StoreCorruptError("the record of the run cannot be read")
        return await super().get(key)


async def _serve() -> None:
    registry = Registry()
    registry.add("counter", Counter)
    server = Server(registry, Settings(address="127.0.0.1:0", data=":memory:", web_address="127.0.0.1:0"))
    server._store = FailingStore()
    await server.start()
    print(server.address, server.web_address, flush=True)  # noqa: T201 - the parent reads it
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
