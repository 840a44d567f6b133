"""No two layers have an error of the same name: a traceback and an `except` say which layer is meant."""

from __future__ import annotations

import inspect
from collections import Counter
from types import ModuleType

import stepwire.server.runs.errors
import stepwire.server.store
import stepwire.workflow.errors
from stepwire.server.store import StoreError


def _errors(module: ModuleType) -> set[type[BaseException]]:
    return {found for _, found in inspect.getmembers(module, inspect.isclass) if issubclass(found, BaseException)}


def test_errors_of_two_layers_have_different_names() -> None:
    of_the_store = {found for found in _errors(stepwire.server.store) if issubclass(found, StoreError)}
    found = _errors(stepwire.server.runs.errors) | _errors(stepwire.workflow.errors) | of_the_store
    assert len(found) > 30
    assert [name for name, count in Counter(error.__name__ for error in found).items() if count > 1] == []
