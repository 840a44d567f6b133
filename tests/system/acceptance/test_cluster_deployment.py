"""The files of deploy/cluster and deploy/kubernetes: what can be checked without a container engine or a cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from tests.postgres import MISSING, PostgresServer, programs

from stepwire.server.config import Settings

ROOT = Path(__file__).resolve().parents[3]
CLUSTER = ROOT / "deploy" / "cluster"
KUBERNETES = ROOT / "deploy" / "kubernetes"
KUBERNETES_VERSION = "1.33"


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Load the replicas' configuration as they do, with the files that it names in another place."""
    return load((CLUSTER / "stepwire.toml").read_text(), "/etc/stepwire/", tmp_path)


def load(text: str, place: str, folder: Path) -> Settings:
    for name in ("tls.crt", "tls.key", "ca.crt", "access.toml", "cluster.key", "snapshot.key"):
        (folder / name).touch()
    file = folder / "stepwire.toml"
    file.write_text(text.replace(place, f"{folder}/"))
    return Settings.load(file, data="postgres://stepwire@db/stepwire")


# -- compose -----------------------------------------------------------------------------------------------------


@pytest.fixture
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CLUSTER / "compose.yaml").read_text())["services"]
    return found


def test_three_replicas_differ_in_their_address_alone(services: dict[str, Any], settings: Settings) -> None:
    port = settings.address.rpartition(":")[2]
    replicas = {name: services[name] for name in ("a", "b", "c")}
    for name, service in replicas.items():
        environment = dict(service["environment"])
        assert environment.pop("STEPWIRE_ADVERTISE") == f"{name}:{port}"
        assert {**service, "environment": environment} == {**replicas["a"], "environment": environment}
        assert seconds(service["stop_grace_period"]) > settings.grace + 10
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "data" not in str(service["volumes"])


def test_mounted_files_exist_or_are_the_operators(services: dict[str, Any]) -> None:
    head = (CLUSTER / "compose.yaml").read_text().partition("x-replica")[0]
    for service in services.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("./") and not (CLUSTER / source).exists():
                assert f"{source.removeprefix('./')}/" in head, source


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed (Debian: haproxy)")
def test_the_balancer_takes_its_configuration() -> None:
    command = ["haproxy", "-c", "-f", str(CLUSTER / "haproxy.cfg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_balancer_asks_where_replicas_answer(settings: Settings) -> None:
    text = (CLUSTER / "haproxy.cfg").read_text()
    admin = str(settings.admin_address).rpartition(":")[2]
    assert f"check port {admin}" in text
    timeouts = [line.split()[-1] for line in text.splitlines() if line.strip().startswith("timeout c") and "60" in line]
    assert all(seconds(value) > 2 * settings.heartbeat for value in timeouts)


class Standby:
    """The primary of deploy/cluster, and a folder for its standby, made by the scripts of deploy/cluster."""

    def __init__(self, primary: PostgresServer, home: Path) -> None:
        self.primary = primary
        self.home = home
        self.programs = programs() or Path()
        self.data = home / "standby"

    def run(self, script: str, **environment: str) -> str:
        """Run a script as the image of PostgreSQL does, with its places put elsewhere."""
        text = (CLUSTER / script).read_text()
        text = text.replace("/run/secrets", str(self.home)).replace("install --directory --owner postgres", "true #")
        text = text.replace("host=primary", f"host=127.0.0.1 port={self.primary.port}")
        file = self.home / script
        file.write_text(text)
        env = {
            "PATH": f"{self.home}:{self.programs}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.primary.port),
            **environment,
        }
        user = "postgres" if os.getuid() == 0 else None
        done = subprocess.run(
            ["bash", str(file)],
            env=env,
            cwd="/",
            user=user,
            group=user,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def standby() -> Iterator[Standby]:
    if programs() is None:
        pytest.skip(MISSING)
    home = Path(tempfile.mkdtemp(prefix="stepwire-standby-"))
    (home / "replication").write_text("a password")
    (home / "gosu").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (home / "docker-entrypoint.sh").write_text("#!/bin/sh\necho would start\n")
    for path in (home, *home.iterdir()):
        path.chmod(0o755)
        if os.getuid() == 0:
            shutil.chown(path, "postgres", "postgres")
    try:
        with PostgresServer(["fsync=off"]) as primary:
            yield Standby(primary, home)
    finally:
        shutil.rmtree(home)


def test_the_scripts_make_a_synchronous_standby(standby: Standby) -> None:
    primary = standby.primary
    standby.run(
        "replication.sh",
        POSTGRES_USER="stepwire",
        POSTGRES_DB="stepwire",
        PGDATA=primary.sql("SHOW data_directory"),
    )
    primary.kill()
    primary.start()
    assert standby.run("standby.sh", PGDATA=str(standby.data)) == "would start\n"
    assert primary.sql("SHOW synchronous_standby_names") == "standby"
    conninfo = (standby.data / "postgresql.auto.conf").read_text()
    assert "application_name=standby" in conninfo
    assert (standby.data / "standby.signal").exists()
    assert primary.sql("SELECT slot_name FROM pg_replication_slots") == "standby"
    # A second start copies nothing.
    assert standby.run("standby.sh", PGDATA=str(standby.data)) == "would start\n"


# -- Kubernetes --------------------------------------------------------------------------------------------------


@pytest.fixture
def manifests() -> dict[str, Any]:
    resources = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    found = [item for name in resources for item in yaml.safe_load_all((KUBERNETES / name).read_text())]
    return {item["kind"]: item for item in found}


@pytest.mark.parametrize("file", sorted(path.name for path in KUBERNETES.glob("*.yaml")))
def test_kubernetes_knows_every_field(file: str) -> None:
    if file == "kustomization.yaml":
        names = yaml.safe_load((KUBERNETES / file).read_text())["resources"]
        others = {path.name for path in KUBERNETES.glob("*.yaml")} - {file, "secrets.example.yaml"}
        assert set(names) == others
        return
    for item in yaml.safe_load_all((KUBERNETES / file).read_text()):
        kubernetes_validate.validate(item, KUBERNETES_VERSION, strict=True)


def test_a_rolling_restart_hands_every_run_over(manifests: dict[str, Any], tmp_path: Path) -> None:
    text = manifests["ConfigMap"]["data"]["stepwire.toml"]
    settings = load(text, "/etc/stepwire-keys/", tmp_path)
    deployment = manifests["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    container = pod["containers"][0]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    (_, pause) = container["lifecycle"]["preStop"]["exec"]["command"]
    assert pod["terminationGracePeriodSeconds"] >= int(pause) + settings.grace + 10
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings.address.endswith(f":{ports['grpc']}")
    assert str(settings.admin_address).endswith(f":{ports['admin']}")
    assert container["readinessProbe"]["grpc"]["port"] == ports["grpc"]
    assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]


def test_every_selector_finds_the_replicas(manifests: dict[str, Any]) -> None:
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert manifests[kind]["spec"]["selector"]["matchLabels"] == labels
    assert manifests["Service"]["spec"]["selector"] == labels
    assert manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    ports = {port["name"] for port in manifests["Deployment"]["spec"]["template"]["spec"]["containers"][0]["ports"]}
    assert manifests["Service"]["spec"]["ports"][0]["targetPort"] in ports


def test_every_secret_that_is_used_is_shown(manifests: dict[str, Any]) -> None:
    examples = {
        item["metadata"]["name"]: set(item["stringData"])
        for item in yaml.safe_load_all((KUBERNETES / "secrets.example.yaml").read_text())
    }
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    used = {
        env["valueFrom"]["secretKeyRef"]["name"] for env in pod["containers"][0]["env"] if "secretKeyRef" in str(env)
    }
    used |= {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert used == set(examples)
    text = manifests["ConfigMap"]["data"]["stepwire.toml"]
    for name in examples["stepwire-keys"]:
        assert f"/etc/stepwire-keys/{name}" in text
