"""The processes that share one storage: who they are, which of them live, and what happens to their runs.

Each process is a *replica* and owns the runs that it has in memory. `Cluster` is what the layers above see of the
others; `Solo` is the cluster of a process that has the storage for itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from stepwire.server.store.records import Allowance, Claim, RunKey

__all__ = ["ChangeListener", "Check", "Cluster", "Differences", "News", "NewsListener", "Owner", "Peer", "Room", "Solo"]


class Peer(NamedTuple):
    """A living replica.

    Attributes:
        id: Its name in the storage; a replica that joins later has a higher one.
        address: Where the other replicas reach it.
        versions: What tells the code of each workflow that it serves from any other, by name; see `code_of`.
        draining: Whether it is stopping: it takes no run any more.
    """

    id: int
    address: str
    versions: Mapping[str, str]
    draining: bool = False


class Owner(NamedTuple):
    """The replica that has a run, or is to have it.

    Attributes:
        id: Its id; 0 if that is not known.
        address: Where it takes calls. Another replica may answer there, if addresses are wrong.
    """

    id: int
    address: str


class Room(NamedTuple):
    """How many runs a caller may start.

    Attributes:
        left: How many, as counted now; 0 or less: none.
        allowance: Those of them that this replica may start without having them counted; None if there are few.
    """

    left: int
    allowance: Allowance | None


class Differences(NamedTuple):
    """How the runs that the storage gives a replica differ from those that it holds.

    Attributes:
        lost: The handles of runs that are held, but not by what the storage says.
        undone: Of these, those of which something is gone that was acknowledged, with the last sequence that is there;
            -1 for a run that is gone altogether, or that is another one now.
        strays: The claims of runs that are this replica's in the storage, and that it does not hold.
    """

    lost: Collection[int] = ()
    undone: Mapping[int, int] = {}
    strays: Collection[Claim] = ()


class News(NamedTuple):
    """Something that another replica did to a run.

    Attributes:
        kind: `claimed`: it owns the run now; `deleted`: the run is gone; `trimmed`: its log begins later; `placed`: it
            may go, one of the places of `num_concurrent_runs` is its own; `paused`: a workflow was paused or resumed;
            `missed`: news may have been lost, of
            whatever run; `undone`: the storage has lost what it had acknowledged of the run.
        key: The run; of `paused` the namespace and the workflow, of `missed` an empty one.
        first: Where the log begins, if it was trimmed; where it ends, if something was undone.
    """

    kind: Literal["claimed", "deleted", "trimmed", "placed", "paused", "missed", "undone"]
    key: RunKey
    first: int = 0


ChangeListener = Callable[[], None]
NewsListener = Callable[[News], None]
Check = Callable[[], Awaitable[None]]


class Cluster(Protocol):
    """The replicas of one storage, seen from one of them.

    All methods are called on one event loop, and listeners are called there.
    """

    @property
    def shared(self) -> bool:
        """Whether there can be other replicas."""

    @property
    def me(self) -> int:
        """The id of this replica; 0 while it has not joined. It changes if others have taken it for dead."""

    @property
    def peers(self) -> Sequence[Peer]:
        """The other living replicas, the oldest first."""

    @property
    def rank(self) -> int:
        """The place of this replica among those that take runs, from 0; -1 while it takes none."""

    @property
    def size(self) -> int:
        """How many replicas take runs, with this one."""

    @property
    def beat_age(self) -> float:
        """How old the last acknowledged beat of this replica is, in seconds. From any thread."""

    @property
    def takeovers(self) -> int:
        """How many runs this replica took over from dead ones, or by force."""

    @property
    def fresh(self) -> bool:
        """Whether what memory holds of the own runs is still true: no other replica can have taken one of them."""

    async def hold(self) -> None:
        """Wait until `fresh`.

        Raises:
            StoreUnavailableError: That takes too long.
        """

    async def outwait(self) -> None:
        """Wait until the replica that a run was taken from by force has heard of it, or answers from memory no more."""

    async def join(self, address: str, versions: Mapping[str, str]) -> None:
        """Become a replica.

        Args:
            address: Where other replicas reach this one.
            versions: What tells the code of each served workflow from any other, by name; see `code_of`.

        Raises:
            AddressTakenError: Another living replica has the address.
            StoreError: The storage cannot be reached, or refuses.
        """

    async def drain(self) -> None:
        """Tell the others that this replica takes no more runs, and that there may be some to take."""

    async def released(self) -> None:
        """Return once the runs that were released are free, and the others know that there are runs to take."""

    async def leave(self) -> None:
        """Stop being a replica. Whatever it still owns is free for the others."""

    def on_change(self, listener: ChangeListener) -> None:
        """Have a listener called when replicas came or went, or when there may be runs to take."""

    def on_death(self, listener: ChangeListener) -> None:
        """Have a listener called when the others took this replica for dead: all its runs may be owned by others."""

    def on_return(self, check: Check) -> None:
        """Have something awaited when the storage was lost and is found again, before memory is answered from.

        It may be another one, which has less. What is raised is a StoreError, and then it is awaited again.
        """

    def on_news(self, listener: NewsListener) -> None:
        """Have a listener called with what other replicas did to runs."""

    async def owners(self, keys: Collection[RunKey]) -> Mapping[RunKey, Owner]:
        """Return the living owners of runs. A run that none of the *others* owns is left out."""

    async def serving(self, workflow: str, code: str | None) -> Sequence[Owner]:
        """Return the other replicas that take runs and serve this very code of a workflow (None: any), as of now.

        Unlike `peers` it asks the storage: another replica may have joined a moment ago.
        """

    async def compare(self, held: Collection[Claim], *, anew: bool = False) -> Differences:
        """Compare the runs that this replica holds with those that the storage says are its own.

        Args:
            held: The claims of runs in memory.
            anew: Ask over a new connection: the storage may have moved.
        """

    async def undone(self, ends: Mapping[RunKey, int]) -> None:
        """Tell the other replicas at which sequences logs end, earlier than they did; -1: the run is gone."""

    async def take_places(self, workflow: str, most: int, keys: Collection[RunKey]) -> Collection[RunKey]:
        """Give the free places of a workflow to its queued runs, first in, first out; return which of `keys` have one.

        Args:
            workflow: The workflow.
            most: How many of its runs may have a place, over all replicas.
            keys: Runs of this replica.
        """

    async def adopt_places(self, workflow: str) -> None:
        """Give places to the runs of a workflow that are under way without one: it had no limit when they began."""

    async def room_for(self, namespace: str, principal: str, most: int) -> Room:
        """Return how many runs a caller may start that may have `most` unfinished ones over all replicas."""


class Solo:
    """The cluster of a process that is alone."""

    shared = False
    me = 0
    peers: Sequence[Peer] = ()
    rank = 0
    size = 1
    beat_age = 0.0
    takeovers = 0
    fresh = True

    async def hold(self) -> None:
        """Return: nobody else can have taken a run."""

    async def outwait(self) -> None:
        """Return: there is nobody to take a run from."""

    async def join(self, address: str, versions: Mapping[str, str]) -> None:
        """Do nothing."""

    async def drain(self) -> None:
        """Do nothing."""

    async def released(self) -> None:
        """Do nothing."""

    async def leave(self) -> None:
        """Do nothing."""

    def on_change(self, listener: ChangeListener) -> None:
        """Never call it."""

    def on_death(self, listener: ChangeListener) -> None:
        """Never call it."""

    def on_return(self, check: Check) -> None:
        """Never await it."""

    def on_news(self, listener: NewsListener) -> None:
        """Never call it."""

    async def owners(self, keys: Collection[RunKey]) -> Mapping[RunKey, Owner]:
        """Return nothing."""
        return {}

    async def serving(self, workflow: str, code: str | None) -> Sequence[Owner]:
        """Return nothing."""
        return ()

    async def compare(self, held: Collection[Claim], *, anew: bool = False) -> Differences:
        """Find no difference: nobody else changes what the storage says."""
        return Differences()

    async def undone(self, ends: Mapping[RunKey, int]) -> None:
        """Do nothing."""

    async def take_places(self, workflow: str, most: int, keys: Collection[RunKey]) -> Collection[RunKey]:
        """Refuse: the process counts by itself."""
        raise NotImplementedError("places are counted in memory")

    async def adopt_places(self, workflow: str) -> None:
        """Do nothing: the process counts by itself."""

    async def room_for(self, namespace: str, principal: str, most: int) -> Room:
        """Refuse: the process counts by itself."""
        raise NotImplementedError("runs are counted in memory")
