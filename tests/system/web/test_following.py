"""The page of a run in a real browser while the run works: what changes is drawn, and nothing else moves."""

from __future__ import annotations

import math
import time
from datetime import datetime

import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from tests.system.web.conftest import Site
from tests.system.web.page import Page

pytestmark = pytest.mark.web

DRAWINGS = """
window.drawn = { marks: 0, times: 0 };
new MutationObserver((changes) => {
  const added = changes.flatMap((each) => [...each.addedNodes]);
  const inside = (each) => each.matches?.('circle') ? [each] : [...each.querySelectorAll?.('circle') ?? []];
  const marks = new Set(added.flatMap(inside)); // each once, also if it was added to what was added
  drawn.marks += marks.size;
  if (marks.size > 1000) drawn.times += 1;
}).observe(document.querySelector('.timeline'), { childList: true, subtree: true });
"""
SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => shifts.push(...list.getEntries().map((each) => each.value)))
  .observe({ type: 'layout-shift', buffered: true });
"""


def entries(site: Site, run: str) -> int:
    return int(site.run(run)["lastSequence"])


def age(site: Site, run: str) -> float:
    """Return for how many seconds a run has been."""
    return time.time() - datetime.fromisoformat(site.run(run)["createdAt"]).timestamp()


def circles(page: Page) -> int:
    return int(page.script("return document.querySelectorAll('.timeline circle').length"))


def test_an_event_costs_the_timeline_its_own_mark(page: Page, site: Site) -> None:
    run = site.start("tides", at_once=3000, per_second=50)
    page.open(f"/runs/{run}?tab=timeline")
    page.until(lambda: circles(page) > 3000, "the timeline does not show the events")
    young = age(site, run)
    page.script(DRAWINGS)
    before = shown(page)
    page.until(lambda: shown(page) > before + 200, "the page does not follow the run")
    marks, times = page.script("return [drawn.marks, drawn.times]")
    # The axis grows by a quarter of the run's age each time: that is 5 times in the four seconds after the second one.
    # It is drawn anew also when the page learns of the steps or of its width. A frame each is 200.
    redraws = 5 + math.log(age(site, run) / young) / math.log(1.25)
    assert times <= redraws
    assert marks <= redraws * 4000 + entries(site, run)
    site.call("RunService/CancelRun", {"runId": run})
    page.until(lambda: page.all("circle.kind-terminal"), "the end is not shown")


def test_the_timeline_shows_attempts_that_fail_end_and_go_on(page: Page, site: Site) -> None:
    failed = site.start("failing")
    page.open(f"/runs/{failed}?tab=timeline")
    page.sees("Attempts that failed")
    assert "the bank is down" in page.one(".failures").text
    run = site.asking("Ada")
    page.open(f"/runs/{run}?tab=timeline")
    page.until(lambda: len(page.all("rect.attempt.good")) == 1, "the attempt that finished is not shown")
    page.one("rect.bar.waiting")
    before = width(page, "rect.bar.waiting")
    page.until(lambda: width(page, "rect.bar.waiting") != before, "the bar of what waits does not go on")
    site.send(run, "Approval", verdict="approve", by="Grace")
    page.until(lambda: page.all("circle.kind-terminal"), "the end is not shown")
    page.until(lambda: not page.all("rect.bar.waiting, rect.attempt.active"), "something goes on after the end")


def width(page: Page, selector: str) -> float:
    return float(page.one(selector).get_attribute("width") or 0)


def test_nothing_moves_while_events_stream(page: Page, site: Site) -> None:
    run = site.start("tides", at_once=50, per_second=50)
    for tab in ("", "?tab=timeline", "?tab=events"):
        page.open(f"/runs/{run}{tab}")
        page.until(lambda: "Loading" not in page.text() and page.all(".facts"), "the page stays empty")
        page.until(lambda: page.all(".graph, .timeline circle, .row.entry"), "the tab stays empty")
        page.script(SHIFTS)
        settled = entries(site, run) + 100
        page.until(lambda at=settled: entries(site, run) > at, "no events")  # type: ignore[misc]
        page.script("shifts.length = 0")  # those of the page's own beginning
        shown = entries(site, run) + 100
        page.until(lambda at=shown: f"{at} " in page.one("dl.facts").text or entries(site, run) > at + 50, "no events")  # type: ignore[misc]
        assert page.script("return shifts.reduce((sum, each) => sum + each, 0)") < 0.01, tab
    site.call("RunService/CancelRun", {"runId": run})


def test_the_focus_stays_and_a_click_counts_while_events_stream(page: Page, site: Site) -> None:
    run = site.start("tides", at_once=50, per_second=50)
    page.open(f"/runs/{run}")
    button = page.button("Cancel run")
    page.script("arguments[0].focus(); window.held = arguments[0]", button)
    before = entries(site, run)
    page.until(lambda: shown(page) > before + 50, "the page does not follow the run")
    assert page.script("return document.activeElement === held && held.isConnected")
    page.press(Keys.ENTER)
    page.sees("Cancel this run?")
    assert page.focused() == "Close"
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.all("dialog"), "Escape does not close the dialog")
    assert page.focused() == "Cancel run"
    page.press(Keys.ENTER)
    page.one("dialog .danger").click()
    page.until(lambda: "cancelled" in page.one(".title").text, "the run is not cancelled")


def shown(page: Page) -> int:
    """Return how many entries the head of the page counts."""
    code = "return document.querySelector('dl.facts').textContent.match(/Log(\\d+)/)?.[1] ?? 0"
    return int(page.script(code))


def test_the_log_is_filtered_paused_and_goes_on(page: Page, site: Site) -> None:
    run = site.start("notes")
    for n in range(5):
        site.send(run, "Note", n=n)
    page.open(f"/runs/{run}?tab=events")
    page.until(lambda: len(page.all(".row.entry")) == entries(site, run), "the log is not whole")
    page.click("received")
    page.until(lambda: kinds(page) == {"received"}, "the kind is not chosen")
    assert len(page.all(".row.entry")) == 6  # the start and the notes
    page.click("received")
    Select(page.one("[aria-label='Event type']")).select_by_visible_text("Noted")
    page.until(lambda: {each.text for each in page.all(".e-type")} == {"Noted"}, "the type is not chosen")
    page.click("\u2016 Pause")
    site.send(run, "Note", n=6)
    page.until(lambda: shown(page) == entries(site, run), "the page does not follow the run")
    assert len(page.all(".row.entry")) == 5
    page.click("\u25b6 Go on")
    page.until(lambda: len(page.all(".row.entry")) == 6, "the log does not go on")
    page.all(".row.entry")[-1].click()
    page.until(lambda: "n: 6" in page.one(".detail").text, "the payload is not shown")


def kinds(page: Page) -> set[str]:
    return {each.text for each in page.all(".row.entry .e-kind")}


def test_tabs_keep_what_the_page_has_read(page: Page, site: Site) -> None:
    run = site.start("flood", count=3000)
    site.ended(run)
    page.open(f"/runs/{run}?tab=events")
    whole = f"{entries(site, run)} of {entries(site, run)} entries"
    page.sees(whole)
    page.script("window.asked = performance.getEntriesByType('resource').length")
    for name, said in (("Timeline", "events and"), ("Overview", "Outcome"), ("Events", whole)):
        page.click(name)
        page.sees(said)
        assert page.one("[role=tab][aria-selected=true]").text == name
    code = "return performance.getEntriesByType('resource').slice(asked).map((each) => each.name)"
    assert not [each for each in page.script(code) if "StreamEvents" in each]
    page.browser.back()
    page.sees("Outcome")
    page.browser.refresh()
    page.sees("Outcome")


def test_state_that_changes_keeps_its_folds(page: Page, site: Site) -> None:
    run = site.asking("Ada")
    values = [{"path": "deep", "value": {"value": {"a": {"b": {"c": 1}}}}}, {"path": "n", "value": {"value": 1}}]
    site.call("StateService/SetState", {"runId": run, "values": values})
    page.open(f"/runs/{run}?tab=state")
    page.sees("n: 1")
    page.until(lambda: page.all("[data-key=deep] details details:not([open])"), "nothing is folded")
    page.all("[data-key=deep] details details summary")[-1].click()
    page.sees("c: 1")
    page.script("window.held = document.querySelector('[data-key=expense]')")
    site.call("StateService/SetState", {"runId": run, "values": [{"path": "deep.a.b.c", "value": {"value": 2}}]})
    site.call("StateService/SetState", {"runId": run, "values": [{"path": "n", "value": {"value": 2}}]})
    page.sees("n: 2")
    page.sees("c: 2")  # its branch is open as it was
    assert page.script("return held.isConnected")  # what has not changed is not drawn again
    page.one("[data-key=n] .edit").click()
    page.sees("Change n")


def test_what_no_path_leads_to_is_changed_with_what_contains_it(page: Page, site: Site) -> None:
    run = site.asking("Ada")
    values = [{"path": "modules", "value": {"value": {"email.utils": 1, "_private": 2, "plain": 3}}}]
    site.call("StateService/SetState", {"runId": run, "values": values})
    page.open(f"/runs/{run}?tab=state")
    page.sees("email.utils: 1")
    offered = [each.get_attribute("aria-label") for each in page.all("[data-key=modules] .edit")]
    assert sorted(map(str, offered)) == ["Change modules", "Change modules.plain"]
    page.one("[aria-label='Change modules']").click()
    page.one("dialog textarea").send_keys(Keys.CONTROL, "a")
    page.press('{"email.utils": 7}')
    page.click("Save")
    page.sees("email.utils: 7")


def test_two_moments_are_compared(page: Page, site: Site) -> None:
    run = site.asking("Ada")
    page.open(f"/runs/{run}?tab=travel")
    slider = page.one("input[type=range]")
    last = int(slider.get_attribute("max") or 0)
    assert last >= 1
    page.sees("1 open question")
    compare = Select(page.one("[aria-label='Compare with']"))
    compare.select_by_index(1)  # the first moment, at which nothing was set
    page.sees("1 difference")
    assert page.one(".changes .before").text == "absent"
    assert '"who":"Ada"' in page.one(".changes .after").text
    slider.send_keys(Keys.HOME)
    page.sees("0 differences")
    page.sees("The state is empty.")
    page.sees("0 open questions")


def test_a_fork_from_the_end_starts_anew_with_an_input(page: Page, site: Site) -> None:
    run = site.asking("Ada")
    site.send(run, "Approval", verdict="approve", by="Grace")
    site.ended(run)
    page.open(f"/runs/{run}?tab=travel")
    page.sees("Work at that moment")
    page.click("Fork from here")
    page.sees("The run had ended here.")
    page.click("Start the fork")
    page.sees("this is required")
    page.fill("who", "Linus")
    page.fill("amount", "3")
    page.click("Start the fork")
    page.sees("Pay 3 to Linus?")
    page.sees("Forked from")
    assert not page.all("dialog")
