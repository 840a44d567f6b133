"""What to do about an error of a call."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from stepwire.client import DeadlineError, StepwireError, UnauthenticatedError, UnavailableError

__all__ = ["hint"]

_REASONS = {
    "WORKFLOW_NOT_FOUND": "stepwire workflows lists the served workflows",
    "RUN_NOT_FOUND": "stepwire runs lists the runs",
    "UNKNOWN_EVENT_TYPE": "stepwire workflows NAME shows the event types of a workflow",
    "INTERNAL_EVENT": "stepwire workflows NAME shows which events can be sent",
    "RUN_BLOCKED": "a blocked run goes on when code is served that can read it: aliases, defaults, migrate()"
    " (docs/workflows.md, Change code under waiting runs); then stepwire reload RUN",
    "STEP_NOT_FOUND": "stepwire workflows NAME shows the steps of a workflow",
    "STEP_DOES_NOT_ACCEPT": "stepwire workflows NAME shows what each step takes",
    "SCHEDULE_NOT_FOUND": "stepwire schedule list lists the schedules",
    "SNAPSHOT_NOT_FOUND": "stepwire snapshot RUN --list lists the snapshots of a run",
    "INVALID_SNAPSHOT": "that key is the file snapshot.key in the data directory of the server that it comes from,"
    " or what its --snapshot-key names (docs/operations.md, Take a run to another server)",
    "PATH_NOT_FOUND": "stepwire state get RUN shows the whole state",
    "RUN_ENDED": "stepwire result RUN shows how it ended; stepwire fork RUN starts another one from its past",
    "RUN_NOT_ENDED": "stepwire cancel RUN ends it",
    "STORE_UNAVAILABLE": "the server cannot use its database or disk now: its log and stepwire doctor, on its machine,"
    " say why; then repeat the command",
    "DRAINING": "this server stops: repeat the command in a moment, or at another replica with --server",
    "RUN_ELSEWHERE": "another replica has the run, and is not reached now: repeat the command in a moment;"
    " stepwire replicas lists the replicas",
    "PERMISSION_DENIED": "stepwire server shows what this credential may do; stepwire keys new makes one that may do"
    " more",
    "INTERNAL": "the server's log has more under the reference; stepwire doctor, on its machine, looks at what it"
    " needs",
    "DATA_DAMAGED": "stepwire doctor, on the server's machine, looks at its data",
}


def hint(error: StepwireError, server: str, *, tls: bool, token: bool, given: Collection[str] = ()) -> str | None:
    """Return a line that says what to do, None when nothing is known.

    Args:
        error: The error.
        server: The address that was called.
        tls: The call spoke TLS.
        token: The call had a token.
        given: The names of the fields that the caller gave.
    """
    if "Received http2 header with status" in error.message:
        return f"what answers at {server} is not a Stepwire server, or a proxy that does not know one"
    if isinstance(error, UnavailableError) and not error.reason:
        return _unreachable(error.message, server, tls=tls)
    if isinstance(error, DeadlineError) and not error.reason:
        return _late(error.message, server)
    if isinstance(error, UnauthenticatedError):
        if token:
            return "the token in STEPWIRE_TOKEN was refused: set it to an API key or a token that this server knows"
        return "set STEPWIRE_TOKEN to an API key or a token"
    if wrong := _about_input(error):
        return wrong
    if misspelled := _misspelled(error, given):
        return misspelled
    told = _REASONS.get(error.reason)
    if error.reason == "INVALID_SNAPSHOT" and "not signed" not in error.message:
        return None
    return told.replace("NAME", error.metadata.get("workflow", "NAME")) if told else None


def _about_input(error: StepwireError) -> str:
    """Return what to do when a start from a snapshot lacks an input, or has one too many."""
    for each in error.field_violations:
        if error.reason == "INVALID_REQUEST" and each.field == "input":
            if each.description.startswith("is missing"):
                return (
                    "give the fields of its start event as KEY=VALUE, or '--input {}' for none; or name an earlier"
                    " sequence, to go on from there: stepwire snapshot RUN --list lists them"
                )
            return "leave out KEY=VALUE and --input"
    return ""


def _misspelled(error: StepwireError, given: Collection[str]) -> str:
    """Return which of the names that the caller gave may be meant for one that is missing: events take any field."""
    missing = [each.field for each in error.field_violations if each.field not in given]
    pairs = [(name, near) for name in given for near in get_close_matches(name, missing, 1)]
    return ", ".join(f"{name}: did you mean {near}?" for name, near in pairs)


def _late(message: str, server: str) -> str | None:
    if "got no answer" not in message:  # the server has answered: the command waited for the run
        return "the run goes on: a longer --timeout waits for it, stepwire events RUN --follow shows what it does"
    look = "; see with stepwire runs whether it took effect before you repeat it" if "is unknown" in message else ""
    return (
        f"{server} took the call and does not answer{look}\n"
        "  stepwire health asks whether it serves; stepwire doctor, on its machine, looks at its data\n"
        "  if it is only slow, STEPWIRE_TIMEOUT=60 waits longer"
    )


def _unreachable(message: str, server: str, *, tls: bool) -> str:
    # gRPC has only text for these.
    if "WRONG_VERSION_NUMBER" in message:
        return f"{server} does not speak TLS: unset STEPWIRE_CA and STEPWIRE_TLS"
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return f"the certificate of {server} is not trusted: set STEPWIRE_CA to the file with its roots"
    if "Hostname Verification" in message:
        return f"the certificate of {server} is for another name: call it by that name, or set STEPWIRE_SERVER_NAME"
    if "Failed parsing HTTP/2" in message:
        return f"what answers at {server} does not speak gRPC; is it the server's web address?"
    if "does not answer within" in message or "before receiving SETTINGS" in message:
        return (
            f"is a server at {server}, and does it run? stepwire serve starts one; one that hangs must be started"
            " again; --server names another"
        )
    if "Socket closed" in message and not tls:
        return f"{server} closed the connection: if it speaks TLS, set STEPWIRE_CA to the file with its roots"
    if ":" not in server:
        return f"{server} has no port: is it {server}:50051?"
    return f"no server answers at {server}: start one with stepwire serve, or name it with --server"
