"""Settings: their sources, what is wrong with them, and the pages that follow from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from stepwire.cli._app import make_app
from stepwire.server.addresses import is_loopback
from stepwire.server.config import Settings
from stepwire.server.config_errors import ConfigError
from stepwire.server.config_table import rows
from stepwire.server.runs.hosting.retention import Keep
from stepwire.server.wiring import retention_of

ROOT = Path(__file__).resolve().parents[3]


def test_flags_go_before_the_environment_before_the_file_before_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "stepwire.toml"
    file.write_text('grace = 1\nidle_after = "2m"\ndata = "from-file"\nsync_threads = 3\n')
    monkeypatch.setenv("STEPWIRE_GRACE", "20s")
    monkeypatch.setenv("STEPWIRE_DATA", "from-environment")
    settings = Settings.load(file, data="from-flag", grace=None)
    assert (settings.data, settings.grace, settings.idle_after) == ("from-flag", 20.0, 120.0)
    assert (settings.sync_threads, settings.max_depth) == (3, 100)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"address": "nowhere"}, "address: must be HOST:PORT"),
        ({"address": "127.0.0.1:99999"}, "address"),
        ({"grace": "soon"}, "grace: is not a time span"),
        ({"grace": -1}, "grace"),
        ({"stalled_after": float("nan")}, "stalled_after"),
        ({"max_event_bytes": "1Mb"}, "max_event_bytes: is not a size"),
        ({"max_event_bytes": 0}, "max_event_bytes"),
        ({"max_depth": 101}, "max_depth"),
        ({"max_runs": -1}, "max_runs"),
        ({"max_runs": True}, "max_runs: is not a number"),
        ({"watchdog": True}, "watchdog: is not a number"),
        ({"otlp_endpoint": "collector"}, "otlp_endpoint: must be http://HOST:PORT"),
        ({"otlp_endpoint": "ftp://collector:4317"}, "otlp_endpoint"),
        ({"otlp_endpoint": "http://user:hunter2@collector:4317"}, "otlp_endpoint"),
        ({"failure_detail": "all"}, "failure_detail"),
        ({"tls_cert": "/nowhere/cert.pem"}, "tls_cert: there is no file"),
        ({"api_keys": "/nowhere/keys.toml"}, "api_keys: there is no file"),
        ({"no_such": 1}, "no_such: there is no such setting"),
        ({"jwt_issuer": "x"}, "jwt_issuer"),
    ],
)
def test_a_wrong_value_is_named(flags: dict[str, Any], named: str):
    with pytest.raises(ConfigError) as caught:
        Settings.load(None, **flags)
    assert named in str(caught.value)


def test_a_variable_that_is_almost_a_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STEPWIRE_APIKEYS", "hunter2")
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert str(caught.value) == "STEPWIRE_APIKEYS: there is no such setting; STEPWIRE_API_KEYS is one"
    monkeypatch.delenv("STEPWIRE_APIKEYS")
    # Variables that clients, tests and Kubernetes set are no settings of the server.
    for other in ("TOKEN", "CA", "CERT", "KEY", "SERVER", "SERVER_NAME", "TLS", "PORT", "SERVICE_HOST", "FAILPOINTS"):
        monkeypatch.setenv(f"STEPWIRE_{other}", "x")
    monkeypatch.setenv("STEPWIRE_PORT_50051_TCP_ADDR", "x")
    monkeypatch.setenv("stepwire_grace", "20s")
    assert Settings.load(otlp_endpoint="http://[::1]:4317").grace == 20.0


def test_rules_of_workflows_are_joined_over_all_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "stepwire.toml"
    file.write_text('[retention_workflows.a]\nage = "1d"\nruns = 1\n[retention_workflows.b]\nruns = 2\n')
    monkeypatch.setenv("stepwire_retention_workflows", '{"a": {"runs": 3}, "c": {"entries": 5000}}')
    rules = retention_of(Settings.load(file)).workflows
    assert rules == {"a": Keep(age=86400.0, runs=3), "b": Keep(runs=2), "c": Keep(entries=5000)}
    assert retention_of(Settings(address="127.0.0.1:0")).workflows == {"a": Keep(runs=3), "c": Keep(entries=5000)}
    monkeypatch.setenv("stepwire_retention_workflows", "{secret")
    with pytest.raises(ConfigError, match=r"^the environment: STEPWIRE_RETENTION_WORKFLOWS is not JSON$") as caught:
        Settings.load()
    assert "secret" not in str(caught.value)


def test_retention_of_entries_has_a_floor():
    with pytest.raises(ConfigError, match=r"retention_entries: .* 1000"):
        Settings.load(None, retention_entries="999")
    assert retention_of(Settings.load(None, retention_entries="1000")).default == Keep(entries=1000)


def test_a_wrong_value_is_never_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("STEPWIRE_MAX_CALLS", "hunter2")
    with pytest.raises(ConfigError) as caught:
        Settings.load()
    assert "max_calls" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    monkeypatch.delenv("STEPWIRE_MAX_CALLS")
    file = tmp_path / "stepwire.toml"
    for text, named in (
        ("adress = 1", "adress"),
        ("grace = [", str(file)),
        ('[retention_workflows.orders]\nage = "x"', "retention_workflows.orders.age"),
        ("[retention_workflows.orders]\nyears = 1", "retention_workflows.orders.years"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            Settings.load(file)
        assert named in str(caught.value)
    with pytest.raises(ConfigError, match="no file"):
        Settings.load(tmp_path / "absent.toml")


def test_listening_beyond_loopback_needs_tls_and_authentication_or_insecure(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    for address in ("0.0.0.0:1", "[::]:1", "192.168.0.1:1", "example.org:1", "*:1"):
        for have in (
            {},
            {"tls_cert": file, "tls_key": file},
            {"api_keys": file},
            {"jwks": file, "jwt_audience": "me"},
        ):
            with pytest.raises(ConfigError, match=r"^address: .* and there is no (TLS|authentication)"):
                Settings.load(None, address=address, **have)
            settings = Settings.load(None, address=address, insecure=True, **have)
            assert settings.exposed
            assert not settings.shows_reflection
            assert settings.shown_failure_detail == "type"
        Settings.load(None, address=address, tls_cert=file, tls_key=file, api_keys=file)
        Settings.load(None, address=address, tls_cert=file, tls_key=file, client_ca=file)
    for address in ("127.0.0.1:0", "[::1]:0", "localhost:0", "unix:/tmp/s", "127.9.9.9:0"):
        settings = Settings.load(None, address=address)
        assert is_loopback(address)
        assert settings.shows_reflection
        assert settings.shown_failure_detail == "message"
    assert Settings.load(None, address="0.0.0.0:1", insecure=True, reflection=True).shows_reflection


def test_what_belongs_together(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    for flags, named in (
        ({"tls_cert": file}, "tls_key"),
        ({"tls_key": file}, "tls_cert"),
        ({"client_ca": file}, "client_ca needs"),
        ({"jwks": file}, "jwt_audience"),
    ):
        with pytest.raises(ConfigError, match=named):
            Settings.load(None, **flags)


def test_quotas_and_retention(tmp_path: Path):
    file = tmp_path / "stepwire.toml"
    file.write_text('retention_age = "30d"\n[retention_workflows.orders]\nruns = 7\n')
    retention = retention_of(Settings.load(file, retention_runs="9"))
    assert retention.default == Keep(age=30 * 86400.0, runs=9)
    assert retention.workflows == {"orders": Keep(runs=7)}
    settings = Settings.load()
    assert settings.quota("max_streams") == 0
    assert Settings.load(None, max_streams=5).quota("max_streams") == 5
    assert Settings.load(None, api_keys=file).quota("max_streams") == 1000
    assert Settings.load(None, api_keys=file, max_streams=0).quota("max_streams") == 0


def test_every_setting_is_documented_and_an_option():
    listed = list(rows())
    assert [row.name for row in listed] == list(Settings.model_fields)
    assert all(row.description.endswith(".") for row in listed)
    group: Any = get_command(make_app())
    options = {parameter.name for parameter in group.get_command(None, "serve").params}
    assert options >= {row.name for row in listed if row.flag}
    assert "retention_workflows" not in options


def test_placeholders_and_defaults_follow_from_the_fields():
    shown = {row.name: (row.metavar, row.switch, row.default) for row in rows()}
    assert shown["address"] == ("HOST:PORT", False, "127.0.0.1:50051")
    assert shown["data"] == ("DIR", False, "stepwire-data")
    assert shown["grace"] == ("TIME", False, "5s")
    assert shown["watchdog"] == ("TIME", False, "100ms")
    assert shown["max_event_bytes"] == ("SIZE", False, "1MiB")
    assert shown["max_runs"] == ("NUMBER", False, "")
    assert shown["heartbeat"] == ("TIME", False, "15s")
    assert shown["api_keys"] == ("FILE", False, "")
    assert shown["failure_detail"] == ("type|message|traceback", False, "")
    assert shown["reflection"][1:] == (True, "")
    assert shown["insecure"][1:] == (True, "false")
    assert shown["retention_workflows"][1:] == (False, "")


def test_what_is_written_from_the_settings_is_current():
    check = subprocess.run(
        [sys.executable, "tools/config.py", "check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_serve_names_the_wrong_setting_and_stops():
    done = subprocess.run(
        [sys.executable, "-m", "stepwire.cli", "serve", "examples/hello.py", "--max-calls", "none"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert done.returncode == 2
    assert "max_calls" in done.stderr
