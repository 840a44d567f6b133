"""The errors of a store. The layers above turn them into the errors of the contract.

StoreError
├── RunExistsError
├── StartRequestExistsError
├── QuotaExceededError
├── StaleClaimError
│   └── TakenForDeadError
├── OwnedElsewhereError
├── AddressTakenError
├── StoreUnavailableError
│   ├── StoreUnreadableError
│   └── CommitTooLargeError
├── StoreCorruptError
└── StoreLockedError
"""

from __future__ import annotations

import logging

from stepwire.server.store.records import PrunedStart, RunRecord


class StoreError(Exception):
    """Base of the errors of a store."""


class RunExistsError(StoreError):
    """The run_id of a first commit is taken."""


class StartRequestExistsError(StoreError):
    """The start_request_id of a first commit was used before.

    Attributes:
        record: The run that the request_id started, or what is kept of it after it was pruned.
    """

    def __init__(self, record: RunRecord | PrunedStart) -> None:
        super().__init__("the request_id was used to start another run")
        self.record = record


class QuotaExceededError(StoreError):
    """The caller of a first commit has as many unfinished runs as it may have.

    Attributes:
        most: How many that is.
    """

    def __init__(self, most: int) -> None:
        super().__init__(f"the caller has {most} unfinished runs, as many as it may have")
        self.most = most


class StaleClaimError(StoreError):
    """The claim is fenced off: the run was claimed again, or deleted. The holder must drop the run."""


class OwnedElsewhereError(StoreError):
    """Another living replica owns the run.

    Attributes:
        address: Where that replica takes calls.
        replica: Its id; 0 if that is not known.
    """

    def __init__(self, address: str, replica: int = 0) -> None:
        super().__init__("another replica owns the run")
        self.address = address
        self.replica = replica


class AddressTakenError(StoreError):
    """Another living replica has the address at which this one would be reached.

    Attributes:
        replica: The id of that replica.
    """

    def __init__(self, address: str, replica: int) -> None:
        super().__init__(
            f"replica {replica} lives and has {address}, too: give each replica an --advertise of its own, at which the"
            " others reach it and no other"
        )
        self.replica = replica


class StoreUnavailableError(StoreError):
    """The store cannot write or read now. Nothing of the commit was kept.

    Attributes:
        full: Whether the reason is that space ran out.
    """

    def __init__(self, message: str, *, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


class TakenForDeadError(StaleClaimError):
    """The other replicas took this one for dead, so all of its claims may be fenced off."""

    def __init__(self) -> None:
        super().__init__("the other replicas took this one for dead")


class StoreUnreadableError(StoreUnavailableError):
    """The store cannot be read now. The read changed nothing, so it may be repeated as it is."""


class CommitTooLargeError(StoreUnavailableError):
    """A commit has more than MAX_COMMIT_BYTES, or would not fit on the disk if that were empty.

    It was refused before anything was written, so it harms no other commit. Trying again is in vain.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, full=True)


class StoreCorruptError(StoreError):
    """What the store holds is damaged. It is refused rather than read wrongly."""


class StoreLockedError(StoreError):
    """Another process holds the storage; the message names it."""


def level_of(error: BaseException, level: int = logging.WARNING) -> int:
    """Return the level at which an error is logged where it is met.

    What fails all at once is told once, by those who notice it: that the store cannot be used, or that this replica was
    taken for dead. The lines of all that fails with it would bury that, so they are for debugging.
    """
    told = isinstance(error, StoreUnavailableError | TakenForDeadError) and not isinstance(error, CommitTooLargeError)
    return logging.DEBUG if told else level
