"""The types of settings: how each is written, checked, and named in the help of the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from stepwire.server.store import LONG_LOG

__all__ = ["Address", "Count", "Depth", "Directory", "Entries", "File", "Metavar", "Quota", "Seconds", "Size"]

_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SPANS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE: Final = re.compile(r"(\d+)(B|KiB|MiB|GiB)?")
_SIZES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


@dataclass(frozen=True)
class Metavar:
    """The placeholder of a setting's value in the help of the command line."""

    text: str


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("is not a number")
    return value


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _SPAN.fullmatch(value.strip())
    if match is None:
        raise ValueError("is not a time span: write 30, 500ms, 30s, 5m, 2h or 1d")
    return float(match[1]) * _SPANS[match[2] or "s"]


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("is not a size: write 65536, 512KiB, 16MiB or 1GiB")
    return int(match[1]) * _SIZES[match[2] or "B"]


Number = BeforeValidator(_number)
Seconds = Annotated[float, Number, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False), Metavar("TIME")]
Size = Annotated[int, Number, BeforeValidator(_bytes), Field(gt=0), Metavar("SIZE")]
Count = Annotated[int, Number, Field(gt=0), Metavar("NUMBER")]
Depth = Annotated[int, Number, Field(ge=1, le=100), Metavar("NUMBER")]
Entries = Annotated[int, Number, Field(ge=LONG_LOG), Metavar("NUMBER")]
Quota = Annotated[int, Number, Field(ge=0), Metavar("NUMBER")]
Address = Annotated[str, Metavar("HOST:PORT")]
Directory = Annotated[str, Metavar("DIR")]
File = Annotated[Path, Metavar("FILE")]
