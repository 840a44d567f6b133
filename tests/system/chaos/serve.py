"""Serve the workload: `python -m tests.system.chaos.serve DATA ADDRESS [SETTINGS]`, the last as JSON."""

from __future__ import annotations

import json
import logging
import sys

from tests.system.chaos.family_flows import FAMILY
from tests.system.chaos.workload import WORKFLOW, Ledger

from stepwire.server.config import Settings
from stepwire.server.process.serving import serve
from stepwire.server.registry import Registry


def main() -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    registry = Registry()
    registry.add(WORKFLOW, Ledger())
    for name, workflow in FAMILY.items():
        registry.add(name, workflow)
    data, address, *more = sys.argv[1:]
    settings = {"idle_after": 1.0, "grace": 2.0} | (json.loads(more[0]) if more else {})
    sys.exit(serve(registry, Settings(data=data, address=address, **settings)))


if __name__ == "__main__":
    main()
