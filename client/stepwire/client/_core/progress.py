"""A line for each event of a run as it comes, for people."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, TextIO

from pydantic import BaseModel

from stepwire.client.events import GenericEvent

# Characters of an event's fields on one line.
_WIDTH = 100


class Progress:
    """Write events to a file, by default standard error: seconds since the start, type, shortened fields."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file or sys.stderr
        self._began = time.monotonic()

    def tell(self, event: Any) -> None:
        """Write the line of an event. The fields are ASCII JSON, so they cannot control a terminal."""
        name, fields = type(event).__name__, event
        if isinstance(event, GenericEvent):
            name, fields = event.type, event.to_dict()
        elif isinstance(event, BaseModel):
            fields = event.model_dump(mode="json")
        text = json.dumps(fields, default=str) if fields else ""
        if len(text) > _WIDTH:
            text = text[: _WIDTH - 3] + "..."
        line = f"{time.monotonic() - self._began:8.2f} s  {ascii(name)[1:-1]:<24} {text}"
        self._file.write(line.rstrip() + "\n")
        self._file.flush()
