"""The calls on the state of one run, and the transactions made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from stepwire.client._core.backoff import Backoff
from stepwire.client._core.call import Call, Operation, new_request_id
from stepwire.client._core.payload import JSON, from_payload, to_json_bytes, to_payload
from stepwire.client._core.run_calls import RunCalls
from stepwire.client.errors import AbortedError, NotFoundError
from stepwire.v1 import state_service_pb2 as state

# How often a write is repeated when others change the state meanwhile.
EDIT_ATTEMPTS = 50


class Missing:
    """The type of `MISSING`, which says that the caller gave no default."""


MISSING: Final = Missing()


class StateCalls:
    """Make the calls on the state of one run."""

    def __init__(self, run: RunCalls) -> None:
        self._run = run

    def read(self, path: str, as_: Any = None) -> Call[tuple[Any, str]]:
        """Return the call of GetState. It returns the value and the state's etag."""
        request = state.GetStateRequest(run_id=self._run.run_id, path=path, encoding=JSON)
        return self._run.call(
            "StateService.GetState",
            request,
            lambda response: (from_payload(response.value, as_), response.etag),
            safe=True,
        )

    def get(self, path: str, default: Any, as_: Any) -> Operation[Any]:
        """Read a value; return `default` when there is none."""
        try:
            value, _ = yield self.read(path, as_)
        except NotFoundError as error:
            if default is MISSING or error.reason != "PATH_NOT_FOUND":
                raise
            return default
        return value

    def set_many(self, values: Mapping[str, Any], etag: str | None, request_id: str | None = None) -> Call[str]:
        """Return the call of SetState. It returns the new etag."""
        request = state.SetStateRequest(
            run_id=self._run.run_id,
            values=[state.PathValue(path=p, value=to_payload(v)) for p, v in values.items()],
            etag=etag or "",
            request_id=request_id or new_request_id(),
        )
        return self._write("SetState", request)

    def unset(self, paths: Sequence[str], etag: str | None, request_id: str | None = None) -> Call[str]:
        """Return the call of UnsetState. It returns the new etag."""
        request = state.UnsetStateRequest(
            run_id=self._run.run_id,
            paths=paths,
            etag=etag or "",
            request_id=request_id or new_request_id(),
        )
        return self._write("UnsetState", request)

    def replace(self, value: Any, etag: str | None, request_id: str | None = None) -> Call[str]:
        """Return the call of ReplaceState. It returns the new etag."""
        request = state.ReplaceStateRequest(
            run_id=self._run.run_id,
            value=to_payload(value),
            etag=etag or "",
            request_id=request_id or new_request_id(),
        )
        return self._write("ReplaceState", request)

    def update(self, change: Callable[[Any], Any], as_: Any) -> Operation[Any]:
        """Read the state, change it and write it. Begin again when another client changed it meanwhile."""
        backoff = Backoff()
        for attempt in range(EDIT_ATTEMPTS):
            value, etag = yield self.read("", as_)
            answer = change(value)
            fresh = value if answer is None else answer
            try:
                yield self.replace(fresh, etag)
            except AbortedError as error:
                if attempt + 1 == EDIT_ATTEMPTS:
                    raise
                yield backoff.next(error)
            else:
                return fresh
        raise AssertionError("unreachable")

    def _write(self, method: str, request: Any) -> Call[str]:
        return self._run.call(f"StateService.{method}", request, lambda response: str(response.etag), safe=True)


class Edit:
    """The read and the write around an `edit_state` block.

    The block cannot run again. So a write whose etag is outdated is repeated only while the state is still the one
    that the block saw. Otherwise it raises AbortedError and writes nothing.
    """

    def __init__(self, calls: StateCalls, as_: Any) -> None:
        self._calls = calls
        self._as = as_
        self._seen = b""
        self._etag = ""
        self.value: Any = None

    def begin(self) -> Operation[Any]:
        """Read the state."""
        self.value, self._etag = yield self._calls.read("", self._as)
        self._seen = to_json_bytes(self.value)
        return self.value

    def commit(self) -> Operation[None]:
        """Write the state when the block changed it."""
        if to_json_bytes(self.value) == self._seen:
            return
        for _ in range(EDIT_ATTEMPTS):
            try:
                yield self._calls.replace(self.value, self._etag)
            except AbortedError:
                now, self._etag = yield self._calls.read("", self._as)
                if to_json_bytes(now) != self._seen:
                    raise
            else:
                return
        raise AbortedError("the state's etag kept changing")
