"""Write the pictures of the console that the README and docs/web.md show: `python -m tests.system.web.screenshots`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.serving import ROOT
from tests.system.web.conftest import Site, open_browser
from tests.system.web.page import Page

IMAGES = ROOT / "docs" / "images"


def main() -> int:
    """Make some runs and take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder) / "data")
        browser = open_browser()
        try:
            with site.server:
                take(site, Page(browser, site.url))
        finally:
            browser.quit()
    return 0


def take(site: Site, page: Page) -> None:
    """Take each picture in the theme that it is shown in."""
    for number, who in enumerate(("Ada", "Grace", "Linus", "Barbara", "Ken", "Margaret")):
        run = site.start("expenses", {"team": ("north", "south")[number % 2]}, who=who, amount=40 * (number + 1))
        asked = {"runId": run, "eventType": "InputRequiredEvent", "afterSequence": 0, "timeout": "10s"}
        site.call("RunService/WaitForEvent", asked)
        if number % 3 != 2:
            site.send(run, "Approval", verdict=("approve", "refuse")[number % 2], by="Edsger")
    site.start("forger", {"team": "north"}, text="a supplier that does not answer")
    notes = site.start("notes", {"team": "south"})
    for number in range(12):
        site.send(notes, "Note", n=number)
    asking = site.start("expenses", {"team": "north"}, run_id="expense-2041", who="Alan", amount=320)
    for name, path, said, theme in (
        ("runs", "/runs", "expense-2041", "light"),
        ("run", f"/runs/{asking}", "Pay 320 to Alan?", "light"),
        ("events", f"/runs/{notes}?tab=events", "Noted", "dark"),
        ("workflow", "/workflows/expenses", "Start a run", "dark"),
    ):
        page.open("/server")
        page.script("localStorage.setItem('stepwire-theme', arguments[0])", theme)
        page.open(path)
        page.sees(said)
        page.browser.save_screenshot(str(IMAGES / f"console-{name}.png"))


if __name__ == "__main__":
    sys.exit(main())
