"""Folders of a new user: an own module of Go, an own project of npm, with a client package of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.serving import ROOT

GO = ROOT / "clients" / "go"
TYPESCRIPT = ROOT / "clients" / "typescript"


def run(command: list[str], folder: Path, **variables: str) -> str:
    """Run a command in a folder; return its output."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def go_module(folder: Path) -> None:
    """Make a folder a module that needs the package."""
    if not (GO / "stepwirev1").exists():
        pytest.skip("clients/go was not built: make clients")
    required = (GO / "go.mod").read_text().partition("require (")[2].partition("\ntool (")[0]
    (folder / "go.mod").write_text(
        "module example.com/use\n\ngo 1.26.0\n\nrequire github.com/stepwire/stepwire/clients/go v0.0.0\n\n"
        f"require ({required}\nreplace github.com/stepwire/stepwire/clients/go => {GO}\n"
    )
    shutil.copyfile(GO / "go.sum", folder / "go.sum")


def npm_project(folder: Path, *others: str) -> None:
    """Make a folder a project that has the packed package installed, and other packages."""
    if not (TYPESCRIPT / "dist" / "node.js").exists():
        pytest.skip("clients/typescript was not built: make clients")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    packed = run(["npm", "pack", "--silent", "--pack-destination", str(folder)], TYPESCRIPT).strip()
    run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", f"./{packed}", *others], folder)
