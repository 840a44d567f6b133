"""Who may do what in the console, in a real browser: sign in, read only, and without a mouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from tests.system.security.support import Keys as ApiKeys
from tests.system.web.conftest import Site
from tests.system.web.page import Page

pytestmark = pytest.mark.web

FOCUS = """
const at = document.activeElement;
return [getComputedStyle(at).outlineStyle, at.outerHTML.slice(0, 80)];
"""
ACTS = {"Cancel run", "Pause", "Resume", "Retry", "Delete", "Fork from here", "Answer", "Start the run"}
ACTS |= {"Pause the workflow", "Start a run now", "Save"}


@dataclass
class Guarded:
    """A server that wants a credential, and the keys that it knows."""

    site: Site
    keys: dict[str, str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    access = ApiKeys(folder / "access.toml")
    callers = {"ann": ("read", "default"), "sue": ("admin", "south"), "maker": ("admin", "default")}
    made = {name: dict(access.add(name, [scope], namespace)) for name, (scope, namespace) in callers.items()}
    keys = {name: str(headers["authorization"]).removeprefix("Bearer ") for name, headers in made.items()}
    site = Site(folder / "data", "--api-keys", str(access.path))
    site.credential = keys["maker"]
    with site.server:
        yield Guarded(site, keys)


@pytest.fixture
def tab(browser: webdriver.Chrome, guarded: Guarded) -> Iterator[Page]:
    """A tab of its own, in which nobody has signed in."""
    browser.set_window_size(1360, 900)
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    page = Page(browser, guarded.site.url)
    page.errors()
    yield page
    assert page.errors() == []
    browser.close()
    browser.switch_to.window(first)


def sign_in(page: Page, key: str, path: str = "/runs") -> None:
    page.open(path)
    page.sees("This server wants a credential.")
    page.fill("API key or token", key)
    page.click("Sign in")
    page.until(lambda: not page.all("dialog"), "the dialog stays")


def test_a_credential_is_kept_for_the_tab_only(tab: Page, guarded: Guarded) -> None:
    key = guarded.keys["ann"]
    tab.open("/runs")
    tab.sees("This server wants a credential.")
    tab.fill("API key or token", "no key of this server")
    tab.click("Sign in")
    tab.sees("This credential is not accepted.")
    tab.fill("API key or token", key)
    tab.click("Sign in")
    tab.sees("ann \u00b7 default \u00b7 read only")
    tab.browser.refresh()
    tab.sees("ann \u00b7 default \u00b7 read only")
    assert tab.script("return document.cookie") == ""
    assert key not in str(tab.script("return JSON.stringify(localStorage)"))
    assert key not in str(tab.script("return document.documentElement.outerHTML")) + tab.browser.current_url
    signed_in = tab.browser.current_window_handle
    tab.browser.switch_to.new_window("tab")
    tab.open("/runs")
    tab.sees("This server wants a credential.")
    tab.browser.close()
    tab.browser.switch_to.window(signed_in)
    tab.click("Sign out")
    tab.sees("This server wants a credential.")
    assert key not in str(tab.script("return JSON.stringify(sessionStorage)"))


def test_a_reader_is_offered_nothing_that_changes_anything(tab: Page, guarded: Guarded) -> None:
    site = guarded.site
    run = site.asking("Ada")
    failed = site.start("forger", text="a text")
    site.send(failed, "Note", n=1)
    site.ended(failed)
    spec = {"workflow": "notes", "timing": {"interval": {"every": "3600s"}}}
    site.call("ScheduleService/CreateSchedule", {"scheduleId": "hourly", "spec": spec})
    sign_in(tab, guarded.keys["ann"])
    said = {
        "/runs": "Ada",
        f"/runs/{run}": "Your credential does not allow an answer.",
        f"/runs/{run}?tab=state": "amount",
        f"/runs/{run}?tab=travel": "Work at that moment",
        f"/runs/{failed}": "ValueError",
        "/workflows/expenses": "Your credential does not allow to start runs",
        "/schedules": "hourly",
        "/schedules/hourly": "Next due times",
    }
    for path, text in said.items():
        tab.open(path)
        tab.sees(text)
        assert not ACTS & {each.text for each in tab.all("button")}, path
        assert not tab.all(".edit"), path
    tab.open("/runs")
    tab.one(".row.run input[type=checkbox]").click()
    tab.sees("1 selected")
    assert [each.text for each in tab.all(".page > .actions button")] == ["Clear"]


def test_what_a_namespace_has_is_hidden_from_others(tab: Page, guarded: Guarded) -> None:
    run = guarded.site.asking("Ada")
    sign_in(tab, guarded.keys["sue"])
    tab.sees("No runs yet")
    tab.open(f"/runs/{run}")
    tab.sees("There is no such run")


def test_a_run_is_started_and_answered_without_a_mouse(page: Page) -> None:
    page.open("/workflows")
    page.sees("expenses")
    page.press(Keys.TAB)
    assert page.focused() == "Skip to the content"
    page.press(Keys.ENTER)
    tab_to(page, lambda: page.focused() == "expenses")
    page.press(Keys.ENTER)
    page.field("who")
    assert page.script("return document.activeElement === document.getElementById('main')")
    tab_to(page, lambda: label(page) == "who *")
    page.press("Ada", Keys.TAB, "7", Keys.ENTER)
    page.sees("Pay 7 to Ada?")
    tab_to(page, lambda: label(page) == "verdict *")
    page.press("r", Keys.TAB, "Grace", Keys.ENTER)
    page.sees("refuse by Grace")


def label(page: Page) -> str:
    return str(page.script("return document.activeElement.labels?.[0]?.textContent"))


def tab_to(page: Page, there: Callable[[], bool]) -> None:
    for _ in range(80):
        page.press(Keys.TAB)
        if there():
            return
    raise AssertionError(f"Tab does not lead there: {page.focused()!r} has the focus")


def test_every_control_shows_that_it_has_the_focus(page: Page, site: Site) -> None:
    run = site.asking("Ada")
    for path in (f"/runs/{run}", "/runs", "/workflows/expenses"):
        page.open(path)
        page.until(lambda: "Loading" not in page.text() and page.all("main a"), "the page stays empty")
        seen = set()
        for _ in range(60):
            page.press(Keys.TAB)
            outline, name = page.script(FOCUS)
            if name in seen or name.startswith("<body"):
                break
            seen.add(name)
            assert outline != "none", name
        assert len(seen) > 10


def test_the_theme_is_the_readers_choice(page: Page) -> None:
    page.open("/runs")
    background = "return getComputedStyle(document.body).backgroundColor"
    shades = {}
    for theme in ("Light", "Dark", "System"):
        page.one("#theme").click()
        page.until(lambda name=theme: name in page.one("#theme").text, "the theme does not change")  # type: ignore[misc]
        shades[theme] = page.script(background)
        page.browser.refresh()
        page.until(lambda name=theme: name in page.one("#theme").text, "the theme is forgotten")  # type: ignore[misc]
        assert page.script(background) == shades[theme]
    assert shades["Light"] != shades["Dark"]
    page.script("localStorage.clear()")
