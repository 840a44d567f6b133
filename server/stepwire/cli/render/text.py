"""Values, times and spans as text that is safe to show in a terminal."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["clean", "clean_json", "compact", "duration", "exact", "fields_text", "indented", "since", "span", "until"]

# Unicode categories that can move the cursor, hide text or turn its direction: the text of a run is not trusted.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Joiners that scripts and emoji need.
_JOINERS = frozenset("\u200c\u200d")


def clean(text: str, keep: str = "\n\t") -> str:
    """Return the text with control and direction characters as escapes, except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _harmless(char) or char in keep else _escape(char) for char in text)


def clean_json(text: str) -> str:
    """Return JSON text with control and direction characters as escapes of JSON: it is the same value."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(char if _harmless(char) or char == "\n" else json.dumps(char)[1:-1] for char in text)


def indented(text: str) -> str:
    """Return text whose further lines are indented, so that each is seen to belong to the first."""
    return "\n  ".join(clean(line, keep="\t") for line in text.rstrip().split("\n"))


def compact(value: Any, limit: int = 60) -> str:
    """Return a JSON value on one line of at most `limit` characters. Plain words have no quotes."""
    if isinstance(value, str) and value and not any(char in value for char in " \"'=") and _is_text(value):
        text = value
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    text = clean(text, keep="")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def fields_text(fields: Mapping[str, Any], limit: int = 60) -> str:
    """Return fields as `name=value name=value`."""
    return " ".join(f"{clean(str(name), keep='')}={compact(value, limit)}" for name, value in fields.items())


def duration(seconds: float) -> str:
    """Return a time span for people: `3.2s`, `2m05s`, `1h03m`, `2d04h`."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole // 60 % 60:02}m"
    return f"{whole // 86400}d{whole // 3600 % 24:02}h"


def exact(seconds: float) -> str:
    """Return a time span as it is set: `1m`, `1m30s`, `1d`, `0.5s`."""
    whole, told = int(seconds), ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        count, whole = divmod(whole, size)
        told += f"{count}{unit}" if count else ""
    rest = whole + seconds % 1
    return f"{told}{rest:g}s" if rest or not told else told


def span(seconds: float) -> str:
    """Return how long something took: as `duration`, and below a second in milliseconds."""
    return duration(seconds) if seconds >= 1 else f"{seconds * 1000:.3g}ms"


def since(time: datetime | None, now: datetime | None = None) -> str:
    """Return how long ago a time was; "" for none."""
    if time is None:
        return ""
    return duration(((now or datetime.now(UTC)) - time).total_seconds())


def until(time: datetime, now: datetime | None = None) -> str:
    """Return how long it is until a time; `0.0s` for a past one."""
    return duration((time - (now or datetime.now(UTC))).total_seconds())


def _harmless(char: str) -> bool:
    return char in _JOINERS or unicodedata.category(char) not in _HIDDEN


def _is_text(value: str) -> bool:
    """Say whether a word cannot be read as another JSON value. The text `5` can, so it is shown as `"5"`."""
    try:
        json.loads(value)
    except ValueError:
        return True
    return False


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
