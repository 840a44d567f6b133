from __future__ import annotations

import asyncio

import pytest

from stepwire.workflow.resource import Resource, ResourceManager


class Connection:
    pass


def connect() -> Connection:
    return Connection()


async def test_a_cached_resource_is_made_once() -> None:
    manager = ResourceManager()
    first = await manager.get(Resource(connect))
    assert await manager.get(Resource(connect)) is first


async def test_without_cache_each_is_new() -> None:
    manager = ResourceManager()
    resource = Resource(connect, cache=False)
    assert await manager.get(resource) is not await manager.get(resource)
    assert manager.get_all() == {}


async def test_a_cached_resource_is_made_once_for_all_who_ask_together() -> None:
    made: list[Connection] = []
    gate = asyncio.Event()

    async def slow() -> Connection:
        await gate.wait()
        made.append(Connection())
        return made[-1]

    manager = ResourceManager()
    asking = [asyncio.create_task(manager.get(Resource(slow))) for _ in range(10)]
    await asyncio.sleep(0)
    gate.set()
    got = await asyncio.gather(*asking)
    assert len(made) == 1
    assert all(one is made[0] for one in got)


async def test_different_factories_of_one_name_do_not_share() -> None:
    def make(number: int) -> Resource[int]:
        def factory() -> int:
            return number

        return Resource(factory)

    manager = ResourceManager()
    one, two = make(1), make(2)
    assert one.name == two.name
    assert [await manager.get(one), await manager.get(two)] == [1, 2]
    assert list(manager.get_all().values()) == [1, 2]
    assert list(manager.get_all()) == [one.name, f"{one.name}#2"]


async def test_a_method_is_the_same_factory_each_time_but_not_on_another_object() -> None:
    class Pool:
        def make(self) -> Connection:
            return Connection()

    pool, other = Pool(), Pool()
    manager = ResourceManager()
    first = await manager.get(Resource(pool.make))
    assert await manager.get(Resource(pool.make)) is first
    assert await manager.get(Resource(other.make)) is not first


async def test_a_factory_that_fails_is_asked_again() -> None:
    answers: list[object] = [RuntimeError("down"), 7]

    async def flaky() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    manager = ResourceManager()
    resource = Resource(flaky)
    with pytest.raises(RuntimeError, match="down"):
        await manager.get(resource)
    assert await manager.get(resource) == 7


async def test_who_waits_outlives_the_cancelled_maker() -> None:
    started = asyncio.Event()
    gate = asyncio.Event()

    async def slow() -> int:
        started.set()
        await gate.wait()
        return 7

    manager = ResourceManager()
    maker = asyncio.create_task(manager.get(Resource(slow)))
    await started.wait()
    waiter = asyncio.create_task(manager.get(Resource(slow)))
    await asyncio.sleep(0)
    maker.cancel()
    gate.set()
    assert await waiter == 7
    with pytest.raises(asyncio.CancelledError):
        await maker


def test_a_manager_serves_one_loop_after_another() -> None:
    manager = ResourceManager()

    async def ask_together() -> list[Connection]:
        return list(await asyncio.gather(*(manager.get(Resource(connect)) for _ in range(3))))

    assert asyncio.run(ask_together()) == asyncio.run(ask_together())


async def test_set_replaces_a_resource_by_its_name() -> None:
    manager = ResourceManager()
    fake = Connection()
    await manager.set("connect", fake)
    assert await manager.get(Resource(connect)) is fake
    assert manager.get_all() == {"connect": fake}


async def test_none_is_a_value_that_is_cached() -> None:
    calls: list[int] = []

    def nothing() -> None:
        calls.append(1)

    manager = ResourceManager()
    resource = Resource(nothing)
    await manager.get(resource)
    await manager.get(resource)
    assert calls == [1]
