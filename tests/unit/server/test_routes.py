"""Which replica has a run or is to have it, when replicas are not reached at their addresses."""

from __future__ import annotations

from typing import Any, cast

import pytest
from tests.unit.server.others import Others

from stepwire.server.principal import ANONYMOUS
from stepwire.server.rpc.peers.acting import Actor
from stepwire.server.rpc.peers.family_calls import PeerCalls
from stepwire.server.runs.errors import PeerSilentError, RunElsewhereError, StoreDownError
from stepwire.server.runs.family.calls import FamilyCalls
from stepwire.server.runs.hosting.replicas import routes as routing
from stepwire.server.runs.hosting.replicas.routes import Routes
from stepwire.server.store import Owner, Peer, RunKey

KEY = RunKey("default", "r1")


def chosen(routes: Routes, run_id: str) -> int:
    with pytest.raises(RunElsewhereError) as elsewhere:
        routes.for_start("orders", run_id)
    return elsewhere.value.replica


def test_a_run_is_started_at_a_replica_that_is_reached_if_there_is_one() -> None:
    others = Others()
    others.alive = [Peer(id_, f"there:{id_}", {"orders": "1"}) for id_ in (1, 2, 3)]
    routes = Routes(others)
    unreached: set[int] = set()
    routes.unreached = lambda: unreached
    runs = [f"r{number}" for number in range(50)]
    assert {chosen(routes, run) for run in runs} == {1, 2, 3}
    unreached = {1, 3}
    assert {chosen(routes, run) for run in runs} == {2}
    unreached = {1, 2, 3}
    assert {chosen(routes, run) for run in runs} == {1, 2, 3}


async def test_a_replica_that_joined_a_moment_ago_can_start_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    others = Others()

    async def serving(workflow: str, code: str | None) -> list[Owner]:
        return [Owner(4, "there:4")] if (workflow, code) in (("orders", None), ("~own", None)) else []

    monkeypatch.setattr(others, "serving", serving)
    with pytest.raises(RunElsewhereError) as elsewhere:
        await Routes(others).for_start_anywhere("orders", "r1")
    assert (elsewhere.value.address, elsewhere.value.replica) == ("there:4", 4)
    await Routes(others).for_start_anywhere("payments", "r1")
    await Routes(others).for_start_anywhere("~own", "r1")  # no caller can name it


@pytest.mark.parametrize("left", [[], [Peer(1, "there:1", {}, draining=True)]])
def test_the_owner_of_a_run_is_looked_up_when_it_drains_or_is_gone(left: list[Peer]) -> None:
    others = Others()
    others.alive = [Peer(1, "there:1", {})]
    routes = Routes(others)
    routes.learn(KEY, RunElsewhereError("there:1", replica=1))
    with pytest.raises(RunElsewhereError):
        routes.follow(KEY)
    others.alive = left
    routes.follow(KEY)
    others.alive = [Peer(1, "there:1", {})]
    routes.follow(KEY)  # it is forgotten


class Silent:
    """Other replicas, none of which does what it is asked for."""

    error: Exception | None = PeerSilentError("there is nobody")

    async def act(self, *given: Any) -> None:
        if self.error is not None:
            raise self.error


class Elsewhere:
    """What a family does here: nothing, because another replica has the run."""

    async def cancel(self, *given: Any) -> None:
        raise RunElsewhereError("there:1", KEY, 1)


async def test_a_family_takes_a_run_whose_owner_has_not_answered_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(routing, "monotonic", lambda: now)
    routes, silent = Routes(Others()), Silent()
    calls = PeerCalls(cast(FamilyCalls, Elsewhere()), routes, cast(Actor, silent))

    async def cancel(error: Exception | None) -> bool:
        silent.error = error
        if error is None:
            await calls.cancel(ANONYMOUS, "r1", "why")
        else:
            with pytest.raises(StoreDownError):
                await calls.cancel(ANONYMOUS, "r1", "why")
        return routes.forced(KEY)

    assert not await cancel(PeerSilentError("1"))
    now += 2.0
    assert not await cancel(PeerSilentError("2"))
    now += 0.5
    assert not await cancel(None)  # it has answered: the time begins anew
    now += 1.0
    assert not await cancel(PeerSilentError("3"))
    now += 5.0
    assert not await cancel(StoreDownError("it may do it later"))
    assert await cancel(PeerSilentError("4"))
    assert not await cancel(PeerSilentError("5"))
    now += 100.0
    assert not await cancel(PeerSilentError("6")), "nobody had called it for long"


async def test_a_family_does_itself_what_another_replica_names_this_one_for() -> None:
    done: list[str] = []

    class Released:
        async def cancel(self, *given: Any) -> None:
            done.append("here")
            if len(done) == 1:
                raise RunElsewhereError("there:1", KEY, 1)

    class Naming:
        async def act(self, address: str, *given: Any) -> None:
            done.append(address)
            raise RunElsewhereError("here:2", replica=2)

    calls = PeerCalls(cast(FamilyCalls, Released()), Routes(Others()), cast(Actor, Naming()))
    calls.own = "here:2"
    await calls.cancel(ANONYMOUS, "r1", "why")
    assert done == ["here", "there:1", "here"]
