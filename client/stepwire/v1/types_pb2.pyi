import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PayloadEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PAYLOAD_ENCODING_UNSPECIFIED: _ClassVar[PayloadEncoding]
    PAYLOAD_ENCODING_VALUE: _ClassVar[PayloadEncoding]
    PAYLOAD_ENCODING_JSON: _ClassVar[PayloadEncoding]

class EventRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_ROLE_UNSPECIFIED: _ClassVar[EventRole]
    EVENT_ROLE_START: _ClassVar[EventRole]
    EVENT_ROLE_STOP: _ClassVar[EventRole]
    EVENT_ROLE_INPUT_REQUIRED: _ClassVar[EventRole]
    EVENT_ROLE_HUMAN_RESPONSE: _ClassVar[EventRole]

class EntryKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_KIND_UNSPECIFIED: _ClassVar[EntryKind]
    ENTRY_KIND_STREAM: _ClassVar[EntryKind]
    ENTRY_KIND_RECEIVED: _ClassVar[EntryKind]
    ENTRY_KIND_SENT: _ClassVar[EntryKind]
    ENTRY_KIND_TERMINAL: _ClassVar[EntryKind]
    ENTRY_KIND_EXECUTION: _ClassVar[EntryKind]
    ENTRY_KIND_CHILD: _ClassVar[EntryKind]

class ExecutionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXECUTION_STATUS_UNSPECIFIED: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_STARTED: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_FINISHED: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_FAILED: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_TIMED_OUT: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_CANCELLED: _ClassVar[ExecutionStatus]
    EXECUTION_STATUS_LOST: _ClassVar[ExecutionStatus]

class RunStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_STATUS_UNSPECIFIED: _ClassVar[RunStatus]
    RUN_STATUS_QUEUED: _ClassVar[RunStatus]
    RUN_STATUS_RUNNING: _ClassVar[RunStatus]
    RUN_STATUS_WAITING: _ClassVar[RunStatus]
    RUN_STATUS_BLOCKED: _ClassVar[RunStatus]
    RUN_STATUS_COMPLETED: _ClassVar[RunStatus]
    RUN_STATUS_FAILED: _ClassVar[RunStatus]
    RUN_STATUS_CANCELLED: _ClassVar[RunStatus]
    RUN_STATUS_TIMED_OUT: _ClassVar[RunStatus]
    RUN_STATUS_PAUSED: _ClassVar[RunStatus]

class DeliveryStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DELIVERY_STATUS_UNSPECIFIED: _ClassVar[DeliveryStatus]
    DELIVERY_STATUS_QUEUED: _ClassVar[DeliveryStatus]
    DELIVERY_STATUS_RUNNING: _ClassVar[DeliveryStatus]
    DELIVERY_STATUS_PARKED: _ClassVar[DeliveryStatus]
    DELIVERY_STATUS_BACKING_OFF: _ClassVar[DeliveryStatus]
PAYLOAD_ENCODING_UNSPECIFIED: PayloadEncoding
PAYLOAD_ENCODING_VALUE: PayloadEncoding
PAYLOAD_ENCODING_JSON: PayloadEncoding
EVENT_ROLE_UNSPECIFIED: EventRole
EVENT_ROLE_START: EventRole
EVENT_ROLE_STOP: EventRole
EVENT_ROLE_INPUT_REQUIRED: EventRole
EVENT_ROLE_HUMAN_RESPONSE: EventRole
ENTRY_KIND_UNSPECIFIED: EntryKind
ENTRY_KIND_STREAM: EntryKind
ENTRY_KIND_RECEIVED: EntryKind
ENTRY_KIND_SENT: EntryKind
ENTRY_KIND_TERMINAL: EntryKind
ENTRY_KIND_EXECUTION: EntryKind
ENTRY_KIND_CHILD: EntryKind
EXECUTION_STATUS_UNSPECIFIED: ExecutionStatus
EXECUTION_STATUS_STARTED: ExecutionStatus
EXECUTION_STATUS_FINISHED: ExecutionStatus
EXECUTION_STATUS_FAILED: ExecutionStatus
EXECUTION_STATUS_TIMED_OUT: ExecutionStatus
EXECUTION_STATUS_CANCELLED: ExecutionStatus
EXECUTION_STATUS_LOST: ExecutionStatus
RUN_STATUS_UNSPECIFIED: RunStatus
RUN_STATUS_QUEUED: RunStatus
RUN_STATUS_RUNNING: RunStatus
RUN_STATUS_WAITING: RunStatus
RUN_STATUS_BLOCKED: RunStatus
RUN_STATUS_COMPLETED: RunStatus
RUN_STATUS_FAILED: RunStatus
RUN_STATUS_CANCELLED: RunStatus
RUN_STATUS_TIMED_OUT: RunStatus
RUN_STATUS_PAUSED: RunStatus
DELIVERY_STATUS_UNSPECIFIED: DeliveryStatus
DELIVERY_STATUS_QUEUED: DeliveryStatus
DELIVERY_STATUS_RUNNING: DeliveryStatus
DELIVERY_STATUS_PARKED: DeliveryStatus
DELIVERY_STATUS_BACKING_OFF: DeliveryStatus

class Payload(_message.Message):
    __slots__ = ("value", "json")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    value: _struct_pb2.Value
    json: bytes
    def __init__(self, value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., json: _Optional[bytes] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("type", "payload")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    type: str
    payload: Payload
    def __init__(self, type: _Optional[str] = ..., payload: _Optional[_Union[Payload, _Mapping]] = ...) -> None: ...

class Execution(_message.Message):
    __slots__ = ("delivery_id", "status", "attempt", "caused_by", "duration", "error", "next_attempt_at")
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CAUSED_BY_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_AT_FIELD_NUMBER: _ClassVar[int]
    delivery_id: int
    status: ExecutionStatus
    attempt: int
    caused_by: int
    duration: _duration_pb2.Duration
    error: Failure
    next_attempt_at: _timestamp_pb2.Timestamp
    def __init__(self, delivery_id: _Optional[int] = ..., status: _Optional[_Union[ExecutionStatus, str]] = ..., attempt: _Optional[int] = ..., caused_by: _Optional[int] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., error: _Optional[_Union[Failure, _Mapping]] = ..., next_attempt_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ChildEvent(_message.Message):
    __slots__ = ("run_id", "workflow", "status")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    workflow: str
    status: RunStatus
    def __init__(self, run_id: _Optional[str] = ..., workflow: _Optional[str] = ..., status: _Optional[_Union[RunStatus, str]] = ...) -> None: ...

class LogEntry(_message.Message):
    __slots__ = ("sequence", "time", "kind", "type", "payload", "step", "delivered", "role", "execution", "delivery_id", "child")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    CHILD_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    kind: EntryKind
    type: str
    payload: Payload
    step: str
    delivered: int
    role: EventRole
    execution: Execution
    delivery_id: int
    child: ChildEvent
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[_Union[EntryKind, str]] = ..., type: _Optional[str] = ..., payload: _Optional[_Union[Payload, _Mapping]] = ..., step: _Optional[str] = ..., delivered: _Optional[int] = ..., role: _Optional[_Union[EventRole, str]] = ..., execution: _Optional[_Union[Execution, _Mapping]] = ..., delivery_id: _Optional[int] = ..., child: _Optional[_Union[ChildEvent, _Mapping]] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("from_sequence", "to_sequence", "entries")
    FROM_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TO_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    from_sequence: int
    to_sequence: int
    entries: _containers.RepeatedCompositeFieldContainer[LogEntry]
    def __init__(self, from_sequence: _Optional[int] = ..., to_sequence: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[LogEntry, _Mapping]]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("step", "error_type", "message", "attempts", "reference_id", "traceback")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ERROR_TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    step: str
    error_type: str
    message: str
    attempts: int
    reference_id: str
    traceback: str
    def __init__(self, step: _Optional[str] = ..., error_type: _Optional[str] = ..., message: _Optional[str] = ..., attempts: _Optional[int] = ..., reference_id: _Optional[str] = ..., traceback: _Optional[str] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("status", "event_type", "result", "failure", "reason")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    status: RunStatus
    event_type: str
    result: Payload
    failure: Failure
    reason: str
    def __init__(self, status: _Optional[_Union[RunStatus, str]] = ..., event_type: _Optional[str] = ..., result: _Optional[_Union[Payload, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class PendingWaiter(_message.Message):
    __slots__ = ("waiter_id", "event_type", "requirements", "prompt", "deadline", "step", "run_id")
    WAITER_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    waiter_id: str
    event_type: str
    requirements: Payload
    prompt: Event
    deadline: _timestamp_pb2.Timestamp
    step: str
    run_id: str
    def __init__(self, waiter_id: _Optional[str] = ..., event_type: _Optional[str] = ..., requirements: _Optional[_Union[Payload, _Mapping]] = ..., prompt: _Optional[_Union[Event, _Mapping]] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., step: _Optional[str] = ..., run_id: _Optional[str] = ...) -> None: ...

class ActiveDelivery(_message.Message):
    __slots__ = ("delivery_id", "step", "status", "attempt", "since", "last_error", "next_attempt_at", "event_type", "caused_by", "run_id")
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_AT_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    CAUSED_BY_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    delivery_id: int
    step: str
    status: DeliveryStatus
    attempt: int
    since: _timestamp_pb2.Timestamp
    last_error: Failure
    next_attempt_at: _timestamp_pb2.Timestamp
    event_type: str
    caused_by: int
    run_id: str
    def __init__(self, delivery_id: _Optional[int] = ..., step: _Optional[str] = ..., status: _Optional[_Union[DeliveryStatus, str]] = ..., attempt: _Optional[int] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_error: _Optional[_Union[Failure, _Mapping]] = ..., next_attempt_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., event_type: _Optional[str] = ..., caused_by: _Optional[int] = ..., run_id: _Optional[str] = ...) -> None: ...

class SnapshotRef(_message.Message):
    __slots__ = ("run_id", "sequence")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    sequence: int
    def __init__(self, run_id: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class Pause(_message.Message):
    __slots__ = ("time", "by", "reason", "workflow")
    TIME_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    by: str
    reason: str
    workflow: bool
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ..., workflow: bool = ...) -> None: ...

class RunParent(_message.Message):
    __slots__ = ("run_id", "step", "delivery_id", "depth", "abandoned")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    ABANDONED_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    step: str
    delivery_id: int
    depth: int
    abandoned: bool
    def __init__(self, run_id: _Optional[str] = ..., step: _Optional[str] = ..., delivery_id: _Optional[int] = ..., depth: _Optional[int] = ..., abandoned: bool = ...) -> None: ...

class ChildSummary(_message.Message):
    __slots__ = ("total", "unfinished", "queued", "completed", "failed", "cancelled", "timed_out")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNFINISHED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    total: int
    unfinished: int
    queued: int
    completed: int
    failed: int
    cancelled: int
    timed_out: int
    def __init__(self, total: _Optional[int] = ..., unfinished: _Optional[int] = ..., queued: _Optional[int] = ..., completed: _Optional[int] = ..., failed: _Optional[int] = ..., cancelled: _Optional[int] = ..., timed_out: _Optional[int] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("run_id", "workflow", "workflow_version", "status", "labels", "created_at", "updated_at", "ended_at", "last_sequence", "first_available", "pending_waiters", "outcome", "forked_from", "blocked_reason", "timeout_at", "partial", "started_by", "retried_from", "retried_as", "active_deliveries", "pause", "parent", "children", "schedule", "blocked_children")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    PENDING_WAITERS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FORKED_FROM_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_REASON_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_AT_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    STARTED_BY_FIELD_NUMBER: _ClassVar[int]
    RETRIED_FROM_FIELD_NUMBER: _ClassVar[int]
    RETRIED_AS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_CHILDREN_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    workflow: str
    workflow_version: str
    status: RunStatus
    labels: _containers.ScalarMap[str, str]
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    ended_at: _timestamp_pb2.Timestamp
    last_sequence: int
    first_available: int
    pending_waiters: _containers.RepeatedCompositeFieldContainer[PendingWaiter]
    outcome: Outcome
    forked_from: SnapshotRef
    blocked_reason: str
    timeout_at: _timestamp_pb2.Timestamp
    partial: bool
    started_by: str
    retried_from: SnapshotRef
    retried_as: _containers.RepeatedScalarFieldContainer[str]
    active_deliveries: _containers.RepeatedCompositeFieldContainer[ActiveDelivery]
    pause: Pause
    parent: RunParent
    children: ChildSummary
    schedule: ScheduleOrigin
    blocked_children: _containers.RepeatedCompositeFieldContainer[BlockedRun]
    def __init__(self, run_id: _Optional[str] = ..., workflow: _Optional[str] = ..., workflow_version: _Optional[str] = ..., status: _Optional[_Union[RunStatus, str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_sequence: _Optional[int] = ..., first_available: _Optional[int] = ..., pending_waiters: _Optional[_Iterable[_Union[PendingWaiter, _Mapping]]] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ..., forked_from: _Optional[_Union[SnapshotRef, _Mapping]] = ..., blocked_reason: _Optional[str] = ..., timeout_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., partial: bool = ..., started_by: _Optional[str] = ..., retried_from: _Optional[_Union[SnapshotRef, _Mapping]] = ..., retried_as: _Optional[_Iterable[str]] = ..., active_deliveries: _Optional[_Iterable[_Union[ActiveDelivery, _Mapping]]] = ..., pause: _Optional[_Union[Pause, _Mapping]] = ..., parent: _Optional[_Union[RunParent, _Mapping]] = ..., children: _Optional[_Union[ChildSummary, _Mapping]] = ..., schedule: _Optional[_Union[ScheduleOrigin, _Mapping]] = ..., blocked_children: _Optional[_Iterable[_Union[BlockedRun, _Mapping]]] = ...) -> None: ...

class BlockedRun(_message.Message):
    __slots__ = ("run_id", "workflow", "reason")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    workflow: str
    reason: str
    def __init__(self, run_id: _Optional[str] = ..., workflow: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ScheduleOrigin(_message.Message):
    __slots__ = ("schedule_id", "due_time", "manual")
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    DUE_TIME_FIELD_NUMBER: _ClassVar[int]
    MANUAL_FIELD_NUMBER: _ClassVar[int]
    schedule_id: str
    due_time: _timestamp_pb2.Timestamp
    manual: bool
    def __init__(self, schedule_id: _Optional[str] = ..., due_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., manual: bool = ...) -> None: ...

class ContextSnapshot(_message.Message):
    __slots__ = ("format_version", "workflow", "workflow_version", "run_id", "sequence", "created_at", "status", "state_type", "state_json", "queued", "in_progress", "buffers", "waiters", "head_json", "signature", "key_id", "children")
    class StateJsonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_VERSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STATE_TYPE_FIELD_NUMBER: _ClassVar[int]
    STATE_JSON_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    IN_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    BUFFERS_FIELD_NUMBER: _ClassVar[int]
    WAITERS_FIELD_NUMBER: _ClassVar[int]
    HEAD_JSON_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    CHILDREN_FIELD_NUMBER: _ClassVar[int]
    format_version: int
    workflow: str
    workflow_version: str
    run_id: str
    sequence: int
    created_at: _timestamp_pb2.Timestamp
    status: RunStatus
    state_type: str
    state_json: _containers.ScalarMap[str, bytes]
    queued: _containers.RepeatedCompositeFieldContainer[DeliverySnapshot]
    in_progress: _containers.RepeatedCompositeFieldContainer[DeliverySnapshot]
    buffers: _containers.RepeatedCompositeFieldContainer[BufferSnapshot]
    waiters: _containers.RepeatedCompositeFieldContainer[WaiterSnapshot]
    head_json: bytes
    signature: bytes
    key_id: str
    children: _containers.RepeatedCompositeFieldContainer[ChildSnapshot]
    def __init__(self, format_version: _Optional[int] = ..., workflow: _Optional[str] = ..., workflow_version: _Optional[str] = ..., run_id: _Optional[str] = ..., sequence: _Optional[int] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., status: _Optional[_Union[RunStatus, str]] = ..., state_type: _Optional[str] = ..., state_json: _Optional[_Mapping[str, bytes]] = ..., queued: _Optional[_Iterable[_Union[DeliverySnapshot, _Mapping]]] = ..., in_progress: _Optional[_Iterable[_Union[DeliverySnapshot, _Mapping]]] = ..., buffers: _Optional[_Iterable[_Union[BufferSnapshot, _Mapping]]] = ..., waiters: _Optional[_Iterable[_Union[WaiterSnapshot, _Mapping]]] = ..., head_json: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., key_id: _Optional[str] = ..., children: _Optional[_Iterable[_Union[ChildSnapshot, _Mapping]]] = ...) -> None: ...

class ChildSnapshot(_message.Message):
    __slots__ = ("number", "data_json")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    number: int
    data_json: bytes
    def __init__(self, number: _Optional[int] = ..., data_json: _Optional[bytes] = ...) -> None: ...

class DeliverySnapshot(_message.Message):
    __slots__ = ("delivery_id", "step", "event_type", "data_json", "ledger_json", "effects", "attempt")
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    LEDGER_JSON_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    delivery_id: int
    step: str
    event_type: str
    data_json: bytes
    ledger_json: bytes
    effects: bytes
    attempt: int
    def __init__(self, delivery_id: _Optional[int] = ..., step: _Optional[str] = ..., event_type: _Optional[str] = ..., data_json: _Optional[bytes] = ..., ledger_json: _Optional[bytes] = ..., effects: _Optional[bytes] = ..., attempt: _Optional[int] = ...) -> None: ...

class BufferSnapshot(_message.Message):
    __slots__ = ("buffer_id", "events_json")
    BUFFER_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    buffer_id: str
    events_json: bytes
    def __init__(self, buffer_id: _Optional[str] = ..., events_json: _Optional[bytes] = ...) -> None: ...

class WaiterSnapshot(_message.Message):
    __slots__ = ("number", "data_json")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DATA_JSON_FIELD_NUMBER: _ClassVar[int]
    number: int
    data_json: bytes
    def __init__(self, number: _Optional[int] = ..., data_json: _Optional[bytes] = ...) -> None: ...
