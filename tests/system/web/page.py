"""Read and use a page of the console as a person would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, TimeoutException
from selenium.webdriver import Chrome
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 60  # a busy machine takes many times what a page takes alone


class Page:
    """A page in the browser."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser = browser
        self.url = url

    def open(self, path: str) -> None:
        self.browser.get(self.url + path)

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until something holds, and return it."""

        def holds(_: Chrome) -> Any:
            try:
                return condition()
            except (NoSuchElementException, StaleElementReferenceException):
                return False

        try:
            return WebDriverWait(self.browser, SECONDS, poll_frequency=0.05).until(holds)
        except TimeoutException:
            raise AssertionError(f"{what}; the page says:\n{self.text()[:2000]}") from None

    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "body").text

    def sees(self, text: str) -> None:
        self.until(lambda: text in self.text(), f"the page does not say {text!r}")

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        found: WebElement = self.until(lambda: self.browser.find_element(By.CSS_SELECTOR, selector), f"no {selector}")
        return found

    def button(self, name: str) -> WebElement:
        """Return the button, link or tab with this text."""

        def find() -> WebElement | None:
            for element in self.all("button, a"):
                if element.text.strip() == name and element.is_displayed():
                    return element
            return None

        found: WebElement = self.until(find, f"no button {name!r}")
        return found

    def click(self, name: str) -> None:
        self.button(name).click()

    def field(self, label: str) -> WebElement:
        """Return the input with this label."""

        def find() -> WebElement | None:
            for element in self.all("label"):
                if element.text.strip().removesuffix("*").strip() == label and element.is_displayed():
                    return self.browser.find_element(By.ID, element.get_attribute("for") or "")
            return None

        found: WebElement = self.until(find, f"no field {label!r}")
        return found

    def fill(self, label: str, text: str) -> None:
        field = self.field(label)
        field.clear()
        field.send_keys(text)

    def settled(self) -> None:
        """Wait until the page has drawn what it has asked for."""
        drawn = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
        self.until(lambda: "Loading" not in self.text(), "the page stays empty")
        self.browser.execute_async_script(drawn)  # type: ignore[no-untyped-call]

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        ActionChains(self.browser).send_keys(*keys).perform()

    def focused(self) -> str:
        """Return the text of the element that has the focus, or its label."""
        code = "const at = document.activeElement; return at.getAttribute('aria-label') ?? at.textContent.trim()"
        return str(self.script(code))

    def script(self, code: str, *arguments: Any) -> Any:
        return self.browser.execute_script(code, *arguments)  # type: ignore[no-untyped-call]

    def errors(self) -> list[str]:
        """Return the errors of scripts and of the page's policy since they were last asked for.

        The browser also reports each refusal of the server; those are answers, not errors.
        """
        found = [entry["message"] for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]  # type: ignore[no-untyped-call]
        return [message for message in found if "responded with a status of 4" not in message]
