"""Read sequence, type and JSON of all entries of a frame as three columns, without a Python object for each entry.

Protobuf merges what a field that is not repeated has several times. Read as a message whose fields are repeated, the
entries of a frame are one message with the values of all entries, parsed at once. It takes 0.4 of the time that the
entries one by one take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from stepwire.v1 import run_service_pb2, types_pb2

__all__ = ["columns"]

_PACKAGE: Final = "stepwire.web"
_KINDS: Final = FieldDescriptorProto.Type


def columns(frame: bytes) -> tuple[Sequence[int], Sequence[bytes], Sequence[bytes]] | None:
    """Return the sequences, types and JSON payloads of a StreamEventsResponse with events, all of the same length.

    Returns:
        None where an entry lacks a type or a payload (see ENTRY_KIND_EXECUTION): its columns do not fit together.
    """
    entries = _FRAME.FromString(frame).events.entries
    sequences, types, payloads = entries.sequence, entries.type, entries.payload.json
    return (sequences, types, payloads) if len(sequences) == len(types) == len(payloads) else None


def _frame_class() -> Any:
    """Make the message, with the numbers of the contract's fields."""
    file = FileDescriptorProto(name="stepwire/web/columns.proto", package=_PACKAGE, syntax="proto3")
    _add(file, "Payloads", types_pb2.Payload, {"json": _KINDS.TYPE_BYTES}, repeated=True)
    kinds = {"sequence": _KINDS.TYPE_INT64, "type": _KINDS.TYPE_BYTES}
    _add(file, "Entries", types_pb2.LogEntry, kinds, repeated=True, inner=("payload", "Payloads"))
    _add(file, "Batch", types_pb2.EventBatch, {}, inner=("entries", "Entries"))
    _add(file, "Frame", run_service_pb2.StreamEventsResponse, {}, inner=("events", "Batch"))
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Frame"))


def _add(
    file: FileDescriptorProto,
    name: str,
    like: type[Message],
    fields: Mapping[str, FieldDescriptorProto.Type.ValueType],
    *,
    repeated: bool = False,
    inner: tuple[str, str] | None = None,
) -> None:
    """Add a message to a file.

    Args:
        file: The file.
        name: The message's name.
        like: The message of the contract whose field numbers it has.
        fields: Its fields that are not messages, and their types.
        repeated: Whether those are repeated.
        inner: Its field that is a message, and that message's name.
    """
    message = file.message_type.add(name=name)
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    for field, kind in fields.items():
        message.field.add(name=field, number=like.DESCRIPTOR.fields_by_name[field].number, type=kind, label=label)
    if inner is not None:
        field, kind_name = inner
        message.field.add(
            name=field,
            number=like.DESCRIPTOR.fields_by_name[field].number,
            type=_KINDS.TYPE_MESSAGE,
            type_name=f".{_PACKAGE}.{kind_name}",
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )


_FRAME: Final = _frame_class()
