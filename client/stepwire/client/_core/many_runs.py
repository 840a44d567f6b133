"""`ApplyToRuns` and its reconnections, seen as one stream of progress."""

from __future__ import annotations

from collections import deque
from typing import Any, get_args

from google.rpc.error_details_pb2 import ErrorInfo

from stepwire.client._core.heartbeats import Heartbeats
from stepwire.client._core.reconnect import Reconnect
from stepwire.client.errors import StepwireError
from stepwire.client.models import ApplyProgress, RunAction, RunRefusal
from stepwire.v1 import run_service_pb2 as runs

_ACTIONS = get_args(RunAction)


class ManyRuns:
    """An action on many runs, over as many calls as it takes: each goes on from the last answer of the one before.

    Args:
        request: The request.
        reconnect: Decides when to connect again.
    """

    method = "RunService.ApplyToRuns"
    run_id = ""

    def __init__(self, request: runs.ApplyToRunsRequest, reconnect: Reconnect) -> None:
        self._request = request
        self._most = request.max_runs
        self._reconnect = reconnect
        self._answers: deque[ApplyProgress] = deque()
        self.heartbeats = Heartbeats()
        self.ended = False

    def request(self) -> runs.ApplyToRunsRequest:
        """Return the request of the next connection."""
        return self._request

    def receive(self, answer: runs.ApplyToRunsResponse) -> None:
        """Take in an answer."""
        self._reconnect.heard()
        self._request.resume_token = answer.resume_token
        refusals = tuple(_refusal(each) for each in answer.refusals)
        self._answers.append(
            ApplyProgress(
                matched=answer.matched,
                done=answer.done,
                unchanged=answer.unchanged,
                refused=answer.refused,
                refusals=refusals,
                resume_token=answer.resume_token,
                finished=answer.finished,
                more=answer.more,
            )
        )
        self.ended = answer.finished

    def pop(self) -> Any:
        """Return the next answer, None when another one is needed."""
        return self._answers.popleft() if self._answers else None

    def delay_after(self, error: StepwireError | None) -> float | None:
        """Return the seconds to wait before the next connection. Raises `error` when another one cannot help."""
        return self._reconnect.delay_after(error)


def set_action(request: runs.ApplyToRunsRequest, action: RunAction, reason: str) -> None:
    """Set what to do with each run. Raises ValueError for an unknown action, or a reason that it does not take."""
    if action not in _ACTIONS:
        raise ValueError(f"action must be one of {', '.join(_ACTIONS)}, not {action!r}")
    if reason and action not in ("cancel", "pause"):
        raise ValueError(f"{action} takes no reason")
    part = getattr(request, action)
    part.SetInParent()
    if reason:
        part.reason = reason


def _refusal(refusal: runs.RunRefusal) -> RunRefusal:
    info = ErrorInfo()
    reason = next((info.reason for detail in refusal.error.details if detail.Unpack(info)), "")
    return RunRefusal(refusal.run_id, reason, refusal.error.message)
