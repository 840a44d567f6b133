"""The clients of other languages: find, build and run them (README.md says what a conformance.json holds)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.serving import ROOT

FOLDERS: Final = (ROOT / "clients", ROOT / "examples")
_BUILD_SECONDS: Final = 3600.0
_DRIVER_SECONDS: Final = 300.0
_MISSING: Final = 77
"""The exit code of a build command that says what is missing."""


class ClientError(Exception):
    """A client does not build, or its driver does not run to its end; the text holds its output."""


class ToolchainMissingError(Exception):
    """Something that the client's build needs is not on this machine; the text says what."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client with a conformance driver."""

    name: str
    folder: Path
    driver: list[str]
    example: list[str] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    build_commands: list[list[str]] = field(default_factory=list)
    versions: list[list[str]] = field(default_factory=list)
    bench: list[str] = field(default_factory=list)
    walk: list[str] = field(default_factory=list)
    over: str = ""
    """What it calls the web by, "connect" or "sse"; empty for gRPC. It runs the scenarios that this allows."""

    @classmethod
    def of(cls, manifest: Path) -> Client:
        """Read a conformance.json."""
        found = json.loads(manifest.read_text("utf-8"))
        return cls(
            name=found["name"],
            folder=manifest.parent,
            driver=found["driver"],
            example=found.get("example", []),
            tools=found.get("tools", []),
            build_commands=found.get("build", []),
            versions=found.get("versions", []),
            bench=found.get("bench", []),
            walk=found.get("walk", []),
            over=found.get("over", ""),
        )

    def missing(self) -> list[str]:
        """Return the tools that are not here."""
        here = {"protoc"} if "PROTOC" in environment() else set()
        return [tool for tool in self.tools if tool not in here and shutil.which(tool) is None]

    def build(self) -> None:
        """Generate the stubs and build. ToolchainMissingError, ClientError."""
        if missing := self.missing():
            raise ToolchainMissingError(f"not on the PATH: {', '.join(missing)}")
        for command in self.build_commands:
            self._run(command, _BUILD_SECONDS)

    def version(self) -> str:
        """Return what the language, its gRPC and its protobuf call themselves."""
        lines = [self._run(command, 60.0).strip().splitlines() for command in self.versions]
        return ", ".join(found[0].strip() for found in lines if found)

    def run(self, table: Path) -> list[dict[str, Any]]:
        """Run the driver; return its lines. ClientError."""
        lines = self._run([*self.driver, str(table)], _DRIVER_SECONDS).splitlines()
        return [json.loads(line) for line in lines if line]

    def measure(self, stepwire: str, raw: str, run_id: str, rounds: int) -> dict[str, float]:
        """Run the driver's bench; return its figures. ClientError."""
        output = self._run([*self.bench, stepwire, raw, run_id, str(rounds)], _DRIVER_SECONDS)
        figures: dict[str, float] = json.loads(output)
        return figures

    def _run(self, command: list[str], timeout: float) -> str:
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ClientError(f"{self.name}: {' '.join(command)}: {error}") from error
        if done.returncode == _MISSING:
            raise ToolchainMissingError(done.stderr.strip().rpartition("\n")[2])
        if done.returncode != 0:
            told = (done.stdout + done.stderr)[-4000:]
            raise ClientError(f"{self.name}: {' '.join(command)}: exit code {done.returncode}\n{told}")
        return done.stdout


PYTHON: Final = Client(
    name="Python",
    folder=ROOT,
    driver=[sys.executable, "-m", "tests.system.conformance.driver"],
    versions=[[sys.executable, "-m", "tests.system.conformance.driver", "--version"]],
)


CURL: Final = Client(
    name="curl/SSE",
    folder=ROOT,
    driver=[sys.executable, "-m", "tests.system.conformance.curl"],
    tools=["curl"],
    versions=[[sys.executable, "-m", "tests.system.conformance.curl", "--version"]],
    over="sse",
)


def clients() -> list[Client]:
    """Return Python, the clients of other languages by name, and curl."""
    found = [Client.of(path) for folder in FOLDERS for path in folder.glob("*/conformance*.json")]
    return [PYTHON, *sorted(found, key=lambda client: client.name), CURL]


def environment() -> dict[str, str]:
    """Return the environment of builds: PROTOC names a protoc where none is on the PATH."""
    ours = {**os.environ, "PYTHONPATH": str(ROOT)}
    if "PROTOC" not in ours and shutil.which("protoc") is None:
        ours["PROTOC"] = str(ROOT / "tools" / "protoc")
    return ours
