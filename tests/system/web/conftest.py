"""A real server and a real browser. Without chromium these tests are skipped."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from tests.serving import ServerProcess
from tests.system.web.page import Page

FLOWS = "tests/system/web/flows.py"
NAMES = ("Expenses", "Notes", "Forger", "Failing", "Flood", "Trips", "Tours", "Tides")
SPECS = [f"{FLOWS}:{name}={name.lower()}" for name in NAMES]

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(300))  # each wait for the page ends before, and says what is missing


FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1360,900",
]


class Site:
    """The console of a server process, and calls to it."""

    def __init__(self, data: Path, *more: str, specs: Sequence[str] = SPECS) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        web = ["--web", self.url.removeprefix("http://"), "--failure-detail", "traceback", "--heartbeat", "1s", *more]
        self.server = ServerProcess(data, specs, args=web)
        self.credential = ""

    def call(self, method: str, request: Any) -> Any:
        """Make a unary call."""
        headers = {"content-type": "application/json"}
        if self.credential:
            headers["authorization"] = f"Bearer {self.credential}"
        asked = urllib.request.Request(f"{self.url}/stepwire.v1.{method}", json.dumps(request).encode(), headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return json.load(answer)

    def start(self, workflow: str, labels: dict[str, str] | None = None, run_id: str = "", **fields: Any) -> str:
        request = {"workflow": workflow, "input": {"value": fields}, "labels": labels or {}, "runId": run_id}
        return str(self.call("RunService/StartRun", request)["run"]["runId"])

    def send(self, run_id: str, name: str, **fields: Any) -> None:
        self.call("RunService/SendEvent", {"runId": run_id, "event": {"type": name, "payload": {"value": fields}}})

    def run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("RunService/GetRun", {"runId": run_id})["run"]
        return found

    def ended(self, run_id: str) -> dict[str, Any]:
        """Wait until a run has ended."""
        found: dict[str, Any] = self.call("RunService/WaitRun", {"runId": run_id, "timeout": "50s"})
        assert not found.get("timedOut"), found
        return self.run(run_id)

    def asking(self, who: str, **labels: str) -> str:
        """Start a run, and wait until it asks."""
        run_id = self.start("expenses", labels, who=who, amount=7)
        asked = {"runId": run_id, "eventType": "InputRequiredEvent", "afterSequence": 0, "timeout": "50s"}
        self.call("RunService/WaitForEvent", asked)
        return run_id


def open_browser() -> webdriver.Chrome:
    """Start a headless chromium of Debian's packages. LookupError when it is not installed."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise LookupError("chromium and chromedriver are not installed (Debian: chromium, chromium-driver)")
    options = Options()
    options.binary_location = chromium
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))


@pytest.fixture(scope="session")
def browser() -> Iterator[webdriver.Chrome]:
    try:
        found = open_browser()
    except LookupError as missing:
        pytest.skip(str(missing))
    yield found
    found.quit()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("console") / "data")
    with site.server:
        yield site


@pytest.fixture
def page(browser: webdriver.Chrome, site: Site) -> Iterator[Page]:
    """A page of the console. The test fails when the browser's console has an error at its end."""
    browser.set_window_size(1360, 900)
    browser.get("about:blank")  # the page of the test before may ask a server that is gone
    page = Page(browser, site.url)
    page.errors()
    yield page
    assert page.errors() == []
