"""The patterns and variables of the table, as README.md defines them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
_MISSING: Final[Any] = object()


class Mismatch(Exception):
    """A step does not hold; the text says where and why."""


def substitute(value: Any, variables: Mapping[str, Any]) -> Any:
    """Return a value of the table with its variables filled in."""
    if isinstance(value, dict):
        return {key: substitute(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [substitute(item, variables) for item in value]
    if not isinstance(value, str):
        return value
    whole = _VARIABLE.fullmatch(value)
    if whole:
        return _lookup(variables, whole[1])
    return _VARIABLE.sub(lambda found: str(_lookup(variables, found[1])), value)


def _lookup(variables: Mapping[str, Any], name: str) -> Any:
    if name not in variables:
        raise Mismatch(f"there is no variable {name}")
    return variables[name]


def at_path(document: Any, path: str) -> Any:
    """Return what is at a dotted path. Mismatch when nothing is."""
    for part in path.split(".") if path else []:
        if isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        elif isinstance(document, dict) and part in document:
            document = document[part]
        else:
            raise Mismatch(f"nothing is at {path} to save")
    return document


def check(pattern: Any, actual: Any = _MISSING, where: str = "it") -> None:
    """Raise Mismatch, saying where, unless the pattern matches."""
    there = actual is not _MISSING and actual is not None
    if pattern == "*":
        if not there or actual in ("", "0", 0, [], {}):
            raise Mismatch(f"{where} is not there, or empty")
    elif pattern is None:
        if there:
            raise Mismatch(f"{where} is {_short(actual)}, not null")
    elif isinstance(pattern, dict):
        actual = actual if there else {}
        if not isinstance(actual, dict):
            raise Mismatch(f"{where} is {_short(actual)}, not an object")
        for key, item in pattern.items():
            check(item, actual.get(key, _MISSING), f"{where}.{key}")
    elif isinstance(pattern, list):
        actual = actual if there else []
        if not isinstance(actual, list) or len(actual) != len(pattern):
            raise Mismatch(f"{where} is {_short(actual)}, not a list of {len(pattern)}")
        for index, item in enumerate(pattern):
            check(item, actual[index], f"{where}.{index}")
    elif not _equal(pattern, actual if there else None):
        raise Mismatch(f"{where} is {_short(actual if there else None)}, not {_short(pattern)}")


def _equal(pattern: Any, actual: Any) -> bool:
    if isinstance(pattern, bool):
        return bool(actual is pattern or (actual is None and not pattern))
    if isinstance(pattern, int | float):
        if isinstance(actual, bool):
            return False
        try:
            return float(pattern) == float(actual or 0)
        except (TypeError, ValueError):
            return False
    return bool(pattern == ("" if actual is None else actual))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
