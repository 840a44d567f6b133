"""Every bound that the runs keep to: what requests may hold, what one run may hold, how many runs a caller may have."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import Final

from stepwire.server.principal import Principal
from stepwire.server.runs.errors import InvalidError, LimitError, Violation
from stepwire.server.store import (
    TERMINAL,
    Allowance,
    Cluster,
    Commit,
    Quota,
    RunKey,
    RunQuery,
    RunRecord,
    RunStore,
    Status,
)
from stepwire.workflow.hosting import is_text

MAX_ID: Final = 128
"""Characters of a run_id, request_id or waiter_id. The store keeps each of them in an index."""

MAX_LABELS: Final = 32
"""Labels of a run, and of a filter of runs."""

MAX_LABEL_KEY: Final = 63
"""Characters of a label's key."""

MAX_LABEL_VALUE: Final = 255
"""Characters of a label's value."""

MAX_TIMEOUT: Final = 315_576_000_000.0
"""Seconds of a run's timeout: 10000 years, the longest duration of the API."""

MAX_PATHS: Final = 1000
"""Paths that one call may set or unset: they change the state in one go, without a pause for other work."""

MAX_REASON: Final = 1000
"""Characters of the reason of a cancel: it is part of the run's record, which lists show."""

_NUL: Final = "must not hold the character U+0000 (NUL): not every store can keep it"

_UNFINISHED = (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.PAUSED, Status.BLOCKED)
_PAGE = 10_000
"""Records that are read at a time while the quota is counted."""


_UNCOUNTED: Final = nullcontext()

_NEAR_SECONDS: Final = 2.0
"""How long starts of a caller near the limit are left to the count in the transaction that creates the run."""


def refuse(violations: list[Violation]) -> None:
    """Raise InvalidError (INVALID_REQUEST) if there are violations."""
    if violations:
        raise InvalidError("INVALID_REQUEST", "The request is not valid", violations)


def check_length(field: str, text: str, largest: int = MAX_ID) -> list[Violation]:
    """Return a violation if a field has more than `largest` characters, or a NUL, which not every store can keep."""
    if "\x00" in text:
        return [Violation(field, _NUL)]
    return [Violation(field, f"must be at most {largest} characters")] if len(text) > largest else []


def check_label_count(labels: dict[str, str]) -> list[Violation]:
    """Return a violation if there are more than MAX_LABELS labels."""
    return [Violation("labels", f"must be at most {MAX_LABELS}")] if len(labels) > MAX_LABELS else []


def check_labels(labels: dict[str, str]) -> list[Violation]:
    """Return the violations of a run's labels: too many, or too long."""
    violations = check_label_count(labels)
    if any(not 1 <= len(key) <= MAX_LABEL_KEY or len(value) > MAX_LABEL_VALUE for key, value in labels.items()):
        message = f"keys are 1 to {MAX_LABEL_KEY}, values at most {MAX_LABEL_VALUE} characters"
        violations.append(Violation("labels", message))
    return violations + check_label_texts(labels)


def check_label_texts(labels: dict[str, str]) -> list[Violation]:
    """Return a violation if a label holds a NUL, or is no valid text: a step may have made it."""
    texts = [text for label in labels.items() for text in label]
    for key, value in labels.items():
        if "\x00" in key or "\x00" in value:
            return [Violation("labels", f"{'the key' if chr(0) in key else 'the value of'} {key!r} {_NUL}")]
    if not all(map(is_text, texts)):
        return [Violation("labels", "must be valid Unicode")]
    return []


def check_count(field: str, count: int) -> list[Violation]:
    """Return a violation unless a call has 1 to MAX_PATHS paths."""
    return [] if 1 <= count <= MAX_PATHS else [Violation(field, f"must be 1 to {MAX_PATHS}")]


@dataclass(frozen=True, kw_only=True)
class RunLimits:
    """What one run may hold. At a limit it refuses input; a run whose own steps go beyond fails.

    Attributes:
        queued_events: Deliveries that are not finished.
        log_entries: Entries of its log.
        state_bytes: Bytes of its state as JSON.
        entry_bytes: Bytes of one event as JSON, in the log.
    """

    queued_events: int = 200_000
    log_entries: int = 1_000_000
    state_bytes: int = 8 << 20
    entry_bytes: int = 3 << 20


class RunQuota:
    """Count the unfinished runs of each principal. A `limit` of 0 counts nothing.

    It listens to the store's commits, so it counts what is durable, and the starts in progress. Where other replicas
    start runs too, the database counts: far from the limit it gives allowances, by which a replica starts runs without
    a count; near it, it counts in the transaction that creates a run.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._runs: defaultdict[tuple[str, str], set[RunKey]] = defaultdict(set)
        self._starting: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._cluster: Cluster | None = None
        self._allowances: dict[tuple[str, str], Allowance] = {}
        """By what runs of each caller may be started without a count."""
        self._near: dict[tuple[str, str], tuple[int, float]] = {}
        """How many starts of callers near the limit are not refused before they are counted, and until when."""
        self._asking: dict[tuple[str, str], asyncio.Lock] = {}

    async def open(self, store: RunStore) -> None:
        """Count the runs of a store, and listen to its commits."""
        if not self._limit:
            return
        if store.cluster.shared:
            self._cluster = store.cluster
            return
        store.listen(self._committed)
        for namespace in await store.namespaces():
            query = RunQuery(namespace=namespace, statuses=_UNFINISHED, limit=_PAGE)
            while records := await store.list(query):
                for record in records:
                    self._runs[_owner(record)].add(record.key)
                query.before = (records[-1].created_at, records[-1].key.run_id)

    @property
    def counts_starts(self) -> bool:
        """Whether `starting` counts, so that it must end once the start is durable."""
        return bool(self._limit) and self._cluster is None

    @property
    def shared(self) -> bool:
        """Whether a new run needs what `admit` returns."""
        return self._cluster is not None

    async def admit(self, caller: Principal) -> Quota:
        """Return what the first commit of a caller's new run is to be held against, where `shared`.

        Raises:
            LimitError: The caller has as many unfinished runs as it may have.
            StoreError: The database cannot count.
        """
        assert self._cluster is not None
        owner = (caller.namespace, caller.name)
        if (quota := self._at_hand(owner)) is not None:
            return quota
        async with self._asking.setdefault(owner, asyncio.Lock()):
            while (quota := self._at_hand(owner)) is None:
                await self._ask(self._cluster, owner)
        return quota

    def _at_hand(self, owner: tuple[str, str]) -> Quota | None:
        """Use what the database has told of a caller; None if it must be asked."""
        allowance = self._allowances.get(owner)
        if allowance is not None and not allowance.revoked and allowance.runs > 0:
            allowance.runs -= 1
            return Quota(self._limit, allowance)
        left, until = self._near.get(owner, (0, 0.0))
        if left > 0 and monotonic() < until:
            self._near[owner] = left - 1, until
            return Quota(self._limit, None)
        return None

    async def _ask(self, cluster: Cluster, owner: tuple[str, str]) -> None:
        """Have the database count the runs of a caller. LimitError if it may have no more."""
        room = await cluster.room_for(*owner, self._limit)
        for told in (self._allowances, self._near):
            told.pop(owner, None)
            if len(told) > _PAGE:
                told.clear()
        if len(self._asking) > _PAGE:
            self._asking = {each: lock for each, lock in self._asking.items() if lock.locked()}
        if room.allowance is not None:
            self._allowances[owner] = room.allowance
        elif room.left > 0:
            self._near[owner] = max(1, room.left // cluster.size), monotonic() + _NEAR_SECONDS
        else:
            raise LimitError(f"At most {self._limit} runs of a caller may be unfinished (max_runs)", limit="runs")

    def starting(self, caller: Principal) -> AbstractContextManager[None]:
        """Count a run while it is being started.

        Raises:
            LimitError: From entering it: the caller has as many unfinished runs as it may have.
        """
        return self._counted(caller) if self.counts_starts else _UNCOUNTED

    @contextmanager
    def _counted(self, caller: Principal) -> Iterator[None]:
        owner = (caller.namespace, caller.name)
        if len(self._runs.get(owner, ())) + self._starting[owner] >= self._limit:
            raise LimitError(f"At most {self._limit} runs of a caller may be unfinished (max_runs)", limit="runs")
        self._starting[owner] += 1
        try:
            yield
        finally:
            self._starting[owner] -= 1
            if not self._starting[owner]:
                del self._starting[owner]

    def _committed(self, commit: Commit) -> None:
        owner = _owner(commit.record)
        if commit.record.status in TERMINAL:
            runs = self._runs.get(owner)
            if runs is not None:
                runs.discard(commit.record.key)
                if not runs:
                    del self._runs[owner]
        elif commit.claim is None:
            self._runs[owner].add(commit.record.key)


def _owner(record: RunRecord) -> tuple[str, str]:
    return record.key.namespace, str(record.info.get("principal", ""))
