"""What each room of the server gets of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwire.server.config import ConfigError, Settings, is_loopback
from stepwire.server.runs.hosting.retention import Keep, Retention

if TYPE_CHECKING:
    from stepwire.server.web import WebServer

__all__ = ["retention_of", "web_of"]

_WEB_SLACK = 4
"""JSON writes a payload's bytes as base64 and escapes texts: a body may be longer than its message by this factor."""


def retention_of(settings: Settings) -> Retention:
    """Return what is kept of ended runs and of logs."""
    rules = {name: Keep(**rule.model_dump()) for name, rule in settings.retention_workflows.items()}
    default = Keep(age=settings.retention_age, runs=settings.retention_runs, entries=settings.retention_entries)
    return Retention(default=default, workflows=rules)


def web_of(settings: Settings) -> WebServer | None:
    """Return the web face of a server, or None where it is off. ConfigError when its packages are missing."""
    if settings.web is None:
        return None
    try:
        # Imported here: a server without the web starts 0.3 seconds earlier.
        from stepwire.server.web import WebServer, WebSettings
    except ModuleNotFoundError as error:
        raise ConfigError(f"web_address: {error.name} is not installed: pip install 'stepwire[server]'") from None
    hosts = _listed(settings.web_hosts)
    return WebServer(
        WebSettings(
            address=settings.web,
            hosts=hosts if hosts or is_loopback(settings.web) else None,
            origins=_listed(settings.web_origins),
            tls_cert=settings.tls_cert,
            tls_key=settings.tls_key,
            max_body=_WEB_SLACK * settings.max_message_bytes,
            optional=settings.web_is_default,
        )
    )


def _listed(text: str) -> list[str]:
    return [each for each in map(str.strip, text.split(",")) if each]
