"""The settings of a server: flags, then the environment, then a TOML file, then defaults.

`Settings(...)` takes flags as keywords. Everything that is wrong stops the start with a `ConfigError` that names it.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticUndefined
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from stepwire.server.runs.hosting.retention import Keep, Retention
from stepwire.server.store import LONG_LOG

__all__ = ["ConfigError", "Row", "Settings", "is_loopback", "rows"]

PREFIX = "STEPWIRE_"
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_SPANS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)(B|KiB|MiB|GiB)?")
_ENDPOINT = re.compile(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?/?")
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class ConfigError(ValueError):
    """A setting is wrong; the message says which one, where it comes from if known, and what it may be."""


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("is no number")
    return value


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _SPAN.fullmatch(value.strip())
    if match is None:
        raise ValueError("is no time span: 30, 500ms, 30s, 5m, 2h or 1d")
    return float(match[1]) * _SPANS[match[2] or "s"]


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise ValueError("is no size: 65536, 512KiB, 16MiB or 1GiB")
    return int(match[1]) * _SIZES[match[2] or "B"]


Number = BeforeValidator(_number)
Seconds = Annotated[float, Number, BeforeValidator(_seconds), Field(ge=0, allow_inf_nan=False)]
Size = Annotated[int, Number, BeforeValidator(_bytes), Field(gt=0)]
Count = Annotated[int, Number, Field(gt=0)]
Entries = Annotated[int, Number, Field(ge=LONG_LOG)]
Quota = Annotated[int, Number, Field(ge=0)]


class Settings(BaseSettings):
    """How to serve. Times are in seconds or texts with a unit (5m), sizes in bytes or texts with a unit (16MiB)."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        nested_model_default_partial_update=True,
    )
    _file: ClassVar[Path | None] = None

    # -- serving --------------------------------------------------------------------------------------------------
    address: str = Field("127.0.0.1:50051", description="Where to listen, HOST:PORT; port 0 is a free one.")
    data: str = Field("stepwire-data", description="The data directory, or `:memory:` to keep nothing.")
    idle_after: Seconds = Field(60.0, description="After how long a run that only waits leaves memory.")
    grace: Seconds = Field(5.0, description="How long running steps may go on when the server stops.")
    failure_detail: Literal["type", "message", "traceback"] | None = Field(
        None, description="What clients see of a step's error. Unset: message on loopback, type beyond."
    )
    reflection: bool | None = Field(None, description="Serve gRPC reflection. Unset: on loopback only.")

    # -- what operators see ---------------------------------------------------------------------------------------
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    log_format: Literal["text", "json"] = Field(
        "text", description="How: lines for people, or a JSON object on each line."
    )
    otlp_endpoint: str | None = Field(
        None,
        description="Where traces go (OTLP over gRPC), as `http://host:4317`. Unset: as OTEL_* variables say.",
    )
    admin_address: str | None = Field(
        None, description="Where /metrics, /healthz and /readyz are served over HTTP, HOST:PORT. Unset: nowhere."
    )
    watchdog: Seconds = Field(
        0.1, description="After how long a step that blocks the event loop is named in the log; 0: never."
    )

    # -- TLS and access -------------------------------------------------------------------------------------------
    tls_cert: Path | None = Field(None, description="The server's certificate chain (PEM); read again when it changes.")
    tls_key: Path | None = Field(None, description="The private key of `tls_cert` (PEM).")
    client_ca: Path | None = Field(
        None, description="The roots (PEM) that clients' certificates must be signed by: mutual TLS."
    )
    api_keys: Path | None = Field(
        None, description="The access file (TOML): hashed API keys and client certificates, with namespaces and scopes."
    )
    jwks: Path | None = Field(None, description="The public keys (JWKS) that JSON Web Tokens are verified with.")
    jwt_issuer: str | None = Field(None, description="The `iss` that tokens must have.")
    jwt_audience: str | None = Field(None, description="The `aud` that tokens must have; required with `jwks`.")
    insecure: bool = Field(False, description="Listen beyond loopback although TLS or authentication is missing.")

    # -- limits ---------------------------------------------------------------------------------------------------
    max_message_bytes: Size = Field(16 << 20, description="Largest request message.")
    max_event_bytes: Size = Field(1 << 20, description="Largest payload of an event or an input.")
    max_state_bytes: Size = Field(8 << 20, description="Largest state that clients may write.")
    max_snapshot_bytes: Size = Field(16 << 20, description="Largest snapshot that StartRun takes.")
    max_depth: Annotated[int, Number, Field(ge=1, le=100)] = Field(
        100, description="Levels of nesting that a payload may have; checked before it is parsed."
    )
    max_calls: Count = Field(1024, description="Calls under way at a time, without streams and waits.")
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
        None, description="Events and starts a second of a principal. Unset: 5,000 with authentication; 0: no limit."
    )
    max_queued_events: Count = Field(
        10_000, description="Deliveries that a run may have open before it takes an event."
    )
    max_log_entries: Count = Field(1_000_000, description="Entries of a run's log beyond which it takes no event.")
    sync_threads: Count = Field(64, description="Threads for sync steps.")
    max_sync_backlog: Count = Field(
        10_000, description="Sync steps that may queue for a thread before runs are refused."
    )
    stalled_after: Seconds = Field(
        30.0, description="After how long a stream ends whose client reads nothing; 0: never."
    )
    heartbeat: Annotated[Seconds, Field(gt=0)] = Field(
        15.0, description="How often a stream on which nothing happens says that it lives."
    )

    # -- retention ------------------------------------------------------------------------------------------------
    retention_age: Seconds | None = Field(None, description="How long ended runs are kept. Unset: for ever.")
    retention_runs: Count | None = Field(
        None, description="How many ended runs of a workflow are kept, of each namespace. Unset: all."
    )
    retention_entries: Entries | None = Field(
        None, description="How many of its newest log entries every run keeps at least, from 1,000 on. Unset: all."
    )
    retention_workflows: dict[str, RetentionRule] = Field(
        default_factory=dict,
        description="Other rules by workflow: tables with `age`, `runs` and `entries` (in the environment, JSON).",
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
        """Return the settings of a start: flags that are None were not given. ConfigError."""
        given = {name: value for name, value in flags.items() if value is not None}
        _check_names(os.environ)
        source = cls
        if config is not None:
            if not config.is_file():
                raise ConfigError(f"config: there is no file {config}")
            source = type("Settings", (cls,), {"_file": config, "__module__": cls.__module__, "__doc__": cls.__doc__})
        try:
            return source(**given)
        except ValidationError as error:
            raise ConfigError(_told(error, config)) from None
        except SettingsError as error:
            field = re.search(r'field "(\w+)"', str(error))
            variable = f"{PREFIX}{field[1].upper()}" if field else "a variable"
            raise ConfigError(f"the environment: {variable} is no JSON") from None
        except (ValueError, OSError) as error:  # the TOML file cannot be read
            raise ConfigError(f"{config or 'the environment'}: {error}") from None

    @field_validator("address", "admin_address")
    @classmethod
    def _address(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None or (info.field_name == "address" and value.startswith(("unix:", "unix-abstract:"))):
            return value
        host, colon, port = value.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError("must be HOST:PORT, as 127.0.0.1:50051 or [::1]:50051")
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _endpoint(cls, value: str | None) -> str | None:
        if value is not None and not _ENDPOINT.fullmatch(value):
            raise ValueError("must be http://HOST:PORT, or https")
        return value

    @field_validator("tls_cert", "tls_key", "client_ca", "api_keys", "jwks")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"there is no file {value}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: give both or neither")
        if self.client_ca is not None and self.tls_cert is None:
            raise ValueError("client_ca needs tls_cert and tls_key")
        if self.jwks is not None and not self.jwt_audience:
            raise ValueError("jwks needs jwt_audience: without it tokens made for others would be taken")
        if self.jwks is None and (self.jwt_issuer or self.jwt_audience):
            raise ValueError("jwt_issuer and jwt_audience need jwks")
        missing = []
        if self.tls_cert is None:
            missing.append("TLS (tls_cert, tls_key)")
        if not self.authenticates:
            missing.append("authentication (api_keys, jwks or client_ca)")
        if missing and not self.insecure and not is_loopback(self.address):
            raise ValueError(
                f"address: {self.address} can be reached from other machines"
                f" and there is no {' and no '.join(missing)}: set it, listen on 127.0.0.1,"
                " or say insecure if something in front of the server does it"
            )
        return self

    @property
    def authenticates(self) -> bool:
        """Whether callers must show who they are."""
        return self.api_keys is not None or self.jwks is not None or self.client_ca is not None

    @property
    def exposed(self) -> bool:
        """Whether other machines can reach the server."""
        return not is_loopback(self.address)

    @property
    def shows_reflection(self) -> bool:
        """Whether reflection is served."""
        return not self.exposed if self.reflection is None else self.reflection

    @property
    def shown_failure_detail(self) -> str:
        """What clients see of a step's error."""
        return self.failure_detail or ("type" if self.exposed else "message")

    def quota(self, name: str) -> int:
        """Return a limit of each principal, 0 for none."""
        value: int | None = getattr(self, name)
        return value if value is not None else (_QUOTAS[name] if self.authenticates else 0)

    def retention(self) -> Retention:
        """Return what is kept of runs."""
        rules = {name: Keep(**rule.model_dump()) for name, rule in self.retention_workflows.items()}
        keep = Keep(age=self.retention_age, runs=self.retention_runs, entries=self.retention_entries)
        return Retention(default=keep, workflows=rules)


class RetentionRule(BaseModel):
    """What is kept of the runs of one workflow."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    age: Seconds | None = None
    runs: Count | None = None
    entries: Entries | None = None


Settings.model_rebuild()

_QUOTAS = {"max_runs": 100_000, "max_streams": 1000, "max_waiters": 10_000, "max_events_per_second": 5000}


def is_loopback(address: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_names(environment: Iterable[str]) -> None:
    """Raise ConfigError for a variable that is almost one of ours: it was meant to be, and would do nothing."""
    known = [name.upper() for name in Settings.model_fields]
    for variable in environment:
        name = variable.upper().removeprefix(PREFIX)
        if name != variable.upper() and name not in known and (meant := get_close_matches(name, known, 1, 0.85)):
            raise ConfigError(f"{variable}: there is no such setting; {PREFIX}{meant[0]} is one")


class Row(NamedTuple):
    """A setting, as the documentation tells it."""

    name: str
    flag: str
    metavar: str
    default: str
    description: str


def rows() -> Iterator[Row]:
    """Give the settings in order."""
    for name, field in Settings.model_fields.items():
        default = field.default
        flag = f"--{name.replace('_', '-')}"
        if field.annotation is bool or name == "reflection":
            flag += f" / --no-{name.replace('_', '-')}"
        elif name == "retention_workflows":
            flag = ""
        shown = "" if default is None or default is PydanticUndefined else _shown(name, default)
        yield Row(name, flag, _metavar(name, field.annotation), shown, field.description or "")


def _metavar(name: str, annotation: Any) -> str:
    if name.endswith("address"):
        return "HOST:PORT"
    if name in ("data", "tls_cert", "tls_key", "client_ca", "api_keys", "jwks"):
        return "DIR" if name == "data" else "FILE"
    if name in ("failure_detail", "log_level", "log_format"):
        choices = str(annotation)
        return "|".join(re.findall(r"'(\w+)'", choices))
    if name.endswith("_bytes"):
        return "SIZE"
    kinds = str(annotation)
    return "TIME" if "float" in kinds else "NUMBER" if "int" in kinds else "TEXT"


def _shown(name: str, default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if name.endswith("_bytes"):
        return f"{default >> 20}MiB"
    return f"{default:g}" if isinstance(default, float) else str(default)


def _told(error: ValidationError, config: Path | None) -> str:
    """Return one line for each problem: the setting, and what is wrong with it."""
    lines = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"there is no such setting{f' (in {config})' if config else ''}"
        lines.append(f"{name}: {message}" if name else message)
    return "; ".join(lines)
