"""An outage, told as a story: 200 orders, a bank that is down, and an operator with nothing but the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.serving import COMMAND, ServerProcess

from stepwire.client import SyncClient

if sys.platform == "win32":
    pytest.skip("no pseudo terminals", allow_module_level=True)

ORDERS = 200
FLOWS = f"{Path(__file__).with_name('flows.py')}:Shop"


class Operator:
    """Whoever is on call, at a shell."""

    def __init__(self, address: str, key: str) -> None:
        self._env = {**os.environ, "STEPWIRE_SERVER": address, "STEPWIRE_TOKEN": key, "COLUMNS": "200"}

    def types(self, *arguments: str, code: int = 0) -> str:
        """Run a command and return what it writes."""
        done = subprocess.run(
            [str(COMMAND), *arguments], env=self._env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def sees(self, *arguments: str) -> Any:
        """Run a command for scripts, and return its document."""
        return json.loads(self.types(*arguments, "--json").splitlines()[-1])


def until(condition: Any, seconds: float = 240.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """The access file's keys: of the shop, which may write, and of Ada, who is on call."""
    made = {}
    for name, scope in (("shop", "write"), ("ada", "admin")):
        new = [str(COMMAND), "keys", "new", name, "--scope", scope, "--file", str(tmp_path / "access.toml")]
        written = subprocess.run(new, capture_output=True, text=True, check=True).stdout
        made[name] = written.split()[0]
    return made


@pytest.fixture
def server(tmp_path: Path, keys: dict[str, str]) -> Iterator[ServerProcess]:
    (tmp_path / "bank-is-up").touch()
    args = ["--api-keys", str(tmp_path / "access.toml"), "--audit-log", str(tmp_path / "audit.log")]
    with ServerProcess(tmp_path / "data", [FLOWS], args=args, env={"OUTAGE_FOLDER": str(tmp_path)}) as process:
        yield process


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_an_outage(tmp_path: Path, server: ServerProcess, keys: dict[str, str]) -> None:
    bank, done, audit = (tmp_path / name for name in ("bank-is-up", "done", "audit.log"))
    ada = Operator(server.address, keys["ada"])

    # The bank goes down. Orders come in: half of them give up soon, the others try again and again.
    bank.unlink()
    with SyncClient(server.address, token=keys["shop"]) as shop:
        started = [shop.start_run("Shop", n=n, patient=bool(n % 2), run_id=f"order-{n}") for n in range(ORDERS)]
    until(lambda: len(ada.sees("runs", "--status", "failed", "--limit", "1000")) == ORDERS // 2)

    # Which orders, why, and since when?
    page = ada.types("runs", "--status", "failed", "--limit", "3")
    assert "step pay: ConnectionError: the bank does not answer" in page
    assert "there are more" in page
    failed = ada.sees("runs", "--error", "ConnectionError", "--status", "failed", "--limit", "1000")
    assert {run["run_id"] for run in failed} == {f"order-{n}" for n in range(0, ORDERS, 2)}
    assert {run["started_by"] for run in failed} == {"shop"}
    until(lambda: len(ada.sees("runs", "--step", "pay_later", "--limit", "1000")) == ORDERS // 2)
    trying = ada.sees("runs", "order-1")
    [delivery] = trying["active_deliveries"]
    assert delivery["step"] == "pay_later"
    assert delivery["last_error"]["error_type"] == "ConnectionError"
    assert delivery["since"]
    told = ada.types("runs", "order-1")
    assert "pay_later" in told
    assert "the bank does not answer" in told

    # No more attempts, until the bank is back. New orders are taken, and wait.
    ada.types("pause", "--workflow", "Shop", "--reason", "the bank is down")
    assert "the bank is down" in ada.types("workflows", "Shop")
    with SyncClient(server.address, token=keys["shop"]) as shop:
        late = shop.start_run("Shop", n=ORDERS, run_id=f"order-{ORDERS}")
    assert "the bank is down" in ada.types("runs", late.run_id)
    reserved = done.read_text().count("reserve")
    assert reserved == ORDERS
    server.stop()
    server.start()  # a deploy in the middle of it changes nothing
    assert done.read_text().count("reserve") == reserved

    # The bank is back.
    bank.touch()
    ada.types("resume", "--workflow", "Shop")
    assert f"would retry {ORDERS // 2} runs" in ada.types("retry", "--all", "--workflow", "Shop", "--dry-run")
    assert f"retried {ORDERS // 2} runs" in ada.types("retry", "--all", "--workflow", "Shop", "--status", "failed")
    again = ada.types("retry", "--all", "--workflow", "Shop", "--status", "failed")  # asked twice, done once
    assert "retried 0 runs" in again
    assert f"{ORDERS // 2} were retried before" in again

    def all_paid() -> bool:
        return len(ada.sees("runs", "--status", "completed", "--limit", "1000")) == ORDERS + 1

    until(all_paid)

    # Everything was done, and nothing twice under the same key.
    lines = done.read_text().splitlines()
    assert max(Counter(lines).values()) == 1
    assert Counter(line.split()[0] for line in lines) == {"reserve": ORDERS + 1, "pay": ORDERS + 1, "ship": ORDERS + 1}
    paid_under = {line.split()[1] for line in lines if line.startswith("pay")}
    assert {f"{run.run_id}/2" for run in started} <= paid_under  # the keys of the orders, not of the retries

    # Who did what?
    records = [json.loads(line) for line in audit.read_text().splitlines()]
    acts = Counter((each["principal"], each["action"], each["result"]) for each in records)
    assert acts["shop", "start", "OK"] == ORDERS + 1
    assert acts["ada", "pause", "OK"] == 1
    assert acts["ada", "resume", "OK"] == 1
    assert acts["ada", "retry", "OK"] == ORDERS // 2
    retried = {each["run"]: each["made"] for each in records if each["action"] == "retry"}
    assert retried.keys() == {run["run_id"] for run in failed}
    assert ada.sees("runs", "order-0")["retried_as"] == [retried["order-0"]]
