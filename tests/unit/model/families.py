"""A parent, its children and a world that starts and ends them, driven by any order of what may happen.

The world stands for the server: it starts what the parent's run asks for, ends it, and tells the parent, now or later,
once or twice. Between all that the parent crashes, leaves memory, has commits in flight, fails and begins again. In the
end the world does what is left to do. Then every child was started once, and the results are right.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple

from hypothesis import strategies as st
from tests.unit.semantics.harness import DurableRun

from stepwire.workflow import ConstantDelayRetryPolicy, Context, Event, StartEvent, StopEvent, Workflow, step
from stepwire.workflow.broker.outcome import CANCELLED, COMPLETED, FAILED
from stepwire.workflow.errors import WorkflowCancelledByUser
from stepwire.workflow.events import WorkflowCancelledEvent, WorkflowFailedEvent
from stepwire.workflow.hosting import Child, ChildCall, ChildOutcome, ChildSend

_ATTEMPTS = 12
"""Attempts of a step: more than there are failures."""
_CRASHES = 4
"""A delivery that is lost to more crashes fails as guilty of them."""
_QUIET = 5
"""Rounds in which nothing happens any more: then nothing will."""


class Plan(NamedTuple):
    """What a body does, and what goes wrong.

    Attributes:
        groups: The inputs of children that are awaited together, group after group.
        cancelled: Inputs of children that the body starts and cancels first of all.
        failing: The k-th child of input n fails, as (n, k).
        left: Inputs of children that the body starts last of all and leaves to themselves: the run ends at once.
        raises: After how many groups each attempt raises, where it does.
        at_once: How many children may be under way at a time.
    """

    groups: list[list[int]]
    cancelled: list[int]
    left: list[int]
    failing: set[tuple[int, int]]
    raises: list[int]
    at_once: int

    def slots(self) -> Counter[int]:
        """Return how many children of each input a body that comes to its end awaits."""
        return Counter(n for group in self.groups for n in group)


inputs = st.integers(0, 2)
"""Few, so that equal calls are common."""
plans = st.builds(
    Plan,
    groups=st.lists(st.lists(inputs, min_size=1, max_size=4), min_size=1, max_size=3),
    cancelled=st.lists(st.integers(10, 11), max_size=2),
    left=st.lists(st.integers(20, 21), max_size=3),
    failing=st.sets(st.tuples(inputs, st.integers(0, 3)), max_size=4),
    raises=st.lists(st.integers(0, 3), max_size=3),
    at_once=st.sampled_from([1, 2, 100]),
)
deeds = st.lists(
    st.tuples(
        st.sampled_from(
            ["start", "start", "end", "end", "tell", "tell", "tell", "settle", "crash", "release", "hold", "let_go"]
        ),
        st.integers(0, 5),
    ),
    max_size=40,
)


RARE: list[tuple[Plan, list[tuple[str, int]]]] = [
    (Plan([[0]], [], [], set(), [], 100), [("settle", 0), ("crash", 0)]),
    (Plan([[0, 0], [1]], [], [], set(), [], 100), [("start", 0), ("start", 0), ("settle", 0), ("crash", 0)]),
    (
        Plan([[0, 1, 2]], [], [20], set(), [], 1),
        [("start", 0), ("start", 0), ("crash", 0), ("end", 0), ("tell", 0), ("start", 0)],
    ),
    (Plan([[0]], [10], [], set(), [], 1), [("hold", 0), ("start", 0), ("end", 0)]),
]
"""Lives that lead where chance seldom does.

To a crash just before a start, or while nothing but a child is awaited; to an end before a cancel is durable.
"""


class Made:
    """A child as the world knows it."""

    def __init__(self, n: int, fails: bool) -> None:
        self.n = n
        self.fails = fails
        self.status = ""

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return bool(self.status)


class World:
    """Starts runs as it is asked, and keeps them whatever becomes of their parent."""

    in_all = input_bytes = 1_000_000

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.at_once = plan.at_once
        self.run: DurableRun | None = None
        self.asked: dict[str, int] = {}
        """The inputs of children to start, by id."""
        self.made: dict[str, Made] = {}

    def served_as(self, workflow: object) -> str:
        """Serve nothing by its object."""
        return ""

    def check(self, workflow: str, fields: Mapping[str, Any] | None) -> bytes | None:
        """Take any input."""
        return json.dumps(fields).encode()

    def check_call(self, call: ChildCall) -> None:
        """Take any call."""

    def carry_out(self, children: Iterable[Child]) -> None:
        """Note what is to be started, and look at the others: it must be durable."""
        assert self.run is not None
        for child in children:
            part = json.loads(self.run.parts[f"c/{child.number}"])
            assert part["r"] == child.run_id, "the host was asked for another child than the one that is durable"
            if child.state == "starting":
                assert part["st"] in ("starting", "living"), "a start was asked for before it is durable"
                self.asked[child.run_id] = json.loads(child.call.data)["n"]
            elif child.cancelling and not self.made[child.run_id].ended:
                assert part["k"], "a cancel was asked for before it is durable"
                self.made[child.run_id].status = CANCELLED

    def send(self, sends: Iterable[tuple[Child, ChildSend]]) -> None:
        """Refuse: no step here sends."""
        raise AssertionError(sends)

    def start(self, run_id: str) -> None:
        """Start a child, or find it; tell the parent that it is there."""
        n = self.asked.pop(run_id)
        if run_id not in self.made:
            nth = sum(made.n == n for made in self.made.values())
            self.made[run_id] = Made(n, (n, nth) in self.plan.failing)
        assert self.made[run_id].n == n, "two children have one id"
        self._parent.hosted.child_started(run_id)
        self._parent.hosted.act()

    def end(self, run_id: str) -> None:
        """Have a child come to its end."""
        made = self.made[run_id]
        made.status = FAILED if made.fails else COMPLETED

    def tell(self, run_id: str) -> None:
        """Tell the parent of the end of a child."""
        made = self.made[run_id]
        event = json.dumps(f"{made.n} {run_id}").encode()
        self._parent.hosted.child_ended(run_id, ChildOutcome(made.status, event))
        self._parent.hosted.act()

    @property
    def _parent(self) -> DurableRun:
        assert self.run is not None
        return self.run

    def event_of(self, child: Child) -> StopEvent | None:
        """Return the terminal event of a child."""
        assert child.outcome is not None
        told = json.loads(child.outcome.event)
        if child.outcome.status == FAILED:
            return WorkflowFailedEvent(step="low", error_type="ValueError", message=told, attempts=1)
        return WorkflowCancelledEvent() if child.outcome.status == CANCELLED else StopEvent(result=told)

    def events(self, child: Child) -> AsyncIterator[Event]:
        """Give no stream."""
        raise NotImplementedError


class Above(Workflow):
    """Does what its plan says."""

    def __init__(self, plan: Plan, world: World) -> None:
        super().__init__(timeout=None)
        self.plan, self.world = plan, world
        self.begun = 0

    @step(retry_policy=ConstantDelayRetryPolicy(maximum_attempts=_ATTEMPTS, delay=1.0))
    async def go(self, ctx: Context, ev: StartEvent) -> StopEvent:
        """Start children, await them, and tell what they came to."""
        self.begun += 1
        plan, attempt = self.plan, ctx.step_info().attempt
        for n in plan.cancelled:
            handler = ctx.start_run("low", n=n)
            await handler.cancel_run()
            try:
                await handler
            except WorkflowCancelledByUser:
                pass
            else:
                # It may have come to its end before the cancel was durable.
                assert self.world.made[handler.run_id].status == COMPLETED, "a child that was cancelled completed"
        told: list[str] = []
        for number, group in enumerate(plan.groups):
            if attempt <= len(plan.raises) and plan.raises[attempt - 1] == number:
                raise ValueError("so it is planned")
            told += await asyncio.gather(*(ctx.start_run("low", n=n) for n in group))
        for n in plan.left:
            ctx.start_run("low", n=n, parent_close="abandon")
        return StopEvent(result=told)


async def live(plan: Plan, todo: list[tuple[str, int]]) -> None:
    """Have a family live through what is to happen, then to its end; AssertionError if anything is wrong then."""
    world = World(plan)
    run = DurableRun(Above(plan, world), children=world)
    world.run = run
    run.start()
    crashes = 0
    for what, pick in todo:
        await _settle()
        if run.outcome is not None:
            break
        if what == "crash":
            crashes += 1
            if crashes <= _CRASHES:
                if pick % 2 == 0:
                    world.asked.clear()  # who was to start them has crashed, too; else another replica is at it
                await _crash(run)
        else:
            _do(run, world, what, pick)
        _check(plan, world)
    run.let_go()
    quiet, before = 0, (0, 0)
    while quiet < _QUIET:
        await _settle()
        if "outcome" in run.head:
            break
        quiet, before = (quiet + 1 if before == (run.commits, len(world.made)) else 0), (run.commits, len(world.made))
        for what in ("start", "end", "tell"):
            for run_id in _fitting(world, what):
                getattr(world, what)(run_id)
                await _settle()
        run.advance(1.0)
    _check_end(plan, world, run)


async def _crash(run: DurableRun) -> None:
    """Crash and go on; a body that was seen to only wait does not begin again for that."""
    above = run.workflow
    assert isinstance(above, Above)
    waits, begun = any(part["st"] == "parked" for part in run.kept("d")), above.begun
    run.crash_and_recover()
    await _settle()
    assert not waits or above.begun == begun, "a body that waits for children began again after a crash"


def _do(run: DurableRun, world: World, what: str, pick: int) -> None:
    if what in ("start", "end", "tell"):
        found = _fitting(world, what)
        if found:
            getattr(world, what)(found[pick % len(found)])
    elif what == "release":
        run.release()
        run.recover()
    elif what == "hold":
        run.hold()
    elif what == "let_go":
        run.let_go()
        run.advance(float(pick))


def _fitting(world: World, what: str) -> list[str]:
    """Return the children to which something may happen. An end may be told again and again."""
    if what == "start":
        return list(world.asked)
    return [run_id for run_id, made in world.made.items() if made.ended == (what == "tell")]


async def _settle() -> None:
    for _ in range(40):
        await asyncio.sleep(0)


def _check(plan: Plan, world: World) -> None:
    """No place in the plan has two children, but for one that failed and is started anew."""
    good = Counter(made.n for made in world.made.values() if made.status in ("", COMPLETED))
    slots = plan.slots() + Counter(plan.cancelled) + Counter(plan.left)
    assert all(count <= slots[n] for n, count in good.items()), f"children were started twice: {good} for {slots}"
    living = sum(not made.ended for made in world.made.values())
    assert living <= plan.at_once, "more children are under way than may be"


def _check_end(plan: Plan, world: World, run: DurableRun) -> None:
    _check(plan, world)
    outcome = run.outcome
    assert outcome is not None, "the parent waits for ever"
    assert outcome.status == COMPLETED, f"{outcome.status}: {outcome.event!r}"
    told = outcome.event.result
    slots = plan.slots()
    assert [int(each.split()[0]) for each in told] == [n for group in plan.groups for n in group]
    ids = [each.split()[1] for each in told]
    assert len(set(ids)) == len(ids), "one child stands for two"
    assert all(world.made[run_id].status == COMPLETED for run_id in ids)
    for n, count in Counter(made.n for made in world.made.values() if made.n in slots).items():
        failed = sum(made.n == n and made.status == FAILED for made in world.made.values())
        assert count == slots[n] + failed, f"{count} children of {n}, of which {failed} failed, for {slots[n]} places"
    children = run.broker.made_children
    assert children is not None
    kept = [part for part in run.kept("c") if part["p"] == "abandon" and part["st"] in ("queued", "starting")]
    assert run.kept("c") == kept, "the ledger holds children of a delivery that is through"
    assert sorted(part["i"]["n"] for part in kept) == sorted(plan.left), "what is to go on is lost with its parent"
    assert (children.living, children.to_start, children.to_close) == (len(kept), len(kept), 0)
    assert children.total >= len(world.made)
    too_late = sum(made.n in plan.cancelled and made.status == COMPLETED for made in world.made.values())
    assert children.ended[COMPLETED] == len(ids) + too_late
