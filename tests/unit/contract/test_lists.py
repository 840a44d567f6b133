"""The contract of a RunStore: lists, counts, pauses and what is due."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.contract.support import SERVED, create, ids, record

from stepwire.server.store import (
    Commit,
    RunKey,
    RunQuery,
    RunStore,
    Status,
    WorkflowPause,
)
from stepwire.server.store.limits import LIST_BYTES


async def test_list_filters(store: RunStore) -> None:
    await create(store, "a", created_at=1.0, labels={"team": "x", "tier": "1"})
    await create(store, "b", created_at=2.0, workflow="mail", labels={"team": "x"})
    await create(store, "c", created_at=3.0, status=Status.WAITING, labels={"team": "y"})
    await create(store, "d", created_at=4.0, status=Status.BLOCKED, workflow="mail")
    await create(store, "e", created_at=5.0, namespace="other")
    assert await ids(store) == ["d", "c", "b", "a"]
    assert await ids(store, namespace="other") == ["e"]
    assert await ids(store, workflow="mail") == ["d", "b"]
    assert await ids(store, statuses=[Status.WAITING, Status.BLOCKED]) == ["d", "c"]
    assert await ids(store, statuses=[Status.RUNNING], workflow="mail") == ["b"]
    assert await ids(store, statuses=[Status.FAILED]) == []
    assert await ids(store, labels={"team": "x"}) == ["b", "a"]
    assert await ids(store, labels={"team": "x", "tier": "1"}) == ["a"]
    assert await ids(store, labels={"tier": "2"}) == []
    assert await ids(store, created_after=2.0) == ["d", "c"]
    assert await ids(store, created_before=2.0) == ["a"]
    assert await ids(store, created_after=1.0, created_before=4.0) == ["c", "b"]
    assert await ids(store, limit=2) == ["d", "c"]


async def test_pages_of_runs_created_at_the_same_time(store: RunStore) -> None:
    statuses = [Status.RUNNING, Status.COMPLETED, Status.WAITING]
    for n in range(10):
        await create(store, f"r{n}", created_at=float(n // 5), status=statuses[n % 3])
    expected = [f"r{n}" for n in reversed(range(10))]
    seen: list[str] = []
    before = None
    while page := await store.list(RunQuery(namespace="default", before=before, limit=3)):
        seen += [found.key.run_id for found in page]
        before = (page[-1].created_at, page[-1].key.run_id)
    assert seen == expected
    running = [run_id for n, run_id in enumerate(expected) if (9 - n) % 3 == 0]
    assert await ids(store, statuses=[Status.RUNNING], before=(1.0, "r9")) == running[1:]


async def test_a_page_is_bounded_by_bytes_and_pages_leave_nothing_out(store: RunStore) -> None:
    statuses = [Status.COMPLETED, Status.WAITING, Status.FAILED]
    big = {"outcome": {"result": "x" * (LIST_BYTES // 4)}}
    for n in range(24):
        info = big if n % 4 else {}
        await create(store, f"r{n:02}", created_at=float(n // 2), status=statuses[n % 3], info=info, labels={"a": "b"})
    expected = [f"r{n:02}" for n in reversed(range(24))]
    for fields in ({}, {"labels": {"a": "b"}}, {"statuses": statuses}):
        seen: list[str] = []
        before = None
        pages = 0
        while page := await store.list(RunQuery(namespace="default", before=before, limit=1000, **fields)):
            assert sum(len(str(found.info)) for found in page) <= LIST_BYTES * 1.3
            seen += [found.key.run_id for found in page]
            before = (page[-1].created_at, page[-1].key.run_id)
            pages += 1
        assert seen == expected
        assert 4 <= pages <= 18


async def test_list_by_terms_ids_and_ends(store: RunStore) -> None:
    claims = {}
    for n, (run_id, terms) in enumerate(
        {
            "order-1": ("by=ada", "error=ValueError", "step=pay"),
            "order-2": ("by=ada", "step=pay"),
            "order-10": ("by=bob", "error=ValueError"),
            "mail-1": (),
        }.items()
    ):
        claims[run_id] = await create(store, run_id, created_at=float(n), terms=terms)
    assert await ids(store, terms=["by=ada"]) == ["order-2", "order-1"]
    assert list(await store.terms_of(RunKey("default", "order-1"), "error")) == ["ValueError"]
    assert list(await store.terms_of(RunKey("default", "order-2"), "error")) == []
    assert await ids(store, terms=["by=ada", "error=ValueError"]) == ["order-1"]
    assert await ids(store, terms=["by=ad"]) == []
    assert await ids(store, terms=["by=ada"], workflow="mail") == []
    assert await ids(store, terms=["by=ada"], workflow="orders", limit=1) == ["order-2"]
    assert await ids(store, terms=["by=ada"], before=(1.0, "order-2")) == ["order-1"]
    assert await ids(store, terms=["by=ada"], statuses=[Status.RUNNING]) == ["order-2", "order-1"]
    assert await ids(store, terms=["by=ada"], statuses=[Status.FAILED]) == []
    assert await ids(store, terms=["by=ada"], labels={"a": "b"}) == []
    assert await ids(store, run_id_prefix="order-1") == ["order-10", "order-1"]
    assert await ids(store, run_id_prefix="order-1", terms=["by=ada"]) == ["order-1"]
    assert await ids(store, run_id_prefix="order-%") == []
    assert await ids(store, run_id_prefix="", limit=2) == ["mail-1", "order-10"]
    # They change with commits, and only theirs.
    ended = record("order-1", created_at=0.0, status=Status.FAILED, ended_at=50.0, terms=("by=ada", "error=KeyError"))
    await store.commit(Commit(ended, claims["order-1"], b"d", full=False))
    late = record("order-2", created_at=1.0, status=Status.FAILED, ended_at=60.0, terms=("by=ada", "step=pay"))
    await store.commit(Commit(late, claims["order-2"], b"d", full=False))
    assert (await ids(store, terms=["error=ValueError"])) == ["order-10"]
    assert (await ids(store, terms=["error=KeyError"])) == ["order-1"]
    assert (await ids(store, terms=["step=pay"])) == ["order-2"]
    found = await store.get(ended.key)
    assert found is not None
    assert found.terms == ("by=ada", "error=KeyError")
    assert await ids(store, ended_after=49.0) == ["order-2", "order-1"]
    assert await ids(store, ended_after=50.0) == ["order-2"]
    assert await ids(store, ended_before=60.0) == ["order-1"]
    assert await ids(store, ended_after=50.0, ended_before=60.0) == []
    assert await ids(store, ended_after=0.0, statuses=[Status.RUNNING]) == []
    assert await ids(store, ended_after=0.0, terms=["step=pay"], run_id_prefix="order") == ["order-2"]
    await store.delete(late.key)
    assert await ids(store, terms=["step=pay"]) == []
    assert await ids(store, ended_after=0.0) == ["order-1"]


async def test_counts(store: RunStore) -> None:
    await create(store, "a")
    await create(store, "b", namespace="other")
    claim = await create(store, "c", workflow="mail")
    ended = replace(record("c", workflow="mail"), status=Status.FAILED)
    await store.commit(Commit(ended, claim, b"d", full=False))
    assert await store.counts() == {("orders", "RUNNING"): 2, ("mail", "FAILED"): 1}


async def test_pauses(store: RunStore) -> None:
    assert list(await store.pauses()) == []
    first = WorkflowPause("default", "orders", 5.0, "ada", "the bank is down", 0.0, False)
    other = WorkflowPause("other", "orders", 6.0, "bob", "", 1.5, True)
    await store.save_pause(first)
    await store.save_pause(other)
    assert sorted(await store.pauses()) == [first, other]
    ended = first._replace(since=None, total=7.5, waking=True)
    await store.save_pause(ended)
    assert set(await store.pauses()) == {ended, other}


async def test_due_and_next_wake(store: RunStore) -> None:
    await create(store, "later", status=Status.WAITING, wake_at=50.0)
    await create(store, "now", status=Status.QUEUED, wake_at=0.0)
    await create(store, "soon", status=Status.RUNNING, wake_at=20.0, namespace="other")
    await create(store, "never", status=Status.WAITING, wake_at=None)
    await create(store, "blocked", status=Status.BLOCKED, wake_at=1.0)
    await create(store, "paused", status=Status.PAUSED, wake_at=70.0)
    for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TIMED_OUT):
        await create(store, status, status=status, wake_at=1.0)
    await create(store, "foreign", status=Status.QUEUED, wake_at=0.0, workflow="unserved")
    due = await store.due(20.0, 10, workflows=SERVED)
    assert [run.key for run in due] == [RunKey("default", "now"), RunKey("other", "soon")]
    first = await store.due(99.0, 1, workflows=SERVED)
    assert [run.key for run in first] == [RunKey("default", "now")]
    place = (first[0].wake_at, first[0].handle)
    following = await store.due(99.0, 10, workflows=SERVED, after=place)
    assert [run.key.run_id for run in following] == ["soon", "later", "paused"]
    assert await store.due(-1.0, 10, workflows=SERVED) == []
    assert await store.namespaces() == ["default", "other"]
    assert await store.next_wake(-1.0, workflows=SERVED) == 0.0
    assert await store.next_wake(0.0, workflows=SERVED) == 20.0
    assert await store.next_wake(20.0, workflows=SERVED) == 50.0
    assert await store.next_wake(50.0, workflows=SERVED) == 70.0
    assert await store.next_wake(70.0, workflows=SERVED) is None
    claim = await store.claim(RunKey("default", "later"))
    assert claim is not None
    await store.commit(Commit(record("later", wake_at=30.0), claim, b"d", full=False))
    assert await store.next_wake(20.0, workflows=SERVED) == 30.0


async def test_ended_runs_in_order(store: RunStore) -> None:
    await create(store, "short", status=Status.COMPLETED, ended_at=1.0, last_sequence=2)
    await create(store, "second", status=Status.FAILED, ended_at=5.0, last_sequence=9)
    await create(store, "third", status=Status.COMPLETED, ended_at=5.0, last_sequence=9, namespace="other")
    await create(store, "first", status=Status.CANCELLED, ended_at=3.0, last_sequence=9)
    await create(store, "lives", status=Status.RUNNING, last_sequence=9)
    found = await store.ended((0.0, 0), 10)
    assert [run.key.run_id for run in found] == ["short", "first", "second", "third"]
    assert [run.ended_at for run in found] == [1.0, 3.0, 5.0, 5.0]
    page = await store.ended((1.0, found[0].handle), 2, longer_than=2)
    assert page == found[1:3]
    assert await store.ended((page[-1].ended_at, page[-1].handle), 2, longer_than=2) == found[3:]
    assert await store.ended((5.0, found[3].handle), 2) == []
    assert await store.ended((0.0, 0), 10, before=5.0) == found[:2]
