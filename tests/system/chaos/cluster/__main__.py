"""Run chaos with replicas: `python -m tests.system.chaos.cluster [SCENARIO …] [--full] [--seed N] [--count N]`."""

from __future__ import annotations

import sys

from tests.system.chaos.__main__ import Scenario, main
from tests.system.chaos.cluster import scenarios

CLUSTER = {
    "sigkill": Scenario(scenarios.sigkill, "kills", 20, 300),
    "sigkill_all": Scenario(scenarios.sigkill_all, "kills", 4, 30),
    "sigterm": Scenario(scenarios.sigterm, "restarts", 9, 100),
    "sigstop": Scenario(scenarios.sigstop, "pauses", 6, 100),
    "partitions": Scenario(scenarios.partitions, "cuts", 8, 100),
    "database_kill": Scenario(scenarios.database_kill, "kills", 5, 50),
    "failover": Scenario(scenarios.failover, "promotions", 3, 20),
    "failpoints": Scenario(scenarios.crash_at, "hits", 1, 20),
    "lost_replies": Scenario(scenarios.lost_replies, "calls", 1000, 10_000),
}

if __name__ == "__main__":
    sys.exit(
        main(
            CLUSTER,
            "python -m tests.system.chaos.cluster",
            "Kills, pauses, cuts and failing databases against three replicas on one PostgreSQL.",
        )
    )
