"""Call a server for a command: the client, and what becomes of errors."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

import typer

from stepwire.cli._credentials import credentials
from stepwire.cli._exit_codes import ERROR, INTERRUPTED, RUN_ENDED_BADLY, TERMINATED, USAGE
from stepwire.cli._hints import hint
from stepwire.cli._parsing import seconds
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.text import clean, indented
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

CONNECT_TIMEOUT = 1.0
"""Seconds to reach the server: a person who forgot to start it should know within two seconds of pressing Enter."""
CALL_TIMEOUT = 10.0
"""Seconds that a call may take, its retries included, unless STEPWIRE_TIMEOUT says otherwise."""

_OUTCOME_REASONS: dict[type[RunOutcomeError], str] = {
    RunFailedError: "RUN_FAILED",
    RunCancelledError: "RUN_CANCELLED",
    RunTimedOutError: "RUN_TIMED_OUT",
}


def call(
    server: str, output: Output, body: Callable[[Client], Coroutine[Any, Any, T]], given: Collection[str] = ()
) -> T:
    """Run a command's calls. An error becomes a line on standard error and an exit code.

    Args:
        server: The address to call.
        output: Where errors are written.
        body: Makes the calls.
        given: The names of the fields that the caller gave: one of them may be misspelled.
    """
    token, tls = credentials(os.environ)
    timeout = _call_timeout(output)
    try:
        if tls is not None:
            tls.credentials()
    except OSError as error:
        output.note(f"error: cannot read {error.filename}: {error.strerror}", style="red")
        raise typer.Exit(USAGE) from None

    async def main() -> T:
        _leave_on_sigterm()
        async with Client(server, timeout=timeout, token=token, tls=tls) as client:
            await client.connect(CONNECT_TIMEOUT)
            return await body(client)

    try:
        return asyncio.run(main())
    except RunOutcomeError as error:
        _tell_outcome(error, output)
        raise typer.Exit(RUN_ENDED_BADLY) from None
    except StepwireError as error:
        output.error(error)
        told = hint(error, server, tls=tls is not None, token=token is not None, given=given)
        if told is not None:
            output.note(f"  {told}")
        raise typer.Exit(ERROR) from None
    except UnicodeEncodeError as error:  # an argument that is not UTF-8
        output.note(f"error: {clean(repr(error.object), keep='')} is not UTF-8 text", style="red")
        raise typer.Exit(USAGE) from None
    except (OverflowError, ValueError) as error:  # the client refuses a wrong argument
        output.note(f"error: {clean(str(error), keep='')}", style="red")
        raise typer.Exit(USAGE) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except asyncio.CancelledError:
        raise typer.Exit(TERMINATED) from None


def _call_timeout(output: Output) -> float:
    given = os.environ.get("STEPWIRE_TIMEOUT", "")
    try:
        found = seconds(given) if given else CALL_TIMEOUT
    except typer.BadParameter as error:
        output.note(f"error: STEPWIRE_TIMEOUT: {error.message}", style="red")
        raise typer.Exit(USAGE) from None
    if found <= 0:
        output.note("error: STEPWIRE_TIMEOUT must be more than 0, such as 60 or 2m", style="red")
        raise typer.Exit(USAGE)
    return found


def _leave_on_sigterm() -> None:
    """Leave as with Ctrl-C, so that a live line is taken back and the person learns how to come back."""
    task = asyncio.current_task()
    assert task is not None
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not in the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _tell_outcome(error: RunOutcomeError, output: Output) -> None:
    reason = _OUTCOME_REASONS.get(type(error), "RUN_ENDED")
    output.note(indented(f"error: {reason}: {error.message}"), style="red")
    failure = error.outcome.failure
    if failure is not None and failure.reference_id:
        output.note(f"  reference: {failure.reference_id}", style="red")
    if failure is not None and failure.traceback:
        output.note(failure.traceback.rstrip())
