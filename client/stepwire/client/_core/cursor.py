"""Where a stream stands in the log, and the check that nothing is missing."""

from __future__ import annotations

from collections.abc import Iterable

from stepwire.client.errors import StreamGapError
from stepwire.v1 import types_pb2


class Cursor:
    """The last sequence that a stream covered. A new connection goes on after it.

    The methods raise StreamGapError when the server's ranges are not contiguous.
    """

    def __init__(self, run_id: str, sequence: int) -> None:
        if sequence < 0:
            raise ValueError(f"after must be 0 or more, not {sequence}")
        self._run_id = run_id
        self.sequence = sequence

    def take(self, batch: types_pb2.EventBatch) -> Iterable[types_pb2.LogEntry]:
        """Advance over a batch and return its entries."""
        self.expect(batch.from_sequence - 1)
        if batch.to_sequence < batch.from_sequence:
            raise self._gap(f"a range from {batch.from_sequence} to {batch.to_sequence}")
        last = self.sequence
        for entry in batch.entries:
            if not last < entry.sequence <= batch.to_sequence:
                raise self._gap(f"entry {entry.sequence} came after entry {last}")
            last = entry.sequence
        self.sequence = batch.to_sequence
        return batch.entries

    def expect(self, sequence: int) -> None:
        """Check that the server stands at the same sequence."""
        if sequence != self.sequence:
            raise self._gap(f"the server is at {sequence}, this client at {self.sequence}")

    def _gap(self, what: str) -> StreamGapError:
        return StreamGapError(f"the stream of run {self._run_id} is not contiguous: {what}")
