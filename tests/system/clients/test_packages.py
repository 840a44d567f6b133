"""The client packages' own tests, against a real server; only packages that were built (`make clients`) take part."""

from __future__ import annotations

import os
import subprocess

import pytest
from examples.approval import Approval
from examples.trip import Trip
from tests.serving import ROOT

from stepwire.server.testing import serve

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PACKAGES = {
    "go": (["go", "test", "-count=1", "."], "build/driver"),
    "typescript": (["node", "--test", "test/"], "dist/node.js"),
}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_tests_of_a_package_pass(package: str) -> None:
    command, built = PACKAGES[package]
    folder = ROOT / "clients" / package
    if not (folder / built).exists():
        pytest.skip(f"clients/{package} was not built: make clients")
    with serve(settings={"web_address": "127.0.0.1:0"}, approval=Approval, trip=Trip) as server:
        named = {"STEPWIRE_ADDRESS": server.address, "STEPWIRE_WEB": f"http://{server.web_address}"}
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **named},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SKIP" not in done.stdout
