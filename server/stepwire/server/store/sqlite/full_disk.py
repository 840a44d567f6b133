"""Write although the disk may be full: one commit that does not fit never takes others with it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from typing import Any

from stepwire.server.store.errors import CommitTooLargeError, StoreError, StoreUnavailableError
from stepwire.server.store.sqlite.batch_writer import BatchWriter, WriteItem
from stepwire.server.store.sqlite.space import LEFT, ReservedSpace

log = logging.getLogger(__name__)

CHECKED_BYTES = 256 * 1024
"""Batches of more bytes are compared with the free space before they are written: tried and failed, they would fill
the disk with dead frames of the write-ahead log."""

KEEP_EVERY = 1 << 20
"""Bytes written between two looks whether the reserve must grow with the database."""

ITEM_BYTES = 512
"""About what an item takes beside its payload."""


class FullDiskWriter:
    """Write batches with a `BatchWriter`, and keep its disk healthy.

    - What is too large for the free space is refused before it is written.
    - When the disk is full, the reserve gives the space to checkpoint and cut the write-ahead log. Then
      each item is written by itself, so that only what does not fit fails.
    - While the whole reserve cannot be kept, only what makes space is written: deletions, and what
      fits into pages of the database that deletions have freed.
    """

    def __init__(self, batches: BatchWriter, space: ReservedSpace) -> None:
        self._batches = batches
        self._space = space
        self._short = False
        """Whether a part of the reserve is missing."""
        self._since_keep = 0

    @property
    def failure(self) -> StoreError | None:
        """Return why nothing can be written; None while writing works. Any thread may ask."""
        return self._batches.failure

    def open(self) -> None:
        """Open the database.

        Raises:
            StoreError: It cannot be opened.
        """
        self._space.open()
        self._batches.checkpoint_bytes = self._space.most
        self._batches.open()
        self._heal()

    def close(self) -> None:
        """Close the database. The reserve stays: the next process may find the disk full."""
        self._batches.close()

    def write(self, batch: Sequence[WriteItem]) -> list[Any]:
        """Write a batch; return each item's result, or the error with which it failed."""
        if self._short and not self._heal():
            return self._write_what_makes_space(batch)
        size = sum([item.size for item in batch])
        if size > CHECKED_BYTES and not self._fits(size):
            return self._write_apart(batch)
        outcomes = self._batches.write(batch)
        if self._is_full():
            outcomes = self._write_apart(batch) if self._heal() else self._write_what_makes_space(batch)
        self._since_keep += size + len(batch) * ITEM_BYTES
        if self._since_keep >= KEEP_EVERY:
            self._short = self._keep()
        return outcomes

    def _write_apart(self, batch: Sequence[WriteItem]) -> list[Any]:
        """Write each item in a transaction of its own."""
        outcomes: list[Any] = []
        for place, item in enumerate(batch):
            if item.size > CHECKED_BYTES and not self._fits(item.size):
                outcomes.append(self._too_large(item))
                continue
            outcomes += self._batches.write([item])
            if self._is_full() and not self._heal():
                outcomes += self._write_what_makes_space(batch[place + 1 :])
                break
        if not self._short and any(not isinstance(outcome, StoreUnavailableError) for outcome in outcomes):
            self._batches.failure = None
        return outcomes

    def _write_what_makes_space(self, batch: Sequence[WriteItem]) -> list[Any]:
        """Write what a full disk can take, with the help of the reserve; refuse the rest."""
        failure = StoreUnavailableError("the store cannot write: the disk of the data directory is full", full=True)
        outcomes: list[Any] = []
        for item in batch:
            if not item.makes_space and self._sizes()[1] < item.size + LEFT:
                outcomes.append(failure)
                continue
            self._space.release()
            outcomes += self._batches.write([item])
            self._heal()
        if failure in outcomes:
            log.error("%s", failure)
            self._batches.failure = failure
        return outcomes

    def _heal(self) -> bool:
        """Cut the write-ahead log and fill the reserve up; return whether that succeeded."""
        self._space.release()
        try:
            self._batches.checkpoint()
        except (StoreError, sqlite3.Error) as error:
            log.warning("the write-ahead log was not cut: %s", error)
        self._short = self._keep()
        return not self._short

    def _keep(self) -> bool:
        """Let the reserve grow with the database; return whether the disk is full."""
        self._since_keep = 0
        return self._space.keep(self._sizes()[0])

    def _sizes(self) -> tuple[int, int]:
        try:
            return self._batches.sizes()
        except (StoreError, sqlite3.Error):  # the next batch fails with it
            return 0, 0

    def _fits(self, size: int) -> bool:
        """Return whether so many bytes fit on the disk, once in the log and once in the database."""
        for healed in (False, True):
            if healed and not self._heal():
                return False
            if self._space.free() >= size + max(0, size - self._sizes()[1]) + LEFT:
                return True
        return False

    def _too_large(self, item: WriteItem) -> StoreUnavailableError:
        """Return the error of an item that does not fit: whether it ever can depends on the size of the disk."""
        message = f"{item.what} has {item.size} bytes, but {self._space.free()} are free on the disk"
        log.error("%s", message)
        if 2 * item.size > self._space.total():
            return CommitTooLargeError(message)
        return StoreUnavailableError(message, full=True)

    def _is_full(self) -> bool:
        failure = self._batches.failure
        return isinstance(failure, StoreUnavailableError) and failure.full
