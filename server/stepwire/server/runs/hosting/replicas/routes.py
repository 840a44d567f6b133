"""Which runs are for another replica, and for which one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from time import monotonic
from zlib import crc32

from stepwire.server.registry import OWN, Served
from stepwire.server.runs.errors import RunElsewhereError, as_runs_error
from stepwire.server.store import Cluster, Owner, RunKey, RunRecord, StoreError, code_of

__all__ = ["FORCE_SECONDS", "Routes"]

FORCE_SECONDS = 3.0
"""Seconds after which a run is taken from an owner that lives but cannot be reached from here."""
_AGAIN_SECONDS = 60.0
"""Seconds between two calls that were not answered, after which the owner may have been reached meanwhile."""
_KEPT = 65_536
"""Runs whose owner is remembered: about 20 MB."""


class Routes:
    """Remember the owners of runs that other replicas have, and choose a replica for those that nobody has."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: OrderedDict[RunKey, Owner] = OrderedDict()
        self._forced: set[RunKey] = set()
        self._unanswered: OrderedDict[RunKey, tuple[float, float]] = OrderedDict()
        """When the first and the last call to the owner of a run was not answered, of runs with such calls."""
        self.unreached: Callable[[], Collection[int]] = tuple
        """Tells which living replicas are not reached at their address."""
        self.own_fault: Callable[[int], str | None] = lambda replica: None
        """Says why it may be this replica's fault that it does not reach another one; None if that is not likely."""

    def follow(self, key: RunKey) -> None:
        """Raise RunElsewhereError if the owner of a run is known, and keeps its runs.

        One that drains or is gone is looked up: nobody tells that it has handed the run over.
        """
        if self._known and (owner := self._known.get(key)) is not None and key not in self._forced:
            if not any(peer.id == owner.id and not peer.draining for peer in self._cluster.peers):
                self.forget(key)
                return
            raise RunElsewhereError(owner.address, key, owner.id)

    def learn(self, key: RunKey, error: RunElsewhereError) -> None:
        """Remember the owner that a refused claim named, and name the run in the error."""
        error.key = key
        if error.address:
            self._known[key] = Owner(error.replica, error.address)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)

    def forget(self, key: RunKey) -> None:
        """Look the owner of a run up again."""
        self._known.pop(key, None)

    def clear(self) -> None:
        """Look all owners up again."""
        self._known.clear()

    def force(self, key: RunKey) -> None:
        """Have the next load take a run from its owner, which cannot be reached."""
        self._forced.add(key)
        self._known.pop(key, None)

    def unanswered(self, key: RunKey, replica: int = 0) -> None:
        """Look the owner of a run up again, which did not answer; force the run if it has not for a while.

        It is for calls that are made again later. A call that waits counts the time by itself.
        """
        self.forget(key)
        now = monotonic()
        first, last = self._unanswered.get(key, (now, now))
        if now - last > _AGAIN_SECONDS:
            first = now
        if now - first >= FORCE_SECONDS and self.own_fault(replica) is None:
            self.answered(key)
            self.force(key)
            return
        self._unanswered[key] = first, now
        if len(self._unanswered) > _KEPT:
            self._unanswered.popitem(last=False)

    def answered(self, key: RunKey) -> None:
        """Note that the owner of a run has answered."""
        self._unanswered.pop(key, None)

    def forced(self, key: RunKey) -> bool:
        """Tell whether a load takes the run from its owner; the next one does not."""
        if key in self._forced:
            self._forced.discard(key)
            return True
        return False

    async def check(self, record: RunRecord, served: Served | None, *, draining: bool) -> None:
        """Raise RunElsewhereError if another replica is to have a run.

        That is its owner, if this replica cannot take it: because it does not serve the run's workflow, or does not
        serve the version that wrote it while another replica does, or because it is stopping.
        """
        key, code = record.key, code_of(record.info)
        if not draining and served is not None and served.told == code:
            return
        try:
            owner = (await self._cluster.owners([key])).get(key)
            fitting = self._reached(await self._cluster.serving(record.workflow, code))
        except StoreError as error:
            raise as_runs_error(error) from error
        if owner is not None:
            self._known[key] = owner
            raise RunElsewhereError(owner.address, key, owner.id)
        if not fitting and (served is None or draining):
            fitting = self._serving(record.workflow)
        if fitting:
            chosen = _chosen(fitting, key.run_id)
            raise RunElsewhereError(chosen.address, key, chosen.id)

    def for_start(self, workflow: str, run_id: str, *, own: bool = False) -> None:
        """Raise RunElsewhereError if another replica can start a run of a workflow.

        Args:
            workflow: The name of the workflow.
            run_id: Chooses the replica, if several can.
            own: Whether a workflow of the servers themselves will do. Callers cannot name those.
        """
        if (own or not workflow.startswith(OWN)) and (fitting := self._serving(workflow)):
            chosen = _chosen(fitting, run_id)
            raise RunElsewhereError(chosen.address, replica=chosen.id)

    async def for_start_anywhere(self, workflow: str, run_id: str) -> None:
        """As `for_start`, also for a replica that joined a moment ago: the store knows it."""
        self.for_start(workflow, run_id)
        if not workflow.startswith(OWN) and (joined := await self._cluster.serving(workflow, None)):
            chosen = _chosen(self._reached(joined), run_id)
            raise RunElsewhereError(chosen.address, replica=chosen.id)

    def serves(self, workflow: str) -> bool:
        """Tell whether another replica serves a workflow that callers can name, and takes runs."""
        return not workflow.startswith(OWN) and bool(self._serving(workflow))

    def _serving(self, workflow: str) -> Sequence[Owner]:
        taking = (peer for peer in self._cluster.peers if not peer.draining and workflow in peer.versions)
        return self._reached([Owner(peer.id, peer.address) for peer in taking])

    def _reached(self, found: Sequence[Owner]) -> Sequence[Owner]:
        """Leave out the replicas that are not reached, unless none is."""
        unreached = self.unreached() if found else ()
        return [each for each in found if each.id not in unreached] or found


def _chosen(replicas: Sequence[Owner], run_id: str) -> Owner:
    """Choose the same replica for the same run wherever it is asked, so that two replicas do not race for it."""
    return replicas[crc32(run_id.encode()) % len(replicas)]
