"""The console in a real browser: runs and workflows that are paused, retried, renamed and blocked."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium import webdriver
from tests.system.web.conftest import Site
from tests.system.web.page import Page

from stepwire.workflow.definition.types import engine_types

pytestmark = pytest.mark.web

SHIPPING = """
from stepwire.workflow import Context, HumanResponseEvent, InputRequiredEvent, StartEvent, StopEvent, Workflow, step


class Go(HumanResponseEvent):
    pass


class Shipping(Workflow):
    @step{arguments}
    async def {name}(self, ctx: Context, ev: StartEvent) -> StopEvent:
        await ctx.wait_for_event(Go, waiter_event=InputRequiredEvent(text="Send it?"), timeout=None)
        return StopEvent(result="sent")
"""


def status(site: Site, run: str) -> str:
    return str(site.call("RunService/GetRun", {"runId": run})["run"]["status"])


def test_a_run_is_paused_and_resumed(page: Page, site: Site) -> None:
    run = site.asking("Ada")
    page.open(f"/runs/{run}")
    page.click("Pause")
    page.sees("paused in the console")
    page.button("Resume")
    assert status(site, run) == "RUN_STATUS_PAUSED"
    site.call("RunService/ResumeRun", {"runId": run})  # by another client
    page.button("Pause")
    site.call("RunService/PauseRun", {"runId": run, "reason": "by another client"})
    page.sees("by another client")
    site.send(run, "Approval", verdict="approve", by="Grace")
    page.click("Resume")
    page.sees("approve by Grace")
    assert status(site, run) == "RUN_STATUS_COMPLETED"


def test_a_workflow_is_paused_and_resumed(page: Page, site: Site) -> None:
    page.open("/workflows/notes")
    page.click("Pause the workflow")
    page.sees("paused in the console")
    run = site.start("notes")
    page.open(f"/runs/{run}")
    page.sees("Its workflow is paused")
    page.sees("\u25cb queued")
    assert "\u00d7" not in page.one(".graph").text.replace("StartEvent \u00d71", "")
    page.open("/workflows/notes")
    page.click("Resume the workflow")
    page.button("Pause the workflow")
    page.open(f"/runs/{run}")
    page.until(lambda: "InputRequiredEvent \u00d71" in page.one(".graph").text, "the step has not run")
    assert "Its workflow is paused" not in page.text()


def test_a_failed_run_is_retried_once(page: Page, site: Site) -> None:
    run = site.start("forger", text="a bank that is down")
    site.send(run, "Note", n=1)
    page.open(f"/runs/{run}")
    retry = page.button("Retry")
    assert "primary" in (retry.get_attribute("class") or "")
    retry.click()
    page.sees("Retries")
    again = page.browser.current_url.rpartition("/")[2]
    assert again != run
    page.open(f"/runs/{run}")
    page.sees("Retried as")
    page.button(again)
    assert "primary" not in (page.button("Retry").get_attribute("class") or "")
    page.click("Retry")
    page.until(lambda: page.browser.current_url.endswith(f"/{again}"), "a second retry leads to another run")


def test_selected_runs_are_cancelled(page: Page, site: Site) -> None:
    runs = [site.start("notes", labels={"batch": "steering"}) for _ in range(5)]
    page.open("/runs?label=batch%3Dsteering")
    page.until(lambda: len(page.all(".row.run")) == 5, "the runs do not appear")
    for tick in page.all(".row.run input[type=checkbox]")[:3]:
        tick.click()
    page.sees("3 selected")
    page.click("Cancel 3")
    page.sees("Cancel 3 runs?")
    page.click("Cancel 3 runs")
    page.sees("Cancel: 3 done")
    assert [status(site, run) for run in runs].count("RUN_STATUS_CANCELLED") == 3


def test_a_renamed_step_has_one_name_and_a_blocked_run_says_what_to_do(
    browser: webdriver.Chrome, tmp_path: Path
) -> None:
    code = tmp_path / "shipping.py"
    code.write_text(SHIPPING.format(arguments="", name="ship"))
    site = Site(tmp_path / "data", specs=[f"{code}:Shipping=shipping"])
    page = Page(browser, site.url)
    page.errors()
    with site.server:
        run = site.start("shipping")
        page.open(f"/runs/{run}")
        page.sees("Step ship waits for Go")
    code.write_text(SHIPPING.format(arguments='(aliases=["ship"])', name="deliver"))
    with site.server:
        page.open(f"/runs/{run}")
        page.sees("Step deliver waits for Go")
        page.until(lambda: page.one(".now tbody th").text.startswith("deliver"), "the table has another name")
    code.write_text(SHIPPING.format(arguments="", name="send"))
    with site.server:
        page.open(f"/runs/{run}")
        page.sees("does not exist: ship; if it was renamed")
        page.sees("aliases")
        page.sees("migrate()")
        page.sees("Send it?")
        page.button("Cancel run")
        assert not page.all(".question form")
        page.open("/workflows/shipping")
        page.sees("\u25a0 blocked 1 ")
        page.sees("does not exist: ship; if it was renamed")
        page.open(f"/runs/{run}")
        page.button("Cancel run")
        assert "Pause" not in [each.text for each in page.all("button")]
    code.write_text(SHIPPING.format(arguments='(aliases=["ship"])', name="send"))
    with site.server:
        page.sees("Step send waits for Go")
        page.until(lambda: page.all(".question form"), "the question takes no answer")
        page.click("Answer")
        page.sees("sent")
        page.sees("completed")
        # The browser reports the connections that were refused while the server was away.
        assert all("net::ERR" in error for error in page.errors())


def test_what_does_not_exist_is_told_with_a_way_on(page: Page, site: Site) -> None:
    for path, said in (("/nope", "There is no such page"), ("/runs/xyz", "The server has no run xyz.")):
        page.open(path)
        page.sees(said)
        page.click("All runs")
        page.until(lambda: page.browser.current_url.endswith("/runs"), "the link does not lead on")


def test_the_types_of_the_author_come_before_those_of_the_library(page: Page, site: Site) -> None:
    page.open("/workflows/expenses")
    page.sees("Types of the library")
    own = [each.text for each in page.all(".page > .types summary strong")]
    assert {"Approval", "Checked", "Expense"} <= set(own)
    assert not {"Event", "StartEvent", "StopEvent", "StepFailedEvent", "DictState"} & set(own)
    page.one(".library > summary").click()
    page.until(lambda: "StepFailedEvent" in page.text(), "the library's types do not unfold")
    library = [each.text for each in page.all(".library > .types summary strong")]
    assert sorted(library) == sorted(each.__name__ for each in engine_types())
