from __future__ import annotations

import pytest

from stepwire.workflow.service import ServiceDefinition, ServiceManager, ServiceNotFoundError


def test_a_service_is_found_by_name() -> None:
    services = ServiceManager()
    first, second = object(), object()
    services.add("a", first)
    assert services.get("a") is first
    services.add("a", second)
    assert services.get("a") is second
    assert "a" in services
    assert list(services) == ["a"]
    assert len(services) == 1


def test_a_missing_service_is_an_error_naming_it() -> None:
    with pytest.raises(ServiceNotFoundError, match="'weather'") as caught:
        ServiceManager().get("weather")
    assert caught.value.name == "weather"


def test_a_default_is_used_also_when_it_is_none() -> None:
    assert ServiceManager().get("a", 3) == 3
    assert ServiceManager().get("a", None) is None


def test_a_definition_without_a_default_asks_for_the_service() -> None:
    required, optional = ServiceDefinition("a", int), ServiceDefinition("a", int, None)
    assert (required.has_default, optional.has_default) == (False, True)
    with pytest.raises(ServiceNotFoundError):
        ServiceManager().get(required.name, required.default_value)
    assert ServiceManager().get(optional.name, optional.default_value) is None
