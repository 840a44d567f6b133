"""The table, as drivers get it."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path
from typing import Any, Final

TABLE: Final = Path(__file__).with_name("scenarios.json")
BIG_BYTES: Final = 1_000_000


def scenarios() -> list[dict[str, Any]]:
    """Return the scenarios, `$bytes` replaced."""
    found: list[dict[str, Any]] = _encoded(json.loads(TABLE.read_text("utf-8")))
    return found


def document(addresses: dict[str, str], variables: dict[str, str], prefix: str) -> dict[str, Any]:
    """Return the file that a driver gets; `prefix` begins what is unique to it."""
    unique = f"{prefix}-{uuid.uuid4().hex[:12]}"
    line = "Ünïcode 世界 🌍 and so on. "
    big = line * (BIG_BYTES // len(line.encode()))
    return {
        "servers": addresses,
        "vars": {"unique": unique, "big": big, **variables},
        "scenarios": scenarios(),
    }


def _encoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$bytes"}:
        return base64.b64encode(value["$bytes"].encode()).decode()
    return {key: _encoded(item) for key, item in value.items()}
