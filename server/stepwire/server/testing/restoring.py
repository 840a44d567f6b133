"""Try a saved run against the code under test: a fixture file instead of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepwire.client import Snapshot
from stepwire.server.registry import Served
from stepwire.server.rpc.convert.snapshots import snapshot_data
from stepwire.server.runs.hosting.loading.restoring import restore_parts
from stepwire.workflow import Context, Workflow
from stepwire.workflow.hosting import ContextSerdeError, run_of

__all__ = ["restore_snapshot"]


def restore_snapshot(workflow: Workflow | type[Workflow], snapshot: Snapshot | bytes | Path | str) -> Context[Any]:
    """Restore a snapshot as the server would load it under this code, `migrate` included; return its context.

    Look at its state with `await context.store.get("key")`. To keep a snapshot of a real run as a fixture, write it
    with `stepwire snapshot RUN --out FILE`.

    Args:
        workflow: The workflow under test, or its class.
        snapshot: The snapshot, its bytes, or a file of them. It need not be signed.

    Raises:
        AssertionError: The run would be blocked; the message says why.
    """
    if isinstance(snapshot, Path | str):
        snapshot = Path(snapshot).read_bytes()
    if isinstance(snapshot, bytes):
        snapshot = Snapshot.parse(snapshot)
    data = snapshot_data(snapshot.message)
    served = Served.of(data.workflow, workflow() if isinstance(workflow, type) else workflow)
    context: Context[Any] = Context(served.workflow)
    try:
        restore_parts(served, run_of(context).broker, data.parts, data.at, data.version)
    except ContextSerdeError as error:
        raise AssertionError(f"the run {data.run_id} would be blocked: {error}") from error
    return context
