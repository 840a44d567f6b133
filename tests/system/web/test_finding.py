"""The list of runs in a real browser: what finds runs, and what is done with many of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from selenium.webdriver.support.ui import Select
from tests.system.web.conftest import Site
from tests.system.web.page import Page

pytestmark = pytest.mark.web


@pytest.fixture(scope="module")
def runs(site: Site) -> dict[str, str]:
    """Runs that each filter tells apart, by what they are."""
    parent = site.start("trips", {"team": "north"}, "trip-1", travellers=["Ada"])
    failed = site.start("forger", {"team": "north"}, "order-1", text="a text")
    site.send(failed, "Note", n=1)
    site.ended(failed)
    repeats = site.start("failing", {"team": "south"}, "order-2")
    spec = {"workflow": "notes", "timing": {"cron": "0 0 29 2 *"}}
    site.call("ScheduleService/CreateSchedule", {"scheduleId": "leaping", "spec": spec})
    due = site.call("ScheduleService/TriggerSchedule", {"scheduleId": "leaping"})["runId"]
    while not (page := site.call("RunService/ListRuns", {"parentRunId": parent})).get("runs"):
        pass
    return {"parent": parent, "child": page["runs"][0]["runId"], "failed": failed, "repeats": repeats, "due": due}


def listed(page: Page) -> set[str]:
    return {str(each.get_attribute("title")) for each in page.all(".row.run .c-id")}


def lists(page: Page, wanted: set[str]) -> None:
    page.until(lambda: listed(page) == wanted, f"the list does not show {wanted}")


@pytest.mark.parametrize(
    ("field", "text", "found"),
    [
        ("Error type", "ConnectionError", {"repeats"}),
        ("Error type", "ValueError", {"failed"}),
        ("Step", "put", {"failed"}),
        ("Step", "decide", {"child"}),
        ("Waiting for event", "Approval", {"child"}),
        ("Parent run", "trip-1", {"child"}),
        ("Schedule", "leaping", {"due"}),
        ("Caller", "anonymous", {"parent", "child", "failed", "repeats", "due"}),
        ("Caller", "nobody", set()),
    ],
)
def test_runs_are_found_by_what_they_are(
    page: Page, runs: dict[str, str], field: str, text: str, found: set[str]
) -> None:
    page.open("/runs")
    lists(page, set(runs.values()))
    page.one(".more-filters summary").click()
    page.fill(field, text)
    page.click("Apply")
    lists(page, {runs[each] for each in found})
    if not found:
        page.sees("No run matches")
    # The address is the filter: it can be shared, and the form says what it is.
    page.open(page.browser.current_url.removeprefix(page.url))
    lists(page, {runs[each] for each in found})
    assert page.field(field).get_attribute("value") == text
    page.click("Clear")
    lists(page, set(runs.values()))


@pytest.fixture
def kolkata(page: Page) -> Iterator[Page]:
    """A page whose reader is 5:30 hours ahead of UTC."""
    page.browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    yield page
    page.browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})


@pytest.mark.parametrize(
    ("field", "hours", "found"),
    [
        ("Ended after", -1, {"failed"}),
        ("Ended after", 1, set()),
        ("Ended before", -1, set()),
        ("Ended before", 1, {"failed"}),
        ("Created after", 1, set()),
        ("Created before", 1, {"parent", "child", "failed", "repeats", "due"}),
    ],
)
def test_runs_are_found_by_a_time_of_the_readers_clock(
    kolkata: Page, site: Site, runs: dict[str, str], field: str, hours: int, found: set[str]
) -> None:
    page = kolkata
    ended = datetime.fromisoformat(site.run(runs["failed"])["endedAt"]) + timedelta(hours=hours)
    typed = ended.astimezone(ZoneInfo("Asia/Kolkata")).strftime("%Y-%m-%dT%H:%M")
    page.open("/runs")
    page.one(".more-filters summary").click()
    page.script("arguments[0].value = arguments[1]", page.field(field), typed)
    page.click("Apply")
    lists(page, {runs[each] for each in found})
    assert page.field(field).get_attribute("value") == typed
    # The address means the same instant to a reader elsewhere.
    assert ended.astimezone(UTC).strftime("%Y-%m-%dT%H%%3A%M%%3A00.000Z") in page.browser.current_url


def test_runs_are_found_by_id_label_status_and_workflow(page: Page, runs: dict[str, str]) -> None:
    page.open("/runs")
    page.one("#search").send_keys("order-\n")
    lists(page, {runs["failed"], runs["repeats"]})
    assert page.one("#search").get_attribute("value") == "order-"
    page.click("\u2715 failed")
    lists(page, {runs["failed"]})
    page.open("/runs")
    page.one("#search").send_keys("team=north\n")
    lists(page, {runs["failed"], runs["parent"]})
    Select(page.one("select[aria-label=Workflow]")).select_by_visible_text("trips")
    lists(page, {runs["parent"]})
    page.open("/runs")
    page.one("#search").send_keys("order-1\n")  # a whole id leads to the run
    page.until(lambda: page.browser.current_url.endswith("/runs/order-1"), "the run is not opened")


def test_selected_runs_are_retried_and_deleted(page: Page, site: Site) -> None:
    failed = [site.start("forger", {"batch": "again"}, text="a text") for _ in range(3)]
    for run in failed:
        site.send(run, "Note", n=1)
        site.ended(run)
    page.open("/runs?label=batch%3Dagain")
    lists(page, set(failed))
    ticks = page.all(".row.run input[type=checkbox]")
    for tick in ticks[:2]:
        tick.click()
    page.click("Retry 2")
    page.click("Retry 2 runs")
    page.sees("Retry: 2 done")
    page.until(lambda: len(listed(page)) == 5, "the retries are not listed")
    retried = [run for run in failed if site.run(run).get("retriedAs")]
    assert len(retried) == 2
    assert not [tick for tick in page.all(".row.run input[type=checkbox]") if tick.is_selected()]
    for run in failed:
        page.one(f"[aria-label='Select run {run}']").click()
    page.click("Delete 3")
    page.sees("Their logs and snapshots are removed.")
    page.click("Keep")
    page.until(lambda: not page.all("dialog"), "the dialog stays")
    assert len(listed(page)) == 5
    page.click("Delete 3")
    page.click("Delete 3 runs")
    page.sees("Delete: 3 done")
    page.until(lambda: not listed(page) & set(failed), "the deleted runs stay")
    assert len(listed(page)) == 2


def test_all_that_match_are_cancelled(page: Page, site: Site) -> None:
    runs = [site.start("notes", {"batch": "all"}) for _ in range(12)]
    other = site.start("notes", {"batch": "other"})
    page.open("/runs?label=batch%3Dall")
    lists(page, set(runs))
    Select(page.one("[aria-label='Act on all runs that match']")).select_by_visible_text("Cancel")
    page.sees("Cancel all 12 runs?")
    page.click("Cancel 12 runs")
    page.sees("Cancel: 12 done")
    assert {site.run(run)["status"] for run in runs} == {"RUN_STATUS_CANCELLED"}
    assert site.run(other)["status"] == "RUN_STATUS_WAITING"
