import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from stepwire.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunIdConflictPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_ID_CONFLICT_POLICY_UNSPECIFIED: _ClassVar[RunIdConflictPolicy]
    RUN_ID_CONFLICT_POLICY_FAIL: _ClassVar[RunIdConflictPolicy]
    RUN_ID_CONFLICT_POLICY_USE_EXISTING: _ClassVar[RunIdConflictPolicy]

class RunView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_VIEW_UNSPECIFIED: _ClassVar[RunView]
    RUN_VIEW_BASIC: _ClassVar[RunView]
    RUN_VIEW_FULL: _ClassVar[RunView]
RUN_ID_CONFLICT_POLICY_UNSPECIFIED: RunIdConflictPolicy
RUN_ID_CONFLICT_POLICY_FAIL: RunIdConflictPolicy
RUN_ID_CONFLICT_POLICY_USE_EXISTING: RunIdConflictPolicy
RUN_VIEW_UNSPECIFIED: RunView
RUN_VIEW_BASIC: RunView
RUN_VIEW_FULL: RunView

class StartRunRequest(_message.Message):
    __slots__ = ("workflow", "input", "run_id", "run_id_conflict_policy", "request_id", "labels", "snapshot", "timeout", "encoding", "wait", "fresh_budgets")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_CONFLICT_POLICY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    FROM_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    FRESH_BUDGETS_FIELD_NUMBER: _ClassVar[int]
    workflow: str
    input: _types_pb2.Payload
    run_id: str
    run_id_conflict_policy: RunIdConflictPolicy
    request_id: str
    labels: _containers.ScalarMap[str, str]
    snapshot: _types_pb2.ContextSnapshot
    timeout: _duration_pb2.Duration
    encoding: _types_pb2.PayloadEncoding
    wait: _duration_pb2.Duration
    fresh_budgets: bool
    def __init__(self, workflow: _Optional[str] = ..., input: _Optional[_Union[_types_pb2.Payload, _Mapping]] = ..., run_id: _Optional[str] = ..., run_id_conflict_policy: _Optional[_Union[RunIdConflictPolicy, str]] = ..., request_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., snapshot: _Optional[_Union[_types_pb2.ContextSnapshot, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., fresh_budgets: bool = ..., **kwargs) -> None: ...

class StartRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _types_pb2.Run
    def __init__(self, run: _Optional[_Union[_types_pb2.Run, _Mapping]] = ...) -> None: ...

class GetRunRequest(_message.Message):
    __slots__ = ("run_id", "encoding")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    encoding: _types_pb2.PayloadEncoding
    def __init__(self, run_id: _Optional[str] = ..., encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ...) -> None: ...

class GetRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _types_pb2.Run
    def __init__(self, run: _Optional[_Union[_types_pb2.Run, _Mapping]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "workflow", "statuses", "labels", "created_after", "created_before", "encoding", "view", "error_type", "step", "waiting_for", "parent_run_id", "started_by", "run_id_prefix", "ended_after", "ended_before", "schedule_id")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AFTER_FIELD_NUMBER: _ClassVar[int]
    CREATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    ERROR_TYPE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    PARENT_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_BY_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_PREFIX_FIELD_NUMBER: _ClassVar[int]
    ENDED_AFTER_FIELD_NUMBER: _ClassVar[int]
    ENDED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    workflow: str
    statuses: _containers.RepeatedScalarFieldContainer[_types_pb2.RunStatus]
    labels: _containers.ScalarMap[str, str]
    created_after: _timestamp_pb2.Timestamp
    created_before: _timestamp_pb2.Timestamp
    encoding: _types_pb2.PayloadEncoding
    view: RunView
    error_type: str
    step: str
    waiting_for: str
    parent_run_id: str
    started_by: str
    run_id_prefix: str
    ended_after: _timestamp_pb2.Timestamp
    ended_before: _timestamp_pb2.Timestamp
    schedule_id: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., workflow: _Optional[str] = ..., statuses: _Optional[_Iterable[_Union[_types_pb2.RunStatus, str]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., created_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ..., view: _Optional[_Union[RunView, str]] = ..., error_type: _Optional[str] = ..., step: _Optional[str] = ..., waiting_for: _Optional[str] = ..., parent_run_id: _Optional[str] = ..., started_by: _Optional[str] = ..., run_id_prefix: _Optional[str] = ..., ended_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., schedule_id: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs", "next_page_token")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[_types_pb2.Run]
    next_page_token: str
    def __init__(self, runs: _Optional[_Iterable[_Union[_types_pb2.Run, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WaitRunRequest(_message.Message):
    __slots__ = ("run_id", "timeout", "encoding")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    timeout: _duration_pb2.Duration
    encoding: _types_pb2.PayloadEncoding
    def __init__(self, run_id: _Optional[str] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ...) -> None: ...

class WaitRunResponse(_message.Message):
    __slots__ = ("run", "timed_out")
    RUN_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    run: _types_pb2.Run
    timed_out: bool
    def __init__(self, run: _Optional[_Union[_types_pb2.Run, _Mapping]] = ..., timed_out: bool = ...) -> None: ...

class CancelRunRequest(_message.Message):
    __slots__ = ("run_id", "reason", "encoding")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    reason: str
    encoding: _types_pb2.PayloadEncoding
    def __init__(self, run_id: _Optional[str] = ..., reason: _Optional[str] = ..., encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ...) -> None: ...

class CancelRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _types_pb2.Run
    def __init__(self, run: _Optional[_Union[_types_pb2.Run, _Mapping]] = ...) -> None: ...

class ReloadRunRequest(_message.Message):
    __slots__ = ("run_id", "encoding")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    encoding: _types_pb2.PayloadEncoding
    def __init__(self, run_id: _Optional[str] = ..., encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ...) -> None: ...

class ReloadRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _types_pb2.Run
    def __init__(self, run: _Optional[_Union[_types_pb2.Run, _Mapping]] = ...) -> None: ...

class DeleteRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class DeleteRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RetryRunRequest(_message.Message):
    __slots__ = ("run_id", "at_sequence", "request_id", "labels", "encoding")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    AT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    at_sequence: int
    request_id: str
    labels: _containers.ScalarMap[str, str]
    encoding: _types_pb2.PayloadEncoding
    def __init__(self, run_id: _Optional[str] = ..., at_sequence: _Optional[int] = ..., request_id: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ...) -> None: ...

class RetryRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _types_pb2.Run
    def __init__(self, run: _Optional[_Union[_types_pb2.Run, _Mapping]] = ...) -> None: ...

class PauseRunRequest(_message.Message):
    __slots__ = ("run_id", "reason", "encoding")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    reason: str
    encoding: _types_pb2.PayloadEncoding
    def __init__(self, run_id: _Optional[str] = ..., reason: _Optional[str] = ..., encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ...) -> None: ...

class PauseRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _types_pb2.Run
    def __init__(self, run: _Optional[_Union[_types_pb2.Run, _Mapping]] = ...) -> None: ...

class ResumeRunRequest(_message.Message):
    __slots__ = ("run_id", "encoding")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    encoding: _types_pb2.PayloadEncoding
    def __init__(self, run_id: _Optional[str] = ..., encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ...) -> None: ...

class ResumeRunResponse(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: _types_pb2.Run
    def __init__(self, run: _Optional[_Union[_types_pb2.Run, _Mapping]] = ...) -> None: ...

class RunFilter(_message.Message):
    __slots__ = ("workflow", "statuses", "labels", "created_after", "created_before", "error_type", "step", "waiting_for", "parent_run_id", "started_by", "run_id_prefix", "ended_after", "ended_before", "schedule_id")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AFTER_FIELD_NUMBER: _ClassVar[int]
    CREATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    ERROR_TYPE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    PARENT_RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STARTED_BY_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_PREFIX_FIELD_NUMBER: _ClassVar[int]
    ENDED_AFTER_FIELD_NUMBER: _ClassVar[int]
    ENDED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_ID_FIELD_NUMBER: _ClassVar[int]
    workflow: str
    statuses: _containers.RepeatedScalarFieldContainer[_types_pb2.RunStatus]
    labels: _containers.ScalarMap[str, str]
    created_after: _timestamp_pb2.Timestamp
    created_before: _timestamp_pb2.Timestamp
    error_type: str
    step: str
    waiting_for: str
    parent_run_id: str
    started_by: str
    run_id_prefix: str
    ended_after: _timestamp_pb2.Timestamp
    ended_before: _timestamp_pb2.Timestamp
    schedule_id: str
    def __init__(self, workflow: _Optional[str] = ..., statuses: _Optional[_Iterable[_Union[_types_pb2.RunStatus, str]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., created_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error_type: _Optional[str] = ..., step: _Optional[str] = ..., waiting_for: _Optional[str] = ..., parent_run_id: _Optional[str] = ..., started_by: _Optional[str] = ..., run_id_prefix: _Optional[str] = ..., ended_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., schedule_id: _Optional[str] = ...) -> None: ...

class ApplyToRunsRequest(_message.Message):
    __slots__ = ("filter", "cancel", "retry", "delete", "pause", "resume", "dry_run", "max_runs", "resume_token")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    DELETE_FIELD_NUMBER: _ClassVar[int]
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    filter: RunFilter
    cancel: CancelRuns
    retry: RetryRuns
    delete: DeleteRuns
    pause: PauseRuns
    resume: ResumeRuns
    dry_run: bool
    max_runs: int
    resume_token: str
    def __init__(self, filter: _Optional[_Union[RunFilter, _Mapping]] = ..., cancel: _Optional[_Union[CancelRuns, _Mapping]] = ..., retry: _Optional[_Union[RetryRuns, _Mapping]] = ..., delete: _Optional[_Union[DeleteRuns, _Mapping]] = ..., pause: _Optional[_Union[PauseRuns, _Mapping]] = ..., resume: _Optional[_Union[ResumeRuns, _Mapping]] = ..., dry_run: bool = ..., max_runs: _Optional[int] = ..., resume_token: _Optional[str] = ...) -> None: ...

class CancelRuns(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class RetryRuns(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteRuns(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PauseRuns(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class ResumeRuns(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ApplyToRunsResponse(_message.Message):
    __slots__ = ("matched", "done", "unchanged", "refused", "refusals", "resume_token", "finished", "more")
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    matched: int
    done: int
    unchanged: int
    refused: int
    refusals: _containers.RepeatedCompositeFieldContainer[RunRefusal]
    resume_token: str
    finished: bool
    more: bool
    def __init__(self, matched: _Optional[int] = ..., done: _Optional[int] = ..., unchanged: _Optional[int] = ..., refused: _Optional[int] = ..., refusals: _Optional[_Iterable[_Union[RunRefusal, _Mapping]]] = ..., resume_token: _Optional[str] = ..., finished: bool = ..., more: bool = ...) -> None: ...

class RunRefusal(_message.Message):
    __slots__ = ("run_id", "error")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    error: _status_pb2.Status
    def __init__(self, run_id: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class SendEventRequest(_message.Message):
    __slots__ = ("run_id", "event", "step", "request_id")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    event: _types_pb2.Event
    step: str
    request_id: str
    def __init__(self, run_id: _Optional[str] = ..., event: _Optional[_Union[_types_pb2.Event, _Mapping]] = ..., step: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class SendEventResponse(_message.Message):
    __slots__ = ("sequence", "delivered")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    delivered: int
    def __init__(self, sequence: _Optional[int] = ..., delivered: _Optional[int] = ...) -> None: ...

class PublishEventRequest(_message.Message):
    __slots__ = ("run_id", "event", "request_id")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    event: _types_pb2.Event
    request_id: str
    def __init__(self, run_id: _Optional[str] = ..., event: _Optional[_Union[_types_pb2.Event, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class PublishEventResponse(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class WaitForEventRequest(_message.Message):
    __slots__ = ("run_id", "event_type", "requirements", "waiter_event", "waiter_id", "after_sequence", "timeout", "encoding")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    WAITER_EVENT_FIELD_NUMBER: _ClassVar[int]
    WAITER_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    event_type: str
    requirements: _types_pb2.Payload
    waiter_event: _types_pb2.Event
    waiter_id: str
    after_sequence: int
    timeout: _duration_pb2.Duration
    encoding: _types_pb2.PayloadEncoding
    def __init__(self, run_id: _Optional[str] = ..., event_type: _Optional[str] = ..., requirements: _Optional[_Union[_types_pb2.Payload, _Mapping]] = ..., waiter_event: _Optional[_Union[_types_pb2.Event, _Mapping]] = ..., waiter_id: _Optional[str] = ..., after_sequence: _Optional[int] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ...) -> None: ...

class WaitForEventResponse(_message.Message):
    __slots__ = ("entry", "timed_out", "run_ended", "sequence")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    RUN_ENDED_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    entry: _types_pb2.LogEntry
    timed_out: bool
    run_ended: bool
    sequence: int
    def __init__(self, entry: _Optional[_Union[_types_pb2.LogEntry, _Mapping]] = ..., timed_out: bool = ..., run_ended: bool = ..., sequence: _Optional[int] = ...) -> None: ...

class StreamOptions(_message.Message):
    __slots__ = ("encoding", "include_internal", "event_types")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_INTERNAL_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    encoding: _types_pb2.PayloadEncoding
    include_internal: bool
    event_types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ..., include_internal: bool = ..., event_types: _Optional[_Iterable[str]] = ...) -> None: ...

class StreamEventsRequest(_message.Message):
    __slots__ = ("run_id", "after_sequence", "options", "no_follow")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    NO_FOLLOW_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    after_sequence: int
    options: StreamOptions
    no_follow: bool
    def __init__(self, run_id: _Optional[str] = ..., after_sequence: _Optional[int] = ..., options: _Optional[_Union[StreamOptions, _Mapping]] = ..., no_follow: bool = ...) -> None: ...

class StreamEventsResponse(_message.Message):
    __slots__ = ("events", "heartbeat", "finished")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    events: _types_pb2.EventBatch
    heartbeat: Heartbeat
    finished: RunFinished
    def __init__(self, events: _Optional[_Union[_types_pb2.EventBatch, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., finished: _Optional[_Union[RunFinished, _Mapping]] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sequence", "interval")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    interval: _duration_pb2.Duration
    def __init__(self, sequence: _Optional[int] = ..., interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RunFinished(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _types_pb2.Outcome
    def __init__(self, outcome: _Optional[_Union[_types_pb2.Outcome, _Mapping]] = ...) -> None: ...

class ConverseRequest(_message.Message):
    __slots__ = ("start", "attach", "send", "ack", "cancel")
    START_FIELD_NUMBER: _ClassVar[int]
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    SEND_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    start: ConverseStart
    attach: ConverseAttach
    send: ConverseSend
    ack: ConverseAck
    cancel: ConverseCancel
    def __init__(self, start: _Optional[_Union[ConverseStart, _Mapping]] = ..., attach: _Optional[_Union[ConverseAttach, _Mapping]] = ..., send: _Optional[_Union[ConverseSend, _Mapping]] = ..., ack: _Optional[_Union[ConverseAck, _Mapping]] = ..., cancel: _Optional[_Union[ConverseCancel, _Mapping]] = ...) -> None: ...

class ConverseStart(_message.Message):
    __slots__ = ("request", "options", "max_unacked")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_UNACKED_FIELD_NUMBER: _ClassVar[int]
    request: StartRunRequest
    options: StreamOptions
    max_unacked: int
    def __init__(self, request: _Optional[_Union[StartRunRequest, _Mapping]] = ..., options: _Optional[_Union[StreamOptions, _Mapping]] = ..., max_unacked: _Optional[int] = ...) -> None: ...

class ConverseAttach(_message.Message):
    __slots__ = ("run_id", "after_sequence", "options", "max_unacked")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_UNACKED_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    after_sequence: int
    options: StreamOptions
    max_unacked: int
    def __init__(self, run_id: _Optional[str] = ..., after_sequence: _Optional[int] = ..., options: _Optional[_Union[StreamOptions, _Mapping]] = ..., max_unacked: _Optional[int] = ...) -> None: ...

class ConverseSend(_message.Message):
    __slots__ = ("request_id", "event", "step")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    event: _types_pb2.Event
    step: str
    def __init__(self, request_id: _Optional[str] = ..., event: _Optional[_Union[_types_pb2.Event, _Mapping]] = ..., step: _Optional[str] = ...) -> None: ...

class ConverseAck(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class ConverseCancel(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class ConverseResponse(_message.Message):
    __slots__ = ("opened", "events", "send_result", "heartbeat", "finished")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    SEND_RESULT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    opened: ConverseOpened
    events: _types_pb2.EventBatch
    send_result: ConverseSendResult
    heartbeat: Heartbeat
    finished: RunFinished
    def __init__(self, opened: _Optional[_Union[ConverseOpened, _Mapping]] = ..., events: _Optional[_Union[_types_pb2.EventBatch, _Mapping]] = ..., send_result: _Optional[_Union[ConverseSendResult, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., finished: _Optional[_Union[RunFinished, _Mapping]] = ...) -> None: ...

class ConverseOpened(_message.Message):
    __slots__ = ("run", "first_available", "next_sequence")
    RUN_FIELD_NUMBER: _ClassVar[int]
    FIRST_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    run: _types_pb2.Run
    first_available: int
    next_sequence: int
    def __init__(self, run: _Optional[_Union[_types_pb2.Run, _Mapping]] = ..., first_available: _Optional[int] = ..., next_sequence: _Optional[int] = ...) -> None: ...

class ConverseSendResult(_message.Message):
    __slots__ = ("request_id", "delivered", "sequence", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    delivered: int
    sequence: int
    error: _status_pb2.Status
    def __init__(self, request_id: _Optional[str] = ..., delivered: _Optional[int] = ..., sequence: _Optional[int] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...
