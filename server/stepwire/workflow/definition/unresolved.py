"""What stands for the names in annotations that nothing defines when the step is decorated."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar, get_args

__all__ = ["Namespace", "UndefinedContext", "Unresolved", "unresolved_in"]

T = TypeVar("T")


class Unresolved(type):
    """The class of a stand-in, so that `Name | None`, `Name[int]` and `Annotated[Name, …]` evaluate.

    Calling one raises NameError: what an annotation calls, such as Resource, must be there.
    """

    def __new__(cls, name: str) -> Unresolved:
        """Make a stand-in class called `name`."""
        return super().__new__(cls, name, (), {})

    def __init__(cls, name: str) -> None:
        super().__init__(name, (), {})

    def __getattr__(cls, name: str) -> Unresolved:
        if name.startswith("__"):  # typing and inspect ask for these
            raise AttributeError(name)
        return Unresolved(f"{cls.__name__}.{name}")

    def __getitem__(cls, item: object) -> Unresolved:
        return cls

    def __call__(cls, *args: object, **kwargs: object) -> Any:
        """Raise NameError: the name has no class."""
        raise NameError(f"name {cls.__name__!r} is not defined", name=cls.__name__)


class UndefinedContext(Generic[T]):
    """Stand for the engine's Context where an annotation names it and nothing defines it."""


class Namespace(dict[str, Any]):
    """The locals of an annotation: local names, those of the module, builtins, else a stand-in."""

    def __init__(self, local: Mapping[str, Any], module: Mapping[str, Any]) -> None:
        super().__init__(local)
        self._module = module

    def __missing__(self, name: str) -> Any:
        if name in self._module:
            return self._module[name]
        if hasattr(builtins, name):
            return getattr(builtins, name)
        if name == "Context":  # often imported for type checkers only, as nothing else needs it
            return UndefinedContext
        return Unresolved(name)


def unresolved_in(hint: Any) -> Iterator[str]:
    """Iterate over the names in an evaluated annotation that nothing defines."""
    if isinstance(hint, Unresolved):
        yield hint.__name__
    elif isinstance(hint, list | tuple):  # the parameters of a Callable
        for each in hint:
            yield from unresolved_in(each)
    else:
        for each in get_args(hint):
            yield from unresolved_in(each)
