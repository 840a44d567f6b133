"""What a walk over a value reports that meets one which cannot be saved."""

from __future__ import annotations

__all__ = ["Refused", "type_name"]


class Refused(Exception):
    """Report a value that cannot be saved; collects its path on the way up.

    `tries` counts the fields around it whose class was asked for their JSON, to no avail.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.tries = 0
        self._segments: list[str] = []

    def at(self, segment: object) -> Refused:
        """Put the key, index or field that holds the value in front of the path."""
        if type(segment) is str or type(segment) is int:
            self._segments.append(str(segment)[:100])
        else:
            self._segments.append(f"<{type(segment).__name__}>")
        return self

    @property
    def path(self) -> str:
        """Return where the value is, as a dotted path."""
        return ".".join(reversed(self._segments))


def type_name(cls: type) -> str:
    """Return how an error names a class."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"
