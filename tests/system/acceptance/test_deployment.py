"""The files of deploy/: what can be checked without a container engine or a running systemd."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.system.acceptance.containerfile import Stage, read
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.server.config import Settings

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return read(DEPLOY / "Containerfile")


@pytest.fixture
def service() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert list(found["services"]) == ["stepwire"]
    return {**found["services"]["stepwire"], "all volumes": found["volumes"]}


@pytest.fixture
def unit() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "stepwire.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Load the example as the server does, with the files that it names in another place."""
    for name in ("tls.crt", "tls.key", "access.toml", "clients-ca.crt"):
        (tmp_path / name).touch()
    file = tmp_path / "stepwire.toml"
    file.write_text((DEPLOY / "stepwire.toml").read_text().replace("/etc/stepwire/", f"{tmp_path}/"))
    return Settings.load(file)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


# -- the container -----------------------------------------------------------------------------------------------


def test_the_image_is_small_pinned_and_not_root(stages: list[Stage]):
    build, final = stages
    for stage in stages:
        assert re.fullmatch(r"python:3\.\d+-slim-\w+", stage.base), stage.base
    assert (build.name, final.name) == ("build", "server")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", final.last("USER"))
    # Nothing after it becomes root again, and what it runs was not written by it.
    assert [word for word, _ in final.steps].count("USER") == 1
    assert final.all("COPY") == ["--from=build /opt/stepwire /opt/stepwire"]
    assert "--no-create-home" in final.all("RUN")[0]
    assert "pip uninstall" in final.all("RUN")[0]
    assert not [text for text in final.all("RUN") if re.search(r"\b(apt|apt-get|gcc|install (?!--directory))\b", text)]
    assert not [text for stage in stages for text in stage.all("ADD")]


def test_the_image_keeps_its_data_and_stops_gracefully(stages: list[Stage]):
    final = stages[-1]
    environment = final.environment()
    assert environment["STEPWIRE_DATA"] == final.last("VOLUME") == "/var/lib/stepwire"
    assert environment["STEPWIRE_ADDRESS"].endswith(f":{final.last('EXPOSE')}")
    assert final.last("STOPSIGNAL") == "SIGTERM"
    assert final.command("ENTRYPOINT") == ["stepwire"]
    # Without a configuration of its own it must not be open to the world.
    assert not [name for name in environment if "INSECURE" in name]
    # The settings of the environment are settings.
    names = {name.removeprefix("STEPWIRE_").lower() for name in environment if name.startswith("STEPWIRE_")}
    assert names <= set(Settings.model_fields)


def test_the_health_checks_are_commands_that_exist(stages: list[Stage], service: dict[str, Any]):
    health = stages[-1].command("HEALTHCHECK")
    assert service["healthcheck"]["test"] == ["CMD", *health]
    assert health[:2] == ["stepwire", "health"]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        result = CliRunner().invoke(app, [*health[1:], "--timeout", "0.1", "--server", server])
    assert (result.exit_code, result.stdout) == (1, "UNREACHABLE\n")
    # The probe ends before it is ended: else its verdict is lost.
    asked = float(health[health.index("--timeout") + 1])
    assert asked < seconds(service["healthcheck"]["timeout"])
    assert f"--timeout={service['healthcheck']['timeout']}" in stages[-1].last("HEALTHCHECK")


def test_the_builder_gets_no_more_than_it_needs(stages: list[Stage], tmp_path: Path):
    context = build_context(tmp_path)
    names = {path.name for path in context.iterdir()}
    assert names == {"client", "server", "protos", "LICENSE", "README.md", "constraints.txt", "pyproject.toml"}
    assert not [path for path in context.rglob("*") if path.suffix == ".pyc"]
    for text in stages[0].all("COPY"):
        *sources, _ = text.split()
        assert all((context / source).exists() for source in sources), text


# -- compose -----------------------------------------------------------------------------------------------------


def test_compose_confines_the_server(service: dict[str, Any], stages: list[Stage], settings: Settings):
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["build"] == {"context": "..", "dockerfile": "deploy/Containerfile"}
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
    assert service["image"] == f"stepwire:{project()['version']}"
    mounts = dict(item.split(":", 1) for item in service["volumes"])
    assert mounts["data"] == stages[-1].last("VOLUME") == settings.data
    assert "data" in service["all volumes"]
    # All else that is mounted is read only.
    assert all(target.endswith(":ro") for source, target in mounts.items() if source != "data")
    port = settings.address.rpartition(":")[2]
    assert service["ports"] == [f"{port}:{port}"]
    assert seconds(service["stop_grace_period"]) >= settings.grace + 10
    assert not {"privileged", "network_mode", "pid", "ipc", "devices", "cap_add"} & set(service)
    assert service["command"] == stages[-1].command("CMD")


# -- systemd -----------------------------------------------------------------------------------------------------


def test_the_unit_confines_the_server(unit: dict[str, list[str]], settings: Settings):
    for name, value in {
        "User": "stepwire",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateDevices": "yes",
        "CapabilityBoundingSet": "",
        "RestrictSUIDSGID": "yes",
        "StateDirectory": "stepwire",
        "StateDirectoryMode": "0700",
        "Restart": "on-failure",
        "KillSignal": "SIGTERM",
    }.items():
        assert unit[name] == [value], name
    assert settings.data == f"/var/lib/{unit['StateDirectory'][0]}"
    assert float(unit["TimeoutStopSec"][0]) >= settings.grace + 10
    [started] = unit["ExecStartPost"]
    assert float(started.split("--timeout ")[1]) < float(unit["TimeoutStartSec"][0])
    assert "u stepwire " in (DEPLOY / "stepwire.sysusers").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path):
    # It wants the command and the user to exist.
    text = (DEPLOY / "stepwire.service").read_text().replace("/opt/stepwire/bin/stepwire", "/bin/true")
    text = re.sub(r"^(User|Group)=.*$", r"\1=root", text, flags=re.MULTILINE)
    file = tmp_path / "stepwire.service"
    file.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, check=False, timeout=50
    )
    assert (done.returncode, complaints(done.stderr)) == (0, [])
    # It does look: what it does not know is a complaint.
    file.write_text(text.replace("ProtectSystem=strict", "ProtectSystem=stricter\nNoSuchThing=1"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, check=False, timeout=50
    )
    assert len(complaints(done.stderr)) == 2, done.stderr


def complaints(text: str) -> list[str]:
    return [line for line in text.splitlines() if "stepwire.service" in line]


def test_the_example_configuration_is_safe(settings: Settings):
    assert settings.exposed
    assert not settings.insecure
    assert settings.authenticates
    assert not settings.shows_reflection
    assert settings.retention_age


# -- the image's build, by hand ----------------------------------------------------------------------------------


def build_context(target: Path) -> Path:
    """Copy what .dockerignore lets through, as the builder would get it."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and not line.startswith("#")]
    assert lines[0] == "*"
    taken = [line[1:] for line in lines if line.startswith("!")]
    assert set(lines) == {"*", *(f"!{name}" for name in taken), "**/__pycache__", "**/*.py[cod]"}
    context = target / "src"
    context.mkdir()
    for name in taken:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, context / name, ignore=shutil.ignore_patterns("__pycache__", "*.py[cod]"))
        else:
            shutil.copy(source, context)
    return context


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Give a folder that every user may look into: the temporary folders of pytest are their owner's."""
    folder = Path(tempfile.mkdtemp(prefix="stepwire-image-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def interpreter() -> str:
    """Return a Python that a user without rights can run; skip when there is none."""
    candidates = [os.path.realpath(sys.executable), *filter(None, map(shutil.which, ("/usr/bin/python3", "python3")))]
    for python in candidates:
        good = "import sys, venv; sys.exit(sys.version_info < (3, 11))"
        try:
            done = subprocess.run([python, "-c", good], capture_output=True, check=False, cwd="/", **nobody())
        except PermissionError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip("no Python 3.11 that another user may run")


def nobody() -> dict[str, Any]:
    """Return the arguments that make a process another user's, when we are root: the image's own numbers."""
    return {"user": 10001, "group": 10001, "extra_groups": []} if os.geteuid() == 0 else {}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_the_image_builds_serves_without_rights(stages: list[Stage], open_folder: Path):
    build, final = stages
    python = interpreter()
    context = build_context(open_folder)
    places = {"/src": str(context), "/build": f"{open_folder}/build", "/opt/stepwire": f"{open_folder}/opt"}

    def placed(text: str) -> str:
        return re.sub(r"(?<![\w.])(/src|/build|/opt/stepwire)(?![\w-])", lambda match: places[match[1]], text)

    for text in build.all("RUN"):
        command = re.sub(r"^python -m venv|(?<=&& )python -m venv", f"{sys.executable} -m venv", placed(text))
        if "--without-pip" in command:  # the image's own environment
            command = command.replace(sys.executable, python)
        subprocess.run(["bash", "-euo", "pipefail", "-c", command], check=True, cwd=context)
    # The final stage takes the environment and nothing else.
    shutil.rmtree(context)
    shutil.rmtree(open_folder / "build")
    (open_folder / "app").mkdir()
    shutil.copy(ROOT / "examples" / "hello.py", open_folder / "app" / "workflows.py")
    data = open_folder / "data"
    data.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(data, 10001, 10001)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **final.environment(),
        "PATH": f"{open_folder}/opt/bin:/usr/bin:/bin",
        "STEPWIRE_ADDRESS": f"127.0.0.1:{port}",
        "STEPWIRE_SERVER": f"127.0.0.1:{port}",
        "STEPWIRE_DATA": str(data),
    }
    run: dict[str, Any] = {"cwd": open_folder / "app", "env": environment, "text": True, **nobody()}
    serve = [f"{open_folder}/opt/bin/{final.command('ENTRYPOINT')[0]}", *final.command("CMD")]
    with subprocess.Popen(serve, stderr=subprocess.PIPE, **run) as server:
        try:
            health = final.command("HEALTHCHECK")
            probe = subprocess.run([*serve[:1], *health[1:-1], "60"], capture_output=True, check=False, **run)
            assert (probe.returncode, probe.stdout) == (0, "SERVING\n"), probe
            hello = subprocess.run(
                [*serve[:1], "run", "Hello", "name=Ada"], capture_output=True, check=False, timeout=60, **run
            )
            assert hello.returncode == 0, hello
            assert "Ada" in hello.stdout
        finally:
            server.terminate()
            log = server.communicate(timeout=60)[1]
    assert server.returncode == 0, log
    assert (data / "stepwire.db").stat().st_uid == (10001 if os.geteuid() == 0 else os.geteuid())
