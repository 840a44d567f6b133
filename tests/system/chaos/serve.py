"""Serve the workload: `python -m tests.system.chaos.serve DATA ADDRESS`."""

from __future__ import annotations

import logging
import sys

from tests.system.chaos.workload import WORKFLOW, Ledger

from stepwire.server.config import Settings
from stepwire.server.process.serving import serve
from stepwire.server.registry import Registry


def main() -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    registry = Registry()
    registry.add(WORKFLOW, Ledger())
    data, address = sys.argv[1:]
    sys.exit(serve(registry, Settings(data=data, address=address, idle_after=1.0, grace=2.0)))


if __name__ == "__main__":
    main()
