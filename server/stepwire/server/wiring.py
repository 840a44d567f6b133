"""What each room of the server gets of the settings."""

from __future__ import annotations

from stepwire.server.config import Settings
from stepwire.server.runs.hosting.retention import Keep, Retention

__all__ = ["retention_of"]


def retention_of(settings: Settings) -> Retention:
    """Return what is kept of ended runs and of logs."""
    rules = {name: Keep(**rule.model_dump()) for name, rule in settings.retention_workflows.items()}
    default = Keep(age=settings.retention_age, runs=settings.retention_runs, entries=settings.retention_entries)
    return Retention(default=default, workflows=rules)
