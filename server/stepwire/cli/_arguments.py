"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["DEFAULT_SERVER", "Json", "RunId", "Server"]

DEFAULT_SERVER = "127.0.0.1:50051"

Server = Annotated[
    str, typer.Option("--server", "-s", envvar="STEPWIRE_SERVER", metavar="HOST:PORT", help="The server to call.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON for scripts: a document, or a line for each item.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of the run.", show_default=False)]
