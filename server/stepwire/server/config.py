"""The settings of a server. Precedence: flags, the environment, the TOML file, defaults.

`Settings.load` takes flags as keywords. Any wrong setting stops the start with a `ConfigError` that names it.
`config_table` makes the documentation and the options of the command line from the fields here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from stepwire.server.addresses import UNIX, check_address, is_loopback
from stepwire.server.config_errors import PREFIX, ConfigError, check_names, told
from stepwire.server.config_types import Address, Count, Depth, Directory, Entries, File, Quota, Seconds, Size

__all__ = ["RetentionRule", "Settings"]

WEB_OFF: Final = "off"
"""The value of `web_address` that serves no web."""
DEFAULT_WEB_PORT: Final = 50080

_ENDPOINT: Final = re.compile(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?/?")
QUOTAS: Final = {"max_runs": 100_000, "max_streams": 1000, "max_waiters": 10_000, "max_events_per_second": 5000}
"""Limits of each principal when authentication is on and the setting is not given."""


class RetentionRule(BaseModel):
    """How long the runs of one workflow are kept; None: as the general settings say."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    age: Seconds | None = None
    runs: Count | None = None
    entries: Entries | None = None


class Settings(BaseSettings):
    """How to serve.

    Times are seconds, or texts with a unit (`5m`); sizes are bytes, or texts with a unit (`16MiB`).
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        nested_model_default_partial_update=True,
    )
    _file: ClassVar[Path | None] = None
    _web_is_default: bool = PrivateAttr(False)

    # Serving
    address: Address = Field("127.0.0.1:50051", description="Where to listen, HOST:PORT. Port 0 picks a free port.")
    data: Directory = Field(
        "stepwire-data",
        description="The data directory, `postgres://USER@HOST/DATABASE`, or `:memory:` to keep nothing.",
    )
    advertise: Address | None = Field(
        None,
        description="Where replicas on the same PostgreSQL reach this one and no other, HOST:PORT."
        " Unset: where it listens.",
    )
    cluster_key: File | None = Field(
        None,
        description="The key with which replicas sign what they pass on to each other; at least 32 bytes."
        " Unset: one that the database keeps.",
    )
    accept_cluster_key: File | None = Field(
        None,
        description="Another key that is accepted from replicas, while they change to another `cluster_key`.",
    )
    snapshot_key: File | None = Field(
        None,
        description="The key that signs snapshots, at least 32 bytes. Unset: one in the data directory or database.",
    )
    peer_ca: File | None = Field(
        None,
        description="The roots (PEM) that signed the other replicas' certificates. Unset: `client_ca`, else the usual.",
    )
    lease: Annotated[Seconds, Field(ge=1, le=60)] = Field(
        3.0, description="How long a replica may give no sign of life before the others take its runs over."
    )
    schedule_namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = Field(
        "default", description="The namespace of the schedules that the code of workflows declares, and of their runs."
    )
    idle_after: Seconds = Field(60.0, description="How long a run may only wait before it is released from memory.")
    grace: Seconds = Field(5.0, description="How long running steps may continue when the server stops.")
    failure_detail: Literal["type", "message", "traceback"] | None = Field(
        None, description="What clients see of a step's error. Unset: `message` on loopback, `type` elsewhere."
    )
    reflection: bool | None = Field(None, description="Serve gRPC reflection. Unset: on loopback only.")

    # The web
    web_address: Address | None = Field(
        None,
        description="Where to serve browsers and curl over HTTP, HOST:PORT, or `off`."
        " Unset: `stepwire serve` takes port 50080 while `address` is on loopback.",
    )
    web_hosts: str = Field("", description="Names by which browsers may call, besides loopback's; commas between them.")
    web_origins: str = Field(
        "", description="Origins of pages that may call, as `https://app.example.com`; commas between them."
    )

    # What operators see
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The lowest level that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines for people (`text`) or one JSON object a line (`json`)."
    )
    audit_log: str | None = Field(
        None,
        description="Where to record who changed what: a file of JSON lines, or `log` for the process's log. Unset:"
        " nowhere.",
    )
    execution_log: Literal["off", "failures", "all"] = Field(
        "all",
        description="Which attempts at steps the logs of runs record as internal entries: `all`, those that failed,"
        " timed out or were lost (`failures`), or none (`off`).",
    )
    otlp_endpoint: str | None = Field(
        None,
        description="The OTLP (gRPC) collector of traces, as `http://host:4317`. Unset: the OTEL_* variables decide.",
    )
    admin_address: Address | None = Field(
        None, description="Where to serve /metrics, /healthz and /readyz over HTTP, HOST:PORT. Unset: nowhere."
    )
    watchdog: Seconds = Field(
        0.1, description="How long a step may block the event loop before the log names it; 0: never."
    )

    # TLS and access
    tls_cert: File | None = Field(None, description="The server's certificate chain (PEM). Read again when it changes.")
    tls_key: File | None = Field(None, description="The private key of `tls_cert` (PEM).")
    client_ca: File | None = Field(
        None, description="The roots (PEM) that must have signed the clients' certificates: mutual TLS."
    )
    api_keys: File | None = Field(
        None,
        description="The access file (TOML): hashed API keys and client certificates, their namespaces and scopes.",
    )
    jwks: File | None = Field(None, description="The public keys (JWKS) that verify JSON Web Tokens.")
    jwt_issuer: str | None = Field(None, description="The `iss` that tokens must carry.")
    jwt_audience: str | None = Field(None, description="The `aud` that tokens must carry. Required with `jwks`.")
    jwt_leeway: Annotated[Seconds, Field(ge=0, le=300)] = Field(
        10.0, description="How far the clock of a token's issuer may differ from the server's."
    )
    insecure: bool = Field(False, description="Listen beyond loopback without TLS or authentication.")

    # Limits
    max_message_bytes: Size = Field(16 << 20, description="The largest request message.")
    max_event_bytes: Size = Field(1 << 20, description="The largest payload of an event or an input.")
    max_entry_bytes: Size = Field(
        3 << 20,
        description="The largest event that a step may send, write or end its run with. Beyond 3 MiB, clients must"
        " accept larger messages than gRPC's default of 4 MiB.",
    )
    max_state_bytes: Size = Field(
        8 << 20, description="The largest state of a run. Each value of a write counts for 16 bytes at least."
    )
    max_snapshot_bytes: Size = Field(16 << 20, description="The largest snapshot that StartRun accepts.")
    max_depth: Depth = Field(100, description="How deep a payload may be nested. Checked before it is parsed.")
    max_calls: Count = Field(1024, description="Concurrent calls, without streams and waits.")
    max_runs: Quota | None = Field(
        None, description="Unfinished runs of a principal. Unset: 100,000 with authentication; 0: no limit."
    )
    max_streams: Quota | None = Field(
        None, description="Open streams of a principal. Unset: 1,000 with authentication; 0: no limit."
    )
    max_waiters: Quota | None = Field(
        None,
        description="Open WaitRun and WaitForEvent of a principal. Unset: 10,000 with authentication; 0: no limit.",
    )
    max_events_per_second: Quota | None = Field(
        None, description="Events and starts of a principal per second. Unset: 5,000 with authentication; 0: no limit."
    )
    max_children: Count = Field(
        100, description="How many runs that steps of a run have started are under way at a time; more wait, in order."
    )
    max_children_total: Count = Field(100_000, description="How many runs the steps of a run may start in all.")
    max_child_depth: Annotated[Count, Field(le=64)] = Field(
        16, description="How deep runs may be nested: 1 for children that start none themselves."
    )
    max_queued_events: Count = Field(
        200_000, description="How many open deliveries a run may have; a run whose steps make more fails."
    )
    max_log_entries: Count = Field(
        1_000_000, description="How long a run's log may be; a run whose steps make it longer fails."
    )
    sync_threads: Count = Field(64, description="Threads for sync steps. A run holds a quarter of them at most.")
    max_sync_backlog: Count = Field(
        10_000, description="How many sync steps may wait for a thread before new runs and events are refused."
    )
    stalled_after: Seconds = Field(
        30.0, description="How long a client may read nothing of its stream before the stream ends; 0: for ever."
    )
    heartbeat: Annotated[Seconds, Field(gt=0)] = Field(15.0, description="How often a quiet stream sends a heartbeat.")

    # Retention
    retention_age: Seconds | None = Field(None, description="How long ended runs are kept. Unset: for ever.")
    retention_runs: Count | None = Field(
        None, description="How many ended runs are kept of each workflow in each namespace. Unset: all."
    )
    retention_entries: Entries | None = Field(
        None, description="How many of its newest log entries a run keeps at least; 1,000 or more. Unset: all."
    )
    retention_workflows: dict[str, RetentionRule] = Field(
        default_factory=dict,
        description="Rules for single workflows: tables with `age`, `runs` and `entries` (JSON in the environment).",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if cls._file is not None:
            sources.append(TomlConfigSettingsSource(settings_cls, cls._file))
        return tuple(sources)

    @classmethod
    def load(cls, config: Path | None = None, **flags: Any) -> Settings:
        """Load the settings of a start.

        Args:
            config: The TOML file, or None.
            **flags: Values by name of the setting; None means that the flag was not given.

        Raises:
            ConfigError: A setting is wrong, or the file or the environment cannot be read.
        """
        given = {name: value for name, value in flags.items() if value is not None}
        check_names(os.environ, cls.model_fields)
        source = cls
        if config is not None:
            if not config.is_file():
                raise ConfigError(f"config: there is no file {config}")
            source = type("Settings", (cls,), {"_file": config, "__module__": cls.__module__, "__doc__": cls.__doc__})
        try:
            return source(**given)
        except ValidationError as error:
            raise ConfigError(told(error, config)) from None
        except SettingsError as error:
            field = re.search(r'field "(\w+)"', str(error))
            variable = f"{PREFIX}{field[1].upper()}" if field else "a variable"
            raise ConfigError(f"the environment: {variable} is not JSON") from None
        except (ValueError, OSError) as error:  # the TOML file cannot be read
            raise ConfigError(f"{config or 'the environment'}: {error}") from None

    @field_validator("address", "admin_address", "web_address", "advertise")
    @classmethod
    def _address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if (
            value is None
            or (info.field_name == "web_address" and value == WEB_OFF)
            or (info.field_name in ("address", "advertise") and value.startswith(UNIX))
        ):
            return value
        check_address(value)
        return value

    @field_validator("web_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        for origin in filter(None, map(str.strip, value.split(","))):
            if not _ENDPOINT.fullmatch(origin):
                raise ValueError(f"{origin} must be an origin: https://HOST or http://HOST:PORT")
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value is not None and not _ENDPOINT.fullmatch(value):
            raise ValueError("must be http://HOST:PORT, or https")
        return value

    @field_validator(
        "tls_cert",
        "tls_key",
        "client_ca",
        "api_keys",
        "jwks",
        "cluster_key",
        "snapshot_key",
        "peer_ca",
        "accept_cluster_key",
    )
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"there is no file {value}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: set both or neither")
        if self.client_ca is not None and self.tls_cert is None:
            raise ValueError("client_ca needs tls_cert and tls_key")
        if self.jwks is not None and not self.jwt_audience:
            raise ValueError(
                "jwks needs jwt_audience: without it the server would accept tokens made for other services"
            )
        if self.jwks is None and (self.jwt_issuer or self.jwt_audience):
            raise ValueError("jwt_issuer and jwt_audience need jwks")
        if self.max_entry_bytes < self.max_event_bytes:
            raise ValueError("max_entry_bytes must be at least max_event_bytes: what is received goes into the log")
        missing = []
        if self.tls_cert is None:
            missing.append("TLS (tls_cert, tls_key)")
        if not self.authenticates:
            missing.append("authentication (api_keys, jwks or client_ca)")
        if missing and not self.insecure and self.exposed:
            name, reached = ("address", self.address) if not is_loopback(self.address) else ("web_address", self.web)
            raise ValueError(
                f"{name}: other machines can reach {reached}"
                f" and there is no {' and no '.join(missing)}: set it, listen on 127.0.0.1,"
                " or set insecure if a proxy in front of the server provides it"
            )
        return self

    @property
    def authenticates(self) -> bool:
        """Whether callers must authenticate."""
        return self.api_keys is not None or self.jwks is not None or self.client_ca is not None

    @property
    def exposed(self) -> bool:
        """Whether other machines can reach the server."""
        return not is_loopback(self.address) or (self.web is not None and not is_loopback(self.web))

    @property
    def web(self) -> str | None:
        """Where the web is served; None where it is not."""
        return None if self.web_address == WEB_OFF else self.web_address

    def with_default_web(self) -> Settings:
        """Return the settings of `stepwire serve`: the web on loopback unless something else was said."""
        host, _, port = self.address.rpartition(":")
        if self.web_address is not None or self.exposed or not port.isdecimal():
            return self
        web = f"{host}:{0 if port == '0' else DEFAULT_WEB_PORT}"
        chosen = self.model_copy(update={"web_address": web})
        chosen._web_is_default = True
        return chosen

    @property
    def web_is_default(self) -> bool:
        """Whether nobody chose where the web is served: then a taken port is no reason not to start."""
        return self._web_is_default

    @property
    def shows_reflection(self) -> bool:
        """Whether reflection is served."""
        return not self.exposed if self.reflection is None else self.reflection

    @property
    def shown_failure_detail(self) -> str:
        """What clients see of a step's error."""
        return self.failure_detail or ("type" if self.exposed else "message")

    def quota(self, name: str) -> int:
        """Return a limit of each principal; 0: no limit."""
        value: int | None = getattr(self, name)
        return value if value is not None else (QUOTAS[name] if self.authenticates else 0)
