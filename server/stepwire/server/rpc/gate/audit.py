"""The audit log: a record of each call and frame that changes something, refused ones too, without payloads.

It says who (principal), from where, what (action, run, request_id), and how it ended. `access` has the action of each
method. A record is written before the caller gets the answer.
"""

from __future__ import annotations

import errno
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from stepwire.server.principal import ANONYMOUS, Principal
from stepwire.server.rpc.errors import reason_of
from stepwire.server.rpc.gate.call import Call
from stepwire.server.rpc.gate.limits import Limits
from stepwire.server.rpc.gate.method_scopes import RETRY, RULES, SEND, START, TRIGGER, WAIT_FOR_EVENT
from stepwire.server.runs.errors import RunsError
from stepwire.server.runs.family.audit_events import ChildAuditEvent
from stepwire.server.runs.hosting.pool import RunPool
from stepwire.server.runs.scheduling.audit_events import ScheduleAuditEvent
from stepwire.server.store import RunRecord
from stepwire.v1 import run_service_pb2, schedule_service_pb2
from stepwire.workflow.hosting import HumanResponseEvent

__all__ = ["LOG", "UNRECORDED", "Audit", "AuditEntry", "Recorded", "open_audit"]

LOG: Final = "log"
"""The setting that sends records to the log of the process."""

logger = logging.getLogger("stepwire.audit")
_trouble = logging.getLogger("stepwire.server")

_TELL_EVERY_SECONDS: Final = 60.0
"""How often the log repeats that the file of the audit log cannot be written."""
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
_ANSWERS: Final[dict[str, Any]] = {
    TRIGGER: schedule_service_pb2.TriggerScheduleResponse,
    START: run_service_pb2.StartRunResponse,
    RETRY: run_service_pb2.RetryRunResponse,
}
"""The answers that name the run: those of methods that make one. A replica that passes a call on has their bytes."""

_NO_LIMITS: Final = Limits()

Fields = dict[str, Any]


class Recorded(Protocol):
    """What a frame tells the audit log, and an `AuditEntry` takes."""

    def made(self, run_id: str) -> None:
        """Note the run that was made."""

    def about(self, record: RunRecord) -> None:
        """Note the record of the run."""

    async def complete(self) -> None:
        """Look up the record of the run, if there is need."""


class _Unrecorded:
    """Take the place of an entry where nothing is recorded."""

    def made(self, run_id: str) -> None:
        pass

    def about(self, record: RunRecord) -> None:
        pass

    async def complete(self) -> None:
        pass


UNRECORDED: Final = _Unrecorded()


class AuditEntry:
    """One record to be, from the moment that its request is received."""

    __slots__ = ("_audit", "_call", "fields", "method", "unknown")

    def __init__(self, audit: Audit, call: Call, method: str, fields: Fields) -> None:
        self._audit = audit
        self._call = call
        self.method = method
        self.fields = fields
        self.unknown = False
        """Whether it names a run whose record is not at hand, so that the store knows more: `complete` asks it."""

    def about(self, record: RunRecord) -> None:
        """Add what the record of the run tells: its workflow, and whether the event answers a question."""
        self.unknown = False
        self._audit.tell_of(record, self.method, self.fields)

    async def complete(self) -> None:
        """Do as `about` with the record that the store has, if there is need; to be called before anything changes."""
        if self.unknown:
            self.unknown = False
            await self._audit.look_up(self._call, self.method, self.fields)

    def made(self, run_id: str) -> None:
        """Note the run that was made; `run` is the one that was asked for, if that is another one."""
        if run_id != self.fields["run"]:
            self.fields["made" if self.fields["run"] else "run"] = run_id

    def end(self, code: int, refusal: Status | None = None, answer: Any = None) -> None:
        """Write the record.

        Args:
            code: The number of the gRPC status.
            refusal: The status with its details, if the request was refused.
            answer: What the method answered: of one that makes a run, its response.
        """
        fields = self.fields
        if made := _run_of(answer, self.method):
            self.made(made)
        if self._call.relayed:
            fields["child"], self._call.relayed = self._call.relayed, ""
            fields["action"] = "answer"
        fields["result"] = _CODES.get(code, str(code))
        if refusal is not None and (reason := _reason_of(refusal)):
            fields["reason"] = reason
        self._audit.write(fields)


class Audit:
    """Make records of what callers change."""

    def __init__(self, pool: RunPool) -> None:
        self._pool = pool

    def of(self, call: Call, method: str, request: Any, frame: str = "") -> AuditEntry | None:
        """Return the record of a request; None for one that changes nothing.

        Args:
            call: Its call.
            method: The full name of the method that does it.
            request: The request; None if none could be read.
            frame: The kind of frame of a conversation that asks for it.
        """
        action = RULES[method].changes if method in RULES else ""
        if not action or call.hop:  # the replica that passes it on has the record
            return None
        if method == WAIT_FOR_EVENT and (request is None or not request.HasField("waiter_event")):
            return None
        fields: Fields = {"action": action, "method": method.rpartition("/")[2]}
        if frame:
            fields["frame"] = frame
        fields["principal"] = "" if call.caller is ANONYMOUS else call.caller.name
        fields["namespace"] = call.caller.namespace
        fields["address"] = call.address
        fields["via"] = call.via
        fields["request_id"] = getattr(request, "request_id", "")
        fields["run"] = getattr(request, "run_id", "") or call.run_id
        fields["schedule"] = getattr(request, "schedule_id", "")
        fields["workflow"] = getattr(request, "name" if RULES[method].workflow else "workflow", "")
        entry = AuditEntry(self, call, method, fields)
        if request is not None:
            self._tell(method, request, fields)
            if fields["run"] and method != START:
                record = self._pool.records.at_hand(call.caller.key(fields["run"]))
                entry.unknown = record is None
                if record is not None:
                    entry.about(record)
        return entry

    def _tell(self, method: str, request: Any, fields: Fields) -> None:
        """Add what the request says: of an event its type, of a fork where from."""
        if method == START and (source := request.WhichOneof("source")) is not None:
            fields["action"] = "fork"
            origin = getattr(request, source)
            fields["from"] = f"{origin.run_id}@{origin.sequence or 'last'}"
        if "spec" in request.DESCRIPTOR.fields_by_name:
            fields["workflow"] = request.spec.workflow
        if method == RETRY and request.at_sequence:
            fields["from"] = f"{request.run_id}@{request.at_sequence}"
        for name in ("event", "waiter_event"):
            if name in request.DESCRIPTOR.fields_by_name:
                fields["event"] = getattr(request, name).type

    def tell_of(self, record: RunRecord, method: str, fields: Fields) -> None:
        """Add what the record of a run tells."""
        fields["workflow"] = record.workflow
        if method != SEND:
            return
        served = self._pool.registry.get(record.workflow)
        cls = served.names.events().get(fields["event"]) if served is not None else None
        asked = any(question["event_type"] == fields["event"] for question in record.pending.values())
        if asked or (cls is not None and issubclass(cls, HumanResponseEvent)):
            fields["action"] = "answer"

    async def look_up(self, call: Call, method: str, fields: Fields) -> None:
        """Do as `tell_of` with the record that the store has. What a failing store does not tell is left out."""
        with suppress(RunsError):
            record = await self._pool.records.look_up(call.caller.key(fields["run"]))
            if record is not None:
                self.tell_of(record, method, fields)

    def done_to_child(self, event: ChildAuditEvent) -> None:
        """Record what a run has done to a child: on the account of the caller that started the run."""
        code, reason = (0, "") if event.error is None else reason_of(event.error)
        self.write(
            {
                "action": event.action,
                "principal": "" if event.caller.name == ANONYMOUS.name else event.caller.name,
                "namespace": event.caller.namespace,
                "run": event.run_id,
                "workflow": event.workflow,
                "parent": event.parent,
                "result": _CODES[code],
                "reason": reason,
            }
        )

    def done(self, event: ScheduleAuditEvent) -> None:
        """Record what a schedule has done, or the code to a schedule that it declares: nobody has called."""
        code, reason = (0, "") if event.error is None else reason_of(event.error)
        due = "" if event.due is None else _time_text(event.due)
        self.write(
            {
                "action": event.action,
                "principal": "" if event.caller.name == ANONYMOUS.name else event.caller.name,
                "namespace": event.caller.namespace,
                "run": event.run_id,
                "schedule": event.schedule_id,
                "due": due,
                "workflow": event.workflow,
                "result": _CODES[code],
                "reason": reason,
            }
        )

    def refused(self, method: str, caller: Principal, address: str, via: str, refusal: Status) -> None:
        """Record a call that was refused before its request was received; `caller` as far as it is known."""
        call = Call(method, "unary", caller, _NO_LIMITS, None)
        call.address, call.via = address, via
        if (entry := self.of(call, method, None)) is not None:
            entry.end(refusal.code, refusal)

    @contextmanager
    def frame(self, call: Call, method: str, request: Any, kind: str) -> Iterator[Recorded]:
        """Record a frame of a conversation, which is handled inside."""
        entry = self.of(call, method, request, kind)
        if entry is None:
            yield UNRECORDED
            return
        try:
            yield entry
        except BaseException as error:  # a cancelled call may have had its effect: it is recorded, too
            code, entry.fields["reason"] = reason_of(error)
            entry.end(code)
            raise
        entry.end(0)

    def write(self, fields: Fields) -> None:
        """Write a record."""
        told = {name: value for name, value in fields.items() if value != ""}
        run = told.get("run", told.get("made", ""))
        by = told.get("principal", "anonymous")
        of = f" of run {run}" if run else f" {told['schedule']}" if "schedule" in told else ""
        place = f"run {told['parent']}" if "parent" in told else told.get("address", f"schedule {told.get('schedule')}")
        text = f"{told['action']}{of} by {by} from {place}: {told['result']}"
        logger.info("%s", text, extra={"stepwire": told})


def _run_of(answer: Any, method: str) -> str:
    """Return the id of the run that a method has made; empty if it makes none."""
    kind = _ANSWERS.get(method)
    if kind is None or answer is None:
        return ""
    message = kind.FromString(answer) if isinstance(answer, bytes) else answer
    if not isinstance(message, kind):
        return ""
    return str(message.run_id if method == TRIGGER else message.run.run_id)


def _reason_of(status: Status) -> str:
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for detail in status.details if detail.Unpack(info)), "")


def _time_text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


_BEGINNING: Final = b'{"time": "'
"""How each line of an audit log begins."""


class _Lines(logging.Formatter):
    """Write a record as one JSON object a line, its time first."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"time": _time_text(record.created), **getattr(record, "stepwire", {})}).replace(
            "\x7f", "\\u007f"
        )


class _File(WatchedFileHandler):
    """Append to a file of mode 0600; a file that was renamed or removed is made anew, so it can be rotated."""

    def __init__(self, path: Path) -> None:
        self._told = -_TELL_EVERY_SECONDS
        super().__init__(path, encoding="ascii")

    def _open(self) -> Any:
        Path(self.baseFilename).touch(mode=0o600)
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # the file cannot be opened anew
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Log the record that could not be written: it must not be lost."""
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY_SECONDS:
            self._told = now
            _trouble.error("the audit log %s cannot be written; its records go to this log", self.baseFilename)
        _trouble.warning("audit: %s", record.getMessage(), extra={"stepwire": getattr(record, "stepwire", {})})


def check_is_ours(path: Path) -> None:
    """Raise OSError if a file exists and is no audit log: a database would be damaged by the first record."""
    if not path.is_file():
        return  # new, or a pipe or device
    with path.open("rb") as file:
        beginning = file.read(len(_BEGINNING))
    if beginning and beginning != _BEGINNING:
        raise FileExistsError(errno.EEXIST, "it exists and is no audit log", str(path))


def open_audit(setting: str) -> Callable[[], None]:
    """Send the records where the setting says: `log`, or a file; return what closes it.

    Raises:
        OSError: The file cannot be written, or is something else, to which nothing may be appended.
    """
    logger.setLevel(logging.INFO)
    if setting == LOG:
        logger.propagate = True
        return lambda: None
    check_is_ours(Path(setting))
    handler = _File(Path(setting))
    handler.setFormatter(_Lines())
    logger.addHandler(handler)
    logger.propagate = False

    def close() -> None:
        logger.removeHandler(handler)
        logger.propagate = True
        handler.close()

    return close
