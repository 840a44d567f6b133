"""Forms that the console makes of JSON Schemas, in a real browser: what is typed, and what is sent of it."""

from __future__ import annotations

import datetime
import enum
import json
from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field
from tests.system.web.page import Page

pytestmark = pytest.mark.web

FORM = """
const [schema, typed, done] = arguments;
(async () => {
  const { schemaForm } = await import("/parts/form.js");
  let sent = null;
  const form = schemaForm(JSON.parse(schema), { verb: "Send", submit: async (value) => { sent = value; } });
  document.querySelector("main").replaceChildren(form);
  for (const [name, text] of Object.entries(typed)) {
    const label = [...form.querySelectorAll("label")].find((each) => each.textContent.replace(" *", "") === name);
    const field = document.getElementById(label.htmlFor);
    if (field.tagName === "SELECT") field.selectedIndex = [...field.options].findIndex((each) => each.text === text);
    else if (field.type === "radio") (text === "yes" ? field : document.getElementById(`${field.id}n`)).click();
    else field.value = text;
  }
  form.requestSubmit();
  await new Promise((then) => setTimeout(then));
  const problem = form.querySelector(".wrong .problem")?.textContent ?? "";
  done([JSON.stringify(sent), problem]);
})();
"""


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(BaseModel):
    city: str
    zip: int | None = None


class All(BaseModel):
    """One field of each kind that authors declare."""

    text: str = ""
    count: int = 0
    share: float = 0.5
    price: Decimal = Decimal("0")
    ref: int | str = 0
    agreed: bool = True
    colour: Colour = Colour.RED
    kind: Literal["one"] = "one"
    day: datetime.date | None = None
    at: datetime.datetime | None = None
    tags: list[str] = Field(default_factory=list)
    extra: dict[str, int] = Field(default_factory=dict)
    address: Address | None = None


class Required(BaseModel):
    name: str
    count: int


class Decision(BaseModel):
    verdict: Literal["approve", "refuse"]
    again: Literal["yes", "no"] | None = None


def sent(page: Page, model: type[BaseModel], **typed: str) -> tuple[str, str]:
    """Fill a form; return what it sends as JSON, and the first problem that it tells."""
    page.open("/server")
    page.one("h1")
    found = page.browser.execute_async_script(FORM, json.dumps(model.model_json_schema()), typed)  # type: ignore[no-untyped-call]
    return found[0], found[1]


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("text", "a\u00e4 <b>", "a\u00e4 <b>"),
        ("count", "-7", -7),
        ("share", "1e-3", 0.001),
        ("price", "120.5", Decimal("120.5")),
        ("price", "120.50", Decimal("120.50")),
        ("price", "12345678901234567890.12", Decimal("12345678901234567890.12")),
        ("ref", "7", 7),
        ("ref", "A-7", "A-7"),
        ("ref", "1.5", "1.5"),
        ("agreed", "no", False),
        ("colour", "blue", Colour.BLUE),
        ("day", "2026-01-31", datetime.date(2026, 1, 31)),
        ("tags", '["a", "b"]', ["a", "b"]),
        ("extra", '{"a": 1}', {"a": 1}),
    ],
)
def test_what_is_typed_arrives(page: Page, field: str, text: str, value: Any) -> None:
    body, problem = sent(page, All, **{field: text})
    assert problem == ""
    found = getattr(All.model_validate_json(body), field)
    assert found == value
    assert type(found) is type(value)
    assert not isinstance(value, Decimal) or str(found) == text


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ({"name": "a"}, "this is required"),
        ({"count": "1"}, "this is required"),
        ({"name": "a", "count": "1.5"}, "a whole number is expected"),
        ({"name": "a", "count": "9007199254740993"}, "the number is too large to be sent exactly"),
        ({"name": "a", "count": "many"}, "a whole number is expected"),
    ],
)
def test_what_cannot_be_sent_is_told_at_its_field(page: Page, typed: dict[str, str], problem: str) -> None:
    assert sent(page, Required, **typed) == ("null", problem)


def test_a_choice_that_nobody_made_is_not_sent(page: Page) -> None:
    assert sent(page, Decision) == ("null", "this is required")
    assert json.loads(sent(page, Decision, verdict="refuse")[0]) == {"verdict": "refuse", "again": None}
    assert json.loads(sent(page, Decision, verdict="approve", again="no")[0]) == {"verdict": "approve", "again": "no"}


def test_a_nested_object_is_a_form_of_its_own(page: Page) -> None:
    body, problem = sent(page, Address, city="Oslo", zip="150")
    assert (body, problem) == ('{"city":"Oslo","zip":150}', "")


def test_an_optional_object_is_sent_when_it_is_unfolded(page: Page) -> None:
    assert json.loads(sent(page, All)[0]).get("address") is None
    page.open("/server")
    page.one("h1")
    unfold = FORM.replace("form.requestSubmit()", "form.querySelector('details').open = true; form.requestSubmit()")
    schema = json.dumps(All.model_json_schema())
    assert page.browser.execute_async_script(unfold, schema, {})[1] == "this is required"  # type: ignore[no-untyped-call]
    body, _ = page.browser.execute_async_script(unfold, schema, {"city": "Oslo"})  # type: ignore[no-untyped-call]
    assert All.model_validate_json(body).address == Address(city="Oslo")
