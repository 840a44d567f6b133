"""The commands, put together."""

from __future__ import annotations

import typer

from stepwire.server.cli import (
    backup,
    doctor,
    events,
    health,
    history,
    keys,
    run,
    runs,
    serve,
    snapshot,
    state,
    version,
    workflows,
)

__all__ = ["app"]

app = typer.Typer(
    name="stepwire",
    help="Serve event-driven workflows, start runs of them, and talk with those runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (serve, workflows, run, runs, events, history, state, snapshot, backup, doctor, keys, health, version):
    module.register(app)
