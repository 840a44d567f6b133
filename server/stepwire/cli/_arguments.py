"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "DEFAULT_SERVER",
    "Fields",
    "FieldsDocument",
    "Json",
    "JsonLines",
    "JsonOrLines",
    "RunId",
    "Server",
    "SomeRun",
]

DEFAULT_SERVER = "127.0.0.1:50051"

Server = Annotated[
    str, typer.Option("--server", "-s", envvar="STEPWIRE_SERVER", metavar="HOST:PORT", help="The server to call.")
]
Json = Annotated[bool, typer.Option("--json", help="Write one JSON document on one line, for scripts.")]
JsonOrLines = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Write one JSON document on one line, for scripts; with --all, a line for each report of progress.",
    ),
]
JsonLines = Annotated[bool, typer.Option("--json", help="Write a line of JSON for each item, for scripts.")]
RunId = Annotated[
    str, typer.Argument(metavar="RUN", help="The id of the run, or the beginning of it.", show_default=False)
]
SomeRun = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN", help="The id of the run, or the beginning of it; none with --all.", show_default=False
    ),
]
Fields = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        help="Fields of the event. A value that is JSON is taken as JSON, any other as text. Text that looks like JSON"
        " needs its own quotes: zip='\"0123\"'.",
        show_default=False,
    ),
]
FieldsDocument = Annotated[
    str | None,
    typer.Option("--input", metavar="JSON|@FILE", help="The fields as a JSON object; @- is standard input."),
]
