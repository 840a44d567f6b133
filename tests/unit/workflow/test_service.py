from __future__ import annotations

import pytest

from stepwire.workflow.service import ServiceManager, ServiceNotFoundError


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
