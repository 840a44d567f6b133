"""Resources: what steps get from a factory, by `Annotated[T, Resource(factory)]`."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from types import MethodType
from typing import Any, Generic, TypeVar, overload
from weakref import WeakKeyDictionary

from stepwire.workflow.checks import kind_of

__all__ = ["Resource", "ResourceDefinition", "ResourceManager"]

T = TypeVar("T")


class Resource(Generic[T]):
    """Mark a step's parameter as made by `factory`, a function without parameters, sync or async.

    With `cache` the manager calls it once and passes the same object to every step.
    """

    @overload
    def __init__(self, factory: Callable[[], Awaitable[T]], cache: bool = True) -> None: ...
    @overload
    def __init__(self, factory: Callable[[], T], cache: bool = True) -> None: ...
    def __init__(self, factory: Callable[[], Any], cache: bool = True) -> None:
        if not callable(factory):
            raise TypeError(f"Resource takes the function that makes the object, not {kind_of(factory)}")
        self.factory = factory
        self.cache = cache

    @property
    def name(self) -> str:
        """Return the factory's qualified name; two factories may have the same."""
        return getattr(self.factory, "__qualname__", type(self.factory).__qualname__)

    @property
    def key(self) -> Hashable:
        """Return what identifies the factory while it lives."""
        if isinstance(self.factory, MethodType):  # every access to a method makes a new object
            return id(self.factory.__self__), id(self.factory.__func__)
        return id(self.factory)

    async def call(self) -> T:
        """Make the object."""
        made = self.factory()
        value: T = await made if inspect.isawaitable(made) else made
        return value

    def __repr__(self) -> str:
        return f"Resource({self.name}, cache={self.cache})"


@dataclass(frozen=True)
class ResourceDefinition:
    """Describe a parameter of a step that a resource is passed to."""

    name: str
    resource: Resource[Any]


@dataclass(frozen=True)
class _Made:
    resource: Resource[Any]  # keeps the factory alive, and so its key unique
    value: Any


class ResourceManager:
    """Make resources, and keep those that are cached."""

    def __init__(self) -> None:
        self._set: dict[str, Any] = {}
        self._made: dict[Hashable, _Made] = {}
        # Per loop: a workflow may run in one loop after another, and a lock belongs to one.
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, asyncio.Lock]] = WeakKeyDictionary()

    async def set(self, name: str, val: Any) -> None:
        """Use `val` for every cached resource whose `Resource.name` is `name`."""
        self._set[name] = val

    async def get(self, resource: Resource[T]) -> T:
        """Return the resource, making it if need be.

        A cached one is made once however many steps ask at the same time. When its factory
        raises, that goes to the one who asked, and the next one asks the factory again.
        """
        if not resource.cache:
            return await resource.call()
        if resource.name in self._set:
            value: T = self._set[resource.name]
            return value
        key = resource.key
        if key not in self._made:
            locks = self._locks.setdefault(asyncio.get_running_loop(), {})
            async with locks.setdefault(key, asyncio.Lock()):
                if key not in self._made:
                    self._made[key] = _Made(resource, await resource.call())
            locks.pop(key, None)
        made: T = self._made[key].value
        return made

    def get_all(self) -> dict[str, Any]:
        """Return the cached resources by name; further ones of the same name get `#2` and so on."""
        named = dict(self._set)
        for made in self._made.values():
            name, count = made.resource.name, 1
            while name in named:
                count += 1
                name = f"{made.resource.name}#{count}"
            named[name] = made.value
        return named
