"""Say what is known of a call that got no answer, and what to do: gRPC says only that it has none."""

from __future__ import annotations

from typing import Any

from stepwire.client._core.call import Call
from stepwire.client._core.reconnect import is_connection_loss
from stepwire.client._core.status import says_no_connection
from stepwire.client.errors import DeadlineError, StepwireError

# What the names of methods that change nothing begin with.
_READS = ("Get", "List", "Who", "Wait")
# What gRPC says of each deadline.
_EMPTY = ("Deadline Exceeded", "DEADLINE_EXCEEDED")


def explained(error: StepwireError, call: Call[Any], address: str, waited: float) -> StepwireError:
    """Return the error of a call with the words that gRPC lacks, if the server has not answered it.

    Args:
        error: The error. One that the server gave, or that tells that nothing was sent, is returned as it is.
        call: The call.
        address: The address, or all those that were tried.
        waited: The seconds since the call began.
    """
    if error.reason or not is_connection_loss(error) or says_no_connection(error):
        return error
    method, text = call.method.partition(".")[2], error.message
    if isinstance(error, DeadlineError):
        told = "" if text in _EMPTY else f": {text}"
        text = f"{method} got no answer from {address} within {round(waited, 1):g} s{told}"
    elif not method.startswith(_READS):
        text = f"{method} got no answer from {address}: {text}"
    advice = ""
    if not method.startswith(_READS):
        text += "; whether it took effect is unknown"
        advice = _advice(call)
    return type(error)(text, code=error.code, details=error.details, retry_after=error.retry_after, advice=advice)


def _advice(call: Call[Any]) -> str:
    request_id = getattr(call.request, "request_id", "")
    if request_id:
        return f"repeat it with request_id={request_id!r}: it takes effect once"
    return "repeat it: a second one changes nothing" if call.safe else "look at what is there before you repeat it"
