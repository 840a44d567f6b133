"""The console in a real browser: what people do with it."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import threading
from contextlib import suppress
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import Select
from tests.serving import ROOT, ServerProcess
from tests.system.web.conftest import Site
from tests.system.web.page import Page
from typer.testing import CliRunner

from stepwire.cli import app

pytestmark = pytest.mark.web

FORGED = '<script>window.forged=1</script><img src=x onerror="window.forged=1">\'"><svg onload=window.forged=1>'
PAGES = ["/runs", "/runs/{run}", "/runs/{run}?tab=timeline", "/runs/{run}?tab=events", "/runs/{run}?tab=state"]
PAGES += ["/runs/{run}?tab=travel", "/runs/{run}?tab=children", "/workflows", "/workflows/expenses", "/server"]
PAGES += ["/schedules", "/schedules/weekly"]


def test_a_run_is_started_watched_and_answered(page: Page) -> None:
    page.open("/")
    page.click("Start a run")
    page.click("expenses")
    page.click("Start the run")
    page.sees("this is required")
    page.fill("who", "Ada")
    page.fill("amount", "many")
    page.click("Start the run")
    page.sees("a whole number is expected")
    page.fill("amount", "120")
    page.fill("tags", '["books"]')
    page.click("Start the run")
    page.sees("Pay 120 to Ada?")
    page.until(lambda: page.all(".node.waiting"), "the graph does not show the step that waits")
    assert "waits for Approval" in page.one(".node.waiting").text
    Select(page.field("verdict")).select_by_visible_text("approve")
    page.fill("by", "Grace")
    page.click("Answer")
    page.sees("approve by Grace")
    page.sees("completed")
    assert not page.all(".node.waiting")
    page.until(lambda: "\u00d71" in page.one(".graph").text, "the graph does not count events")


def test_the_server_checks_an_answer_and_the_form_shows_it(page: Page, site: Site) -> None:
    run = site.start("expenses", who="Ada", amount=7)
    page.open(f"/runs/{run}")
    page.sees("Pay 7 to Ada?")
    page.fill("by", "Grace")
    page.click("Answer")
    page.until(lambda: page.one(".wrong .problem").text == "this is required", "a verdict was chosen beforehand")
    Select(page.field("verdict")).select_by_visible_text("approve")
    page.fill("limit", "5000")  # only the server checks this bound
    page.click("Answer")
    page.until(lambda: "1000" in page.one(".wrong .problem").text, "the refusal is not shown at its field")
    assert "do not fit Approval" in page.one(".question .problem[role=alert]").text
    page.fill("limit", "5")
    page.click("Answer")
    page.sees("approve by Grace")


def test_a_failed_attempt_is_seen_with_its_error_and_what_comes_next(page: Page, site: Site) -> None:
    run = site.start("failing")
    page.open(f"/runs/{run}")
    page.sees("Steps now")
    page.sees("the bank is down")
    page.until(lambda: "failed, attempt 1" in page.one(".node.bad .state").text, "the graph does not mark the step")
    page.open(f"/runs/{run}?tab=timeline")
    page.sees("1 attempt at steps")
    page.one("rect.attempt.bad")
    page.open(f"/runs/{run}?tab=events")
    page.sees("charge failed, attempt 1")


def test_state_is_edited_and_a_conflict_is_told(page: Page, site: Site) -> None:
    run = site.start("expenses", who="Ada", amount=7)
    page.open(f"/runs/{run}?tab=state")
    page.sees("amount: ")
    page.one("[aria-label='Change expense.amount']").click()
    box = page.one("dialog textarea")
    box.clear()
    box.send_keys("8")
    site.call("StateService/SetState", {"runId": run, "values": [{"path": "expense.amount", "value": {"value": 9}}]})
    page.click("Save")
    page.sees("The state has changed since you opened this")
    assert site.call("StateService/GetState", {"runId": run, "path": "expense.amount"})["value"]["value"] == 9
    page.click("Save")
    page.until(lambda: not page.all("dialog"), "the dialog stays")
    assert site.call("StateService/GetState", {"runId": run, "path": "expense.amount"})["value"]["value"] == 8


def test_time_travel_and_a_fork(page: Page, site: Site) -> None:
    run = site.start("expenses", who="Ada", amount=7)
    page.open(f"/runs/{run}?tab=travel")
    slider = page.one("input[type=range]")
    assert int(slider.get_attribute("max") or 0) >= 1
    page.sees("1 open question")
    page.click("Fork from here")
    page.sees("Forked from")
    page.sees("Pay 7 to Ada?")
    fork = page.browser.current_url.rpartition("/")[2]
    assert fork != run
    site.send(fork, "Approval", verdict="refuse", by="Eve")
    page.sees("refuse by Eve")
    assert site.call("RunService/GetRun", {"runId": run})["run"]["status"] == "RUN_STATUS_WAITING"


def test_the_list_is_live_filtered_and_acts_on_many(page: Page, site: Site) -> None:
    page.open("/runs?workflow=notes")
    page.sees("No run matches")
    runs = [site.start("notes", labels={"batch": "b1"}) for _ in range(3)]
    page.until(lambda: len(page.all(".row.run")) == 3, "the runs do not appear")
    search = page.one("#search")
    search.send_keys("batch=b1\n")
    page.until(lambda: "label=batch" in page.browser.current_url, "the filter is not in the address")
    page.until(lambda: len(page.all(".row.run")) == 3, "the filter does not find the runs")
    for tick in page.all(".row.run input[type=checkbox]"):
        tick.click()
    page.click("Cancel 3")
    page.click("Cancel 3 runs")
    page.until(lambda: page.text().count("cancelled") >= 3, "the runs are not cancelled")
    for run in runs:
        assert site.call("RunService/GetRun", {"runId": run})["run"]["status"] == "RUN_STATUS_CANCELLED"


def test_a_killed_server_is_told_and_the_log_has_no_gap_and_no_repeat(page: Page, site: Site) -> None:
    run = site.start("notes")
    page.open(f"/runs/{run}?tab=events")
    for n in range(20):
        site.send(run, "Note", n=n)
    page.until(lambda: sequences(page) == list(range(1, last(site, run) + 1)), "the log is not whole")
    site.server.kill()
    page.sees("No connection")
    site.server.start()
    for n in range(20, 40):
        site.send(run, "Note", n=n)
    page.until(lambda: "No connection" not in page.text(), "the page does not connect again")
    page.until(lambda: sequences(page) == list(range(1, last(site, run) + 1)), "the log has a gap or a repeat")
    # The browser itself reports the connections that were refused meanwhile.
    assert all("net::ERR" in error or "net_error" in error for error in page.errors())


def last(site: Site, run: str) -> int:
    return int(site.call("RunService/GetRun", {"runId": run})["run"]["lastSequence"])


def sequences(page: Page) -> list[int]:
    """Scroll through the log; return the sequences that its rows show, in order, each row once."""
    found: list[int] = page.browser.execute_async_script(  # type: ignore[no-untyped-call]
        """
        const done = arguments[0], box = document.querySelector('.windowed'), seen = new Map();
        const drawn = () => new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then)));
        (async () => {
          for (let top = 0; top <= box.scrollHeight; top += 200) {
            box.scrollTop = top;
            await drawn();
            for (const row of box.querySelectorAll('.row.entry'))
              seen.set(row.parentNode.style.top, Number(row.querySelector('.e-seq').textContent));
          }
          done([...seen].sort((a, b) => parseInt(a[0]) - parseInt(b[0])).map((each) => each[1]));
        })();
        """
    )
    return found


def test_the_server_page_and_what_a_reader_is_offered(browser: webdriver.Chrome, tmp_path: Path) -> None:
    access = tmp_path / "access.toml"
    made = CliRunner().invoke(app, ["keys", "new", "clerk", "--scope", "read", "--file", str(access)])
    site = Site(tmp_path / "data", "--api-keys", str(access))
    with site.server:
        page = Page(browser, site.url)
        page.open("/server")
        page.sees("This server wants a credential.")
        page.fill("API key or token", made.stdout.strip())
        page.click("Sign in")
        page.sees("clerk \u00b7 default \u00b7 read only")
        for text in ("SQLite", "must authenticate", "max_message_bytes", "takes work"):
            page.sees(text)
        page.open("/workflows/expenses")
        page.sees("Your credential does not allow to start runs of this workflow.")
        page.script("sessionStorage.clear()")
        page.errors()


def test_nothing_that_someone_wrote_is_executed(page: Page, site: Site) -> None:
    run = site.start("forger", labels={"note": FORGED}, text=FORGED)
    schedule(site, FORGED)
    page.open("/runs")
    page.sees("forger")
    for path in PAGES:
        page.open(path.format(run=run))
        page.until(lambda: "Loading" not in page.text(), "the page stays empty")
        assert page.script("return window.forged") is None, path
    page.open("/workflows/forger")
    page.sees("Put a text everywhere")
    site.send(run, "Note", n=1)
    page.open(f"/runs/{run}")
    page.sees("ValueError")
    page.sees("window.forged=1")
    for tab in ("events", "timeline", "state", "travel"):
        page.open(f"/runs/{run}?tab={tab}")
        page.until(lambda: "Loading" not in page.text(), "the page stays empty")
    page.open(f"/runs/{'%3Cimg%20src%3Dx%20onerror%3D%22window.forged%3D1%22%3E'}")
    page.sees("There is no such run")
    assert page.script("return window.forged") is None


def schedule(site: Site, text: str) -> None:
    """Have a schedule that is called weekly, with a text wherever it takes one."""
    given = {"value": {"who": text, "amount": 7}}
    timing = {"cron": "0 7 * * 1-5", "timeZone": "Europe/Oslo"}
    spec = {"workflow": "expenses", "timing": timing, "input": given, "description": text, "labels": {"note": text}}
    with suppress(HTTPError):  # another test has made it
        site.call("ScheduleService/DeleteSchedule", {"scheduleId": "weekly"})
    site.call("ScheduleService/CreateSchedule", {"scheduleId": "weekly", "spec": spec})
    site.call("ScheduleService/PauseSchedule", {"scheduleId": "weekly", "reason": text})


@pytest.mark.parametrize("width", [700, 1000, 1360])
def test_a_long_label_makes_no_page_too_wide(page: Page, site: Site, width: int) -> None:
    run = site.asking("Ada", region="north", why="a-value-without-end-" * 3)
    page.browser.set_window_size(width, 900)
    for path in (f"/runs/{run}", "/runs"):
        page.open(path)
        page.until(lambda: len(page.all(".tag")) >= 2, "the labels are not shown")
        assert page.script("return document.documentElement.scrollWidth <= innerWidth"), path


SELECTED_IN_SIGHT = """
return [...document.querySelectorAll('[aria-selected=true]')].every((tab) => {
  const { left, right } = tab.getBoundingClientRect();
  return left >= 0 && right <= innerWidth;
});
"""


@pytest.mark.parametrize("width", [1360, 360])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_accessibility_fault(page: Page, site: Site, axe: str, theme: str, width: int) -> None:
    run = site.start("trips", labels={"region": "eu"}, travellers=["Ada", "Grace"])
    schedule(site, "What Ada spends in a week")
    page.browser.set_window_size(max(width, 500), 900)  # chromium has no narrower window; the emulation below does
    page.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        page.open("/")
        page.script("localStorage.setItem('stepwire-theme', arguments[0])", theme)
        for path in PAGES:
            page.open(path.format(run=run))
            page.until(lambda: "Loading" not in page.text(), "the page stays empty")
            found = faults(page, axe)
            assert found == [], (path, found)
            assert page.script("return document.documentElement.scrollWidth <= innerWidth + 1"), f"{path} is too wide"
            assert page.script(SELECTED_IN_SIGHT), f"the selected tab of {path} is out of sight"
    finally:
        page.script("localStorage.clear()")
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, from npm."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", "axe-core@4.10.3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    if done.returncode:
        pytest.skip(f"axe-core cannot be installed: {done.stderr[-200:]}")
    return (Path(folder) / "node_modules" / "axe-core" / "axe.min.js").read_text()


def faults(page: Page, axe: str) -> list[dict[str, Any]]:
    """Return the serious and critical findings of axe-core, which is put into the page by the browser's own driver."""
    page.browser.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})
    axe_run = "axe.run().then((found) => JSON.stringify(found.violations))"
    asked = {"expression": axe_run, "awaitPromise": True, "returnByValue": True}
    answer = page.browser.execute_cdp_cmd("Runtime.evaluate", asked)
    return [
        {
            "id": each["id"],
            "where": [node["target"] for node in each["nodes"]][:3],
            "why": each["nodes"][0]["failureSummary"],
        }
        for each in json.loads(answer["result"]["value"])
        if each["impact"] in ("serious", "critical")
    ]


def test_the_example_page_starts_and_answers_an_approval(page: Page, tmp_path: Path) -> None:
    """examples/browser, served as its README says, by a server that lists its origin."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(ROOT / "examples" / "browser"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages:
        thread = threading.Thread(target=pages.serve_forever, daemon=True)
        thread.start()
        origin = f"http://127.0.0.1:{pages.server_address[1]}"
        specs = ["examples/approval.py:Approval=approval"]
        args = ["--web", "127.0.0.1:0", "--web-origins", origin]
        with ServerProcess(tmp_path / "data", specs, args=args) as server:
            (found,) = re.findall(r"console at (http://\S+)", server.log)
            page.browser.get(f"{origin}/?server={found}")
            page.click("Ask for it")
            page.sees("ada asks for 120.00")
            page.click("Approve")
            page.sees("ended: approved by a browser")
        pages.shutdown()
        thread.join()
