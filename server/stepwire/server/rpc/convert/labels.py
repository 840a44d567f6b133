"""Labels from the contract's messages."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from stepwire.server.runs.limits import MAX_LABELS

__all__ = ["labels_of"]


def labels_of(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a message: of more than there may be, just enough to be refused for their number."""
    return dict(islice(labels.items(), MAX_LABELS + 1)) if labels else {}  # its keys are a class of Python
