"""Stand-ins for names in annotations that are not defined when the step is decorated.

A service, or the type of a resource, may have a name that only type checkers see (`if TYPE_CHECKING`). Evaluating the
annotation must not fail for that, so the name evaluates to a stand-in class.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar, get_args

__all__ = ["Namespace", "UndefinedContext", "Unresolved", "unresolved_in"]

T = TypeVar("T")


class Unresolved(type):
    """Be the class of a stand-in, so that `Name | None`, `Name[int]` and `Annotated[Name, …]` evaluate.

    Calling a stand-in raises NameError: a name that an annotation calls, such as Resource, must be defined.
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
        """Raise NameError: the name is not defined."""
        raise NameError(f"name {cls.__name__!r} is not defined", name=cls.__name__)


class UndefinedContext(Generic[T]):
    """Stand for the engine's Context where an annotation names it and nothing defines it."""


class Namespace(dict[str, Any]):
    """Resolve the names of an annotation; a name that nothing defines gives a stand-in.

    Args:
        local: The local names around the step, which come first.
        module: The names of the step's module, which come before builtins.
    """

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
    """Yield the undefined names in an evaluated annotation."""
    if isinstance(hint, Unresolved):
        yield hint.__name__
    elif isinstance(hint, list | tuple):  # the parameters of a Callable
        for each in hint:
            yield from unresolved_in(each)
    else:
        for each in get_args(hint):
            yield from unresolved_in(each)
