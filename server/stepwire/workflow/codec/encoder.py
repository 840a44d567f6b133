"""The tagged JSON of snapshots: what goes in comes back equal, or is refused by key path (S21).

None, bool, int, float, str, lists and dicts with string keys are themselves. Everything else is an
object with a single key that begins with ``$``; a dict that looks like one is written as ``$dict``:

======================================  =======================================================
``{"$tuple" | "$set" | "$frozenset"}``  list of items; sets in the order of their JSON text
``{"$deque"}``                          ``[items, maxlen]``
``{"$bytes" | "$bytearray"}``           base64
``{"$datetime" | "$time"}``             ISO 8601, or ``[naive ISO, zone, fold]``
``{"$date"}``                           ISO 8601
``{"$timedelta"}``                      ``[days, seconds, microseconds]``
``{"$decimal" | "$uuid"}``              text
``{"$enum"}``                           ``[type name, member name]``
``{"$flag"}``                           ``[type name, int]``, for combined flags
``{"$dict"}``                           ``[[key, value], …]``
``{"$model"}``                          ``[type name, fields]`` or ``[type name, fields, rest]``
``{"$dataclass"}``                      ``[type name, attributes]``
``{"$namedtuple"}``                     ``[type name, items]``
``{"$component"}``                      ``[type name, its to_dict()]``, in process only
``{"$float"}``                          ``nan``, ``inf`` or ``-inf``, in data of a library's event only
``{"$opaque"}``                         ``[type name, text]``: of a library, in place of a value that has no tag
``{"$json"}``                           a model's field as its class writes and reads it
======================================  =======================================================

The ``rest`` of a model: ``extra`` (undeclared fields, such as the dynamic ones of an Event),
``private`` (private attributes), ``set`` (the names set explicitly, when not all are).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_json

from stepwire.workflow.codec.limits import MAX_INT_DIGITS
from stepwire.workflow.codec.names import Names
from stepwire.workflow.codec.refused import Refused, type_name
from stepwire.workflow.codec.tagging import refuse_unwritable, tagged, to_text
from stepwire.workflow.errors import SerializationError
from stepwire.workflow.jsonable import is_text

__all__ = ["OwnJson", "encode", "encode_keys", "to_tagged"]

_TRIES: Final = 5
"""How often to walk a value again that a sync step, in its thread, changes meanwhile."""


OwnJson = Callable[[Collection[str]], Mapping[str, Any]]
"""Return what a state's class writes in JSON for some of its fields; fields that it does not read back are left out."""


def encode(value: Any, names: Names) -> bytes:
    """Return `value` as tagged JSON in UTF-8.

    Raises:
        SerializationError: A part of the value cannot be saved; the error names its path.
    """
    try:
        return _encode(value, names)
    except Refused as refused:
        where = refused.path or "the value"
        if refused.path and isinstance(value, BaseModel):
            where = f"{refused.path} of {type(value).__name__}"
        raise SerializationError(
            f"cannot save {where}: {refused.reason}",
            keys=(refused.path,) if refused.path else (),
        ) from None


def encode_keys(mapping: Mapping[str, Any], names: Names, own: OwnJson | None = None) -> dict[str, bytes]:
    """Return each top-level value of a state as tagged JSON.

    Args:
        mapping: The values by key.
        names: Names the types of the values.
        own: Writes fields that have no tag, if the state has a class of its own.

    Raises:
        SerializationError: Some values cannot be saved; the error names every such key.
    """
    encoded: dict[str, bytes] = {}
    refusals: dict[str, Refused] = {}
    for key, value in mapping.items():
        try:
            if type(key) is not str:
                raise Refused(f"a top-level key of type {type_name(type(key))}")
            if not is_text(key):
                raise Refused("a key that is not valid Unicode")
            encoded[key] = _encode(value, names)
        except Refused as refused:
            refusals[key] = refused
    if not refusals:
        return encoded
    for key, data in own(refusals.keys()).items() if own is not None else ():
        encoded[key] = b'{"$json":%b}' % encode(data, names)
        del refusals[key]
    if refusals:
        failures = [(refused.at(key).path, refused.reason) for key, refused in refusals.items()]
        told = "; ".join(f"{path}: {reason}" for path, reason in failures)
        raise SerializationError(f"cannot save {told}", keys=tuple(path for path, _ in failures))
    return encoded


def to_tagged(value: Any, names: Names) -> Any:
    """Return `value` as what `json` can write; contract as `encode`."""
    # Through the text: only writing it finds every text that UTF-8 cannot hold.
    return json.loads(encode(value, names))


_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % MAX_INT_DIGITS)
"""Digits that Python may refuse to read; text can look like it, so only the slow writer decides."""


def _encode(value: Any, names: Names) -> bytes:
    for _ in range(_TRIES):
        try:
            tree = tagged(value, names)
            data = _fast_json(tree)
            return to_text(tree).encode() if data is None else data
        except RecursionError:
            raise Refused("nested too deep") from None
        except ValueError:  # text that UTF-8, or an integer that json, cannot write: find out where
            refuse_unwritable(value, names)
            raise Refused("a value that JSON cannot hold") from None
        except RuntimeError:  # a sync step, in its thread, changed the size of what is walked
            continue
    raise Refused("it changes while it is saved")


def _fast_json(tagged: Any) -> bytes | None:
    """Return JSON by pydantic's writer; None for what only the standard one can judge."""
    try:
        data = to_json(tagged)
    except ValueError:  # deeper than this writer goes, or not to be written at all
        return None
    return data if len(data) < MAX_INT_DIGITS or _LONG_NUMBER.search(data) is None else None
