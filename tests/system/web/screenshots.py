"""Write the pictures of the console that the README and docs/web.md show: `python -m tests.system.web.screenshots`.

`--every FOLDER` writes every page instead, in both themes, wide and narrow, for people to look at.
"""

from __future__ import annotations

import argparse
import base64
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.serving import ROOT
from tests.system.web.conftest import FLOWS, Site, open_browser
from tests.system.web.page import Page

IMAGES = ROOT / "docs" / "images"
SPECS = [f"{FLOWS}:{name}={name.lower()}" for name in ("Expenses", "Orders", "Trips", "Tours", "Notes")]


class Shot(NamedTuple):
    """A picture: its name, its page, and what the page says once it is there."""

    name: str
    path: str
    said: str
    theme: str = "light"


def main() -> int:
    """Make some runs and take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.web.screenshots")
    parser.add_argument("--every", type=Path, metavar="FOLDER", help="write every page in both themes, also narrow")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder) / "data", specs=SPECS)
        browser = open_browser()
        try:
            with site.server:
                shots, page = fill(site), Page(browser, site.url)
                if options.every is None:
                    for shot in shots:
                        if shot.theme:
                            take(page, shot, IMAGES, 1360)
                else:
                    for shot in shots:
                        for theme in ("light", "dark"):
                            for name, width in ((shot.name, 1360), (f"{shot.name}-narrow", 360)):
                                take(page, shot._replace(name=f"{name}-{theme}", theme=theme), options.every, width)
        finally:
            browser.quit()
    return 0


def fill(site: Site) -> list[Shot]:
    """Make runs; return the pictures, those without a theme only for `--every`."""
    failed = site.start("orders", {"team": "north"}, "order-7310", customer="Charles", amount=4200)
    for number, who in enumerate(("Ada", "Grace", "Linus", "Barbara", "Ken", "Margaret")):
        run = site.asking(who, team=("north", "south")[number % 2])
        if number % 3 != 2:
            site.send(run, "Approval", verdict=("approve", "refuse")[number % 2], by="Edsger")
    site.start("orders", {"team": "south"}, "order-7311", customer="Dennis", amount=80)
    notes = site.start("notes", {"team": "south"})
    for number in range(12):
        site.send(notes, "Note", n=number)
    tour = site.start("tours", {"team": "north"}, "tour-88", groups=[["Ada", "Grace"], ["Linus"]])
    while len(asked := site.run(tour).get("pendingWaiters", [])) < 3:
        pass
    site.send(asked[0]["runId"], "Approval", verdict="approve", by="Edsger")
    asking = site.start("expenses", {"team": "north"}, run_id="expense-2041", who="Alan", amount=320)
    schedule(site, "weekly-expenses", "expenses", {"who": "Ada", "amount": 40}, {"cron": "0 7 * * 1-5"})
    schedule(site, "nightly-orders", "orders", {"customer": "Niklaus", "amount": 12}, {"cron": "30 2 * * *"})
    site.call("ScheduleService/PauseSchedule", {"scheduleId": "nightly-orders", "reason": "the shop is closed"})
    site.ended(failed)
    return [
        Shot("console-runs", "/runs", "expense-2041"),
        Shot("console-run", f"/runs/{asking}", "Pay 320 to Alan?"),
        Shot("console-failed", f"/runs/{failed}?tab=timeline", "Attempts that failed"),
        Shot("console-events", f"/runs/{notes}?tab=events", "Noted", "dark"),
        Shot("console-children", f"/runs/{tour}?tab=children", "2 runs"),
        Shot("console-workflow", "/workflows/expenses", "Start a run", "dark"),
        Shot("console-schedule", "/schedules/weekly-expenses", "Next due times"),
        Shot("failed-overview", f"/runs/{failed}", "Outcome", ""),
        Shot("failed-events", f"/runs/{failed}?tab=events", "charge failed", ""),
        Shot("parent", f"/runs/{tour}", "The child expenses asks", ""),
        Shot("state", f"/runs/{asking}?tab=state", "amount", ""),
        Shot("travel", f"/runs/{asking}?tab=travel", "Work at that moment", ""),
        Shot("timeline", f"/runs/{asking}?tab=timeline", "attempts at steps", ""),
        Shot("filtered", "/runs?status=FAILED&error=ConnectionError", "order-7310", ""),
        Shot("nothing-matches", "/runs?error=NoSuchError", "No run matches", ""),
        Shot("workflows", "/workflows", "Reserve an order", ""),
        Shot("schedules", "/schedules", "weekly-expenses", ""),
        Shot("server", "/server", "takes work", ""),
        Shot("no-such-run", "/runs/none", "There is no such run", ""),
    ]


def schedule(site: Site, name: str, workflow: str, value: dict[str, object], timing: dict[str, str]) -> None:
    """Make a schedule that has started a run."""
    spec = {"workflow": workflow, "timing": {**timing, "timeZone": "Europe/Oslo"}, "input": {"value": value}}
    site.call("ScheduleService/CreateSchedule", {"scheduleId": name, "spec": spec})
    site.call("ScheduleService/TriggerSchedule", {"scheduleId": name})


def take(page: Page, shot: Shot, folder: Path, width: int) -> None:
    """Take one picture of a window of this width."""
    folder.mkdir(parents=True, exist_ok=True)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.open("/server")
    page.script("localStorage.setItem('stepwire-theme', arguments[0])", shot.theme)
    page.open(shot.path)
    page.sees(shot.said)
    if "children" in shot.path:
        page.until(lambda: len(page.all(".descent summary")) == 2, "the children are not there")
        for summary in page.all(".descent summary"):
            summary.click()
        page.until(lambda: len(page.all(".descent .descent .kin")) == 3, "the children do not unfold")
    if shot.name.startswith("console-events"):
        page.all(".row.entry")[-2].click()
    page.settled()
    picture = page.browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    (folder / f"{shot.name}.png").write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    sys.exit(main())
