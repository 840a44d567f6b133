"""A run's progress for people: a line for each event, as it comes."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, TextIO

from pydantic import BaseModel

from stepwire.client.events import GenericEvent

_WIDTH = 100


class Progress:
    """Write events to a file, standard error by default: seconds since the beginning, type, fields (shortened)."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file or sys.stderr
        self._began = time.monotonic()

    def tell(self, event: Any) -> None:
        """Write the line of an event. Its fields are JSON in ASCII: they cannot move a terminal's cursor."""
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
