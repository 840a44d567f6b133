"""Stores of state, and what the tests see of them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, PrivateAttr, model_validator

from stepwire.workflow.errors import (
    SerializationError,
)
from stepwire.workflow.state.hooks import StateHooks, StateValues
from stepwire.workflow.state.store import (
    DictState,
    InMemoryStateStore,
)


class Part(BaseModel):
    n: int = 0


class Typed(BaseModel):
    count: int = 0
    names: list[str] = Field(default_factory=list)
    part: Part = Field(default_factory=Part)
    low: int = 0
    high: int = 10
    _kept: int = PrivateAttr(default=1)

    @model_validator(mode="after")
    def _ordered(self) -> Typed:
        if self.low > self.high:
            raise ValueError("low above high")
        return self


class Required(BaseModel):
    needed: int
    other: int = 0


class Hooks(StateHooks):
    """Record what the store tells its run."""

    def __init__(self, store: InMemoryStateStore[Any]) -> None:
        self.checks: list[dict[str, Any]] = []
        self.changes: list[set[str]] = []
        self.loans: list[str] = []
        self.refuse = False
        store.hooks = self

    def reading(self, store: StateValues) -> None:
        pass

    def changed(self, keys: set[str]) -> None:
        self.changes.append(keys)

    def lent(self, key: str) -> None:
        self.loans.append(key)

    def check(self, store: StateValues, values: dict[str, Any]) -> None:
        self.checks.append(dict(values))
        if self.refuse:
            raise SerializationError("no", keys=("k",))


def plain(**values: Any) -> InMemoryStateStore[DictState]:
    return InMemoryStateStore(DictState(**values))
