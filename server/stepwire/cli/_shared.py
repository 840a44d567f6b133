"""What the commands that call a server share: options, the client, errors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, TypeVar

import typer

from stepwire.cli._exit import ERROR, INTERRUPTED, RUN_ENDED_BADLY, USAGE
from stepwire.cli._hints import hint
from stepwire.cli.render import Output, clean
from stepwire.client import (
    Client,
    Run,
    RunCancelledError,
    RunFailedError,
    RunOutcomeError,
    RunTimedOutError,
    StepwireError,
    TlsConfig,
)

__all__ = ["DEFAULT_SERVER", "Json", "RunId", "Server", "beginning", "call", "come_back", "credentials"]

T = TypeVar("T")

DEFAULT_SERVER = "127.0.0.1:50051"
CALL_TIMEOUT = 10.0
"""Seconds that a call may take, its repeats included: also how long a server that does not answer is tried."""

Server = Annotated[
    str, typer.Option("--server", "-s", envvar="STEPWIRE_SERVER", metavar="HOST:PORT", help="The server to speak with.")
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON for scripts: a document, or a line for each item.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of the run.", show_default=False)]

_OUTCOME_REASONS: dict[type[RunOutcomeError], str] = {
    RunFailedError: "RUN_FAILED",
    RunCancelledError: "RUN_CANCELLED",
    RunTimedOutError: "RUN_TIMED_OUT",
}


def come_back(run_id: str, sequence: int, server: str, *, ask: bool) -> str:
    """Return the command that goes on following a run."""
    words = ["stepwire events", run_id, "--follow"]
    if ask:
        words.append("--ask")
    if sequence:
        words.append(f"--after {sequence}")
    if server != DEFAULT_SERVER:
        words.append(f"--server {server}")
    return " ".join(words)


async def beginning(run: Run, output: Output) -> int:
    """Return the sequence after which a run's log begins; say so where earlier entries are no longer kept."""
    first = (await run.info()).first_available
    if first > 1:
        output.note(f"the log begins at {first}: what was before is no longer kept", style="dim")
    return first - 1


def credentials(variables: Mapping[str, str]) -> tuple[str | None, TlsConfig | None]:
    """Return the token and the TLS of environment variables.

    STEPWIRE_TOKEN is the token (a flag would show in the list of processes). STEPWIRE_CA, STEPWIRE_CERT and
    STEPWIRE_KEY are PEM files, STEPWIRE_SERVER_NAME is the name to find in the server's certificate instead of the
    address; STEPWIRE_TLS=1 is TLS with gRPC's own roots.
    """
    ca, cert, key = (variables.get(f"STEPWIRE_{name}") or None for name in ("CA", "CERT", "KEY"))
    secured = any((ca, cert, key)) or variables.get("STEPWIRE_TLS", "") not in ("", "0")
    name = variables.get("STEPWIRE_SERVER_NAME") or None
    tls = TlsConfig(ca=ca, cert=cert, key=key, server_name=name) if secured else None
    return variables.get("STEPWIRE_TOKEN") or None, tls


def call(server: str, output: Output, body: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Run a command's calls; what goes wrong becomes one line on standard error and an exit code."""
    token, tls = credentials(os.environ)
    try:
        if tls is not None:
            tls.credentials()
    except OSError as error:
        output.note(f"error: cannot read {error.filename}: {error.strerror}", style="red")
        raise typer.Exit(USAGE) from None

    async def main() -> T:
        async with Client(server, timeout=CALL_TIMEOUT, token=token, tls=tls) as client:
            return await body(client)

    try:
        return asyncio.run(main())
    except RunOutcomeError as error:
        reason = _OUTCOME_REASONS.get(type(error), "RUN_ENDED")
        output.note(f"error: {reason}: {clean(error.message, keep='')}", style="red")
        failure = error.outcome.failure
        if failure is not None and failure.reference_id:
            output.note(f"  reference: {failure.reference_id}", style="red")
        if failure is not None and failure.traceback:
            output.note(failure.traceback.rstrip())
        raise typer.Exit(RUN_ENDED_BADLY) from None
    except StepwireError as error:
        output.error(error)
        told = hint(error, server, tls=tls is not None, token=token is not None)
        if told is not None:
            output.note(f"  {told}")
        raise typer.Exit(ERROR) from None
    except ValueError as error:  # the client refuses wrong use of itself
        output.note(f"error: {clean(str(error), keep='')}", style="red")
        raise typer.Exit(USAGE) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
