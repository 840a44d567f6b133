"""Resources, and resources of resources."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel
from tests.llamaindex.beside.harness import Engine, flow, of
from workflows import Context, Workflow, step
from workflows.events import (
    Event,
    StartEvent,
    StopEvent,
)
from workflows.resource import Resource, ResourceConfig, ResourceManager


class A(Event):
    n: int = 0


class Settings(BaseModel):
    colour: str
    deep: int = 0


@dataclass
class Pool:
    name: str
    number: int


MADE: list[str] = []


def one_pool() -> Pool:
    MADE.append("one")
    return Pool("one", len(MADE))


async def fresh(pool: Annotated[Pool, Resource(one_pool)]) -> Pool:
    MADE.append("fresh")
    return Pool(f"fresh of {pool.name}", len(MADE))


@flow
async def resources_and_resources_of_resources(engine: Engine) -> Any:
    MADE.clear()

    class Flow(Workflow):
        @step
        async def first(
            self,
            ev: StartEvent,
            pool: Annotated[Pool, Resource(one_pool)],
            made: Annotated[Pool, Resource(fresh, cache=False)],
        ) -> A:
            self.seen = [pool.name, made.name]
            return A()

        @step
        async def second(
            self,
            ctx: Context,
            ev: A,
            pool: Annotated[Pool, Resource(one_pool)],
            made: Annotated[Pool, Resource(fresh, cache=False)],
        ) -> StopEvent:
            return StopEvent(result=(self.seen, pool.name, made.name))

    manager = ResourceManager()
    workflow = Flow(timeout=60, resource_manager=manager)
    results = [await of(engine(workflow).run()) for _ in range(2)]
    return results, list(MADE)


@flow
async def settings_from_a_file(engine: Engine) -> Any:
    folder = Path(__file__).with_name("settings.json")

    class Flow(Workflow):
        @step
        async def only(
            self,
            ev: StartEvent,
            settings: Annotated[Settings, ResourceConfig(config_file=str(folder))],
            part: Annotated[Settings, ResourceConfig(config_file=str(folder), path_selector="inner")],
        ) -> StopEvent:
            return StopEvent(result=(settings, part))

    return await of(engine(Flow()).run())


@flow
async def a_resource_that_fails(engine: Engine) -> Any:
    def broken() -> Pool:
        raise OSError("no pool")

    class Flow(Workflow):
        @step
        async def only(self, ev: StartEvent, pool: Annotated[Pool, Resource(broken)]) -> StopEvent:
            return StopEvent(result=pool)

    return await of(engine(Flow(timeout=60)).run())
