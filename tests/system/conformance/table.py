"""The table, as drivers get it."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.system.conformance.servers import Serving

TABLE: Final = Path(__file__).with_name("scenarios.json")
BIG_BYTES: Final = 1_000_000


def scenarios() -> list[dict[str, Any]]:
    """Return the scenarios, `$bytes` replaced."""
    found: list[dict[str, Any]] = _encoded(json.loads(TABLE.read_text("utf-8")))
    return found


def document(serving: Serving, prefix: str) -> dict[str, Any]:
    """Return the file that a driver gets; `prefix` begins what is unique to it."""
    unique = f"{prefix}-{uuid.uuid4().hex[:12]}"
    line = "Ünïcode 世界 🌍 and so on. "
    big = line * (BIG_BYTES // len(line.encode()))
    return {
        "servers": serving.addresses,
        "web": serving.web,
        "vars": {"unique": unique, "big": big, **serving.variables},
        "scenarios": scenarios(),
    }


def over_http(scenario: dict[str, Any], over: str) -> dict[str, Any] | None:
    """Return what of a scenario unary calls and server streaming ("connect") or server-sent events ("sse") allow.

    A Converse that is only refused is left out. None when anything else of the scenario needs what they have not.
    """
    if not over:
        return scenario
    steps = list(scenario["steps"])
    for place in range(len(steps) - 2, -1, -1):
        if steps[place].get("open") == "RunService.Converse" and "end" in steps[place + 1]:
            del steps[place : place + 2]
    if any(step.get("open") == "RunService.Converse" for step in steps):
        return None
    # Server-sent events follow a run to its end, and do not say of which kind an entry is.
    kinds = [set(step["until"].get("entry", {})) for step in steps if "until" in step]
    ends = any(step.get("request", {}).get("noFollow") for step in steps if "open" in step)
    if over == "sse" and (ends or {"kind"} in kinds):
        return None
    return {**scenario, "steps": steps} if steps else None


def _encoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"$bytes"}:
        return base64.b64encode(value["$bytes"].encode()).decode()
    return {key: _encoded(item) for key, item in value.items()}
