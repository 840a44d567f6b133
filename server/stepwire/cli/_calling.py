"""Call a server for a command: the client, and what becomes of errors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import typer

from stepwire.cli._credentials import credentials
from stepwire.cli._exit_codes import ERROR, INTERRUPTED, RUN_ENDED_BADLY, USAGE
from stepwire.cli._hints import hint
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.text import clean
from stepwire.client import (
    Client,
    RunCancelledError,
    RunFailedError,
    RunOutcomeError,
    RunTimedOutError,
    StepwireError,
)

__all__ = ["call"]

T = TypeVar("T")

CALL_TIMEOUT = 10.0
"""Seconds that a call may take, its retries included: also how long a server that does not answer is tried."""

_OUTCOME_REASONS: dict[type[RunOutcomeError], str] = {
    RunFailedError: "RUN_FAILED",
    RunCancelledError: "RUN_CANCELLED",
    RunTimedOutError: "RUN_TIMED_OUT",
}


def call(server: str, output: Output, body: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
    """Run a command's calls. An error becomes a line on standard error and an exit code."""
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
        _tell_outcome(error, output)
        raise typer.Exit(RUN_ENDED_BADLY) from None
    except StepwireError as error:
        output.error(error)
        told = hint(error, server, tls=tls is not None, token=token is not None)
        if told is not None:
            output.note(f"  {told}")
        raise typer.Exit(ERROR) from None
    except ValueError as error:  # the client refuses a wrong argument
        output.note(f"error: {clean(str(error), keep='')}", style="red")
        raise typer.Exit(USAGE) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _tell_outcome(error: RunOutcomeError, output: Output) -> None:
    reason = _OUTCOME_REASONS.get(type(error), "RUN_ENDED")
    output.note(f"error: {reason}: {clean(error.message, keep='')}", style="red")
    failure = error.outcome.failure
    if failure is not None and failure.reference_id:
        output.note(f"  reference: {failure.reference_id}", style="red")
    if failure is not None and failure.traceback:
        output.note(failure.traceback.rstrip())
