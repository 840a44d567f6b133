from stepwire.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStateRequest(_message.Message):
    __slots__ = ("run_id", "path", "encoding")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    path: str
    encoding: _types_pb2.PayloadEncoding
    def __init__(self, run_id: _Optional[str] = ..., path: _Optional[str] = ..., encoding: _Optional[_Union[_types_pb2.PayloadEncoding, str]] = ...) -> None: ...

class GetStateResponse(_message.Message):
    __slots__ = ("value", "etag")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    value: _types_pb2.Payload
    etag: str
    def __init__(self, value: _Optional[_Union[_types_pb2.Payload, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class PathValue(_message.Message):
    __slots__ = ("path", "value")
    PATH_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    path: str
    value: _types_pb2.Payload
    def __init__(self, path: _Optional[str] = ..., value: _Optional[_Union[_types_pb2.Payload, _Mapping]] = ...) -> None: ...

class SetStateRequest(_message.Message):
    __slots__ = ("run_id", "values", "etag", "request_id")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    values: _containers.RepeatedCompositeFieldContainer[PathValue]
    etag: str
    request_id: str
    def __init__(self, run_id: _Optional[str] = ..., values: _Optional[_Iterable[_Union[PathValue, _Mapping]]] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class SetStateResponse(_message.Message):
    __slots__ = ("etag",)
    ETAG_FIELD_NUMBER: _ClassVar[int]
    etag: str
    def __init__(self, etag: _Optional[str] = ...) -> None: ...

class UnsetStateRequest(_message.Message):
    __slots__ = ("run_id", "paths", "etag", "request_id")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    etag: str
    request_id: str
    def __init__(self, run_id: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class UnsetStateResponse(_message.Message):
    __slots__ = ("etag",)
    ETAG_FIELD_NUMBER: _ClassVar[int]
    etag: str
    def __init__(self, etag: _Optional[str] = ...) -> None: ...

class ReplaceStateRequest(_message.Message):
    __slots__ = ("run_id", "value", "etag", "request_id")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    value: _types_pb2.Payload
    etag: str
    request_id: str
    def __init__(self, run_id: _Optional[str] = ..., value: _Optional[_Union[_types_pb2.Payload, _Mapping]] = ..., etag: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class ReplaceStateResponse(_message.Message):
    __slots__ = ("etag",)
    ETAG_FIELD_NUMBER: _ClassVar[int]
    etag: str
    def __init__(self, etag: _Optional[str] = ...) -> None: ...
