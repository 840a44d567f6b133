"""Examine everything that a server needs, without starting one, for `stepwire doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stepwire.server.config import Settings
from stepwire.server.doctor.check import Check
from stepwire.server.doctor.data_directory import clock, data
from stepwire.server.doctor.environment import packages, python, workflows
from stepwire.server.doctor.network import access, addresses, tls, traces
from stepwire.server.doctor.new_code import new_code
from stepwire.server.registry import Registry

__all__ = ["Check", "examine", "examine_environment"]


def examine_environment(specs: Sequence[str], registry: Registry) -> Iterator[Check]:
    """Check the interpreter, the packages, and the workflows, which are added to the registry."""
    yield python()
    yield packages()
    if specs:
        yield workflows(specs, registry)


def examine(settings: Settings, registry: Registry) -> Iterator[Check]:
    """Check what the settings name. Changes nothing; a server may be running on it."""
    last_change = yield from data(settings, registry)
    yield from new_code(settings, registry)
    yield clock(last_change)
    yield from addresses(settings)
    yield from tls(settings)
    yield from access(settings, registry)
    yield from traces(settings)
