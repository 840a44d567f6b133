"""Parents, children and schedules in the console, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest
from tests.system.web.conftest import Site
from tests.system.web.page import Page

pytestmark = [pytest.mark.web, pytest.mark.slow, pytest.mark.timeout(120)]


def asked(site: Site, run: str, number: int) -> list[dict[str, Any]]:
    """Return the questions that a run and its children ask once there are so many."""
    while True:
        found = site.call("RunService/GetRun", {"runId": run})["run"].get("pendingWaiters", [])
        if len(found) == number:
            return list(found)


def test_a_question_of_a_child_is_answered_at_its_parent(page: Page, site: Site) -> None:
    run = site.start("trips", travellers=["Ada", "Grace"])
    children = {each["runId"] for each in asked(site, run, 2)}
    page.open(f"/runs/{run}")
    page.sees("Pay 40 to Ada?")
    page.sees("2 runs: 2 unfinished")
    page.one(".question select")
    page.script("document.querySelectorAll('.question select')[0].selectedIndex = 1")
    page.fill("by", "Edsger")
    page.click("Answer")
    page.sees("1 completed")
    page.click("Children")
    page.until(lambda: len(page.all(".kin")) == 2, "not both children are shown")
    assert {each.get_attribute("title") for each in page.all(".kin a")} == children
    page.all(".kin a")[0].click()
    page.sees("Parent")
    assert page.one(f"dl.facts a[href='/runs/{run}']").text == run
    page.open(f"/runs?parent={run}")
    page.until(lambda: len(page.all(".row.run")) == 2, "the children of the parent are not listed")


def test_children_of_children_unfold(page: Page, site: Site) -> None:
    run = site.start("tours", groups=[["Ada", "Grace"], ["Linus"]])
    asked(site, run, 3)
    page.open(f"/runs/{run}")
    page.click("Children")
    page.until(lambda: len(page.all(".kin")) == 2, "the trips are not shown")
    assert page.one(".panel > .quiet").text == "2 runs: 2 unfinished"
    for summary in page.all(".descent summary"):
        summary.click()
    page.until(lambda: len(page.all(".descent .descent .kin")) == 3, "the trips do not unfold")
    # The two trips start at the same time, so either may be the newer one, which is shown first.
    trips = [each.text for each in page.all(".descent summary")]
    assert sorted(trips) == ["1 run: 1 unfinished", "2 runs: 2 unfinished"]
    alone = page.all(".descent .descent .kin a")[0 if trips[0].startswith("1 run") else -1]
    linus = alone.get_attribute("title") or ""
    site.send(linus, "Approval", verdict="approve", by="Edsger")
    page.until(lambda: page.one(".panel > .quiet").text == "2 runs: 1 unfinished, 1 completed", "the tree is not live")
    assert len(page.all(".descent .descent .kin")) == 3  # it stays unfolded
    page.all(".descent .descent .kin a")[0].click()
    page.sees("Parent")


def test_a_schedule_is_paused_resumed_and_starts_a_run(page: Page, site: Site) -> None:
    spec = {
        "workflow": "expenses",
        "timing": {"cron": "0 7 * * 1-5", "timeZone": "Europe/Oslo"},
        "input": {"value": {"who": "Ada", "amount": 7}},
        "description": "The expenses of the week",
    }
    site.call("ScheduleService/CreateSchedule", {"scheduleId": "weekly", "spec": spec})
    page.open("/schedules")
    page.sees("0 7 * * 1-5 Europe/Oslo")
    page.click("Pause")
    page.sees("paused")
    page.click("Resume")
    page.sees("active")
    page.click("weekly")
    page.sees("Next due times")
    page.script("window.held = arguments[0]; held.focus()", page.button("Start a run now"))
    site.call("ScheduleService/PauseSchedule", {"scheduleId": "weekly", "reason": "a holiday"})
    page.sees("a holiday")  # the page goes on while one of its buttons has the focus
    assert page.script("return document.activeElement === held")
    page.click("Resume")
    page.sees("active")
    page.click("Start a run now")
    page.sees("Pay 7 to Ada?")
    page.sees("Schedule")
    page.click("weekly")
    page.sees("asked for")
    page.click("Delete")
    page.one("dialog .danger").click()
    page.sees("No schedules yet")


def test_a_schedule_that_does_not_exist_is_told(page: Page, site: Site) -> None:
    page.open("/schedules/none")
    page.sees("There is no such schedule")
    page.click("All schedules")
    page.sees("No schedules yet")
