from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from stepwire.workflow.events import Event, event_from_json
from stepwire.workflow.jsonable import may_hold_non_finite


class Measured(Event):
    x: float = 0.0
    xs: list[float] = []  # noqa: RUF012 - pydantic copies it


PAD = json.dumps(["long text, so that the text is looked at and not the values"] * 100)


@pytest.mark.parametrize(
    "number",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1E+999",
        "1.e400",
        "9" * 400,
        '"nan"',
        '"INF"',
        '"1e400"',
        '"\\u006ean"',
    ],
)
@pytest.mark.parametrize("pad", ["1", PAD], ids=["short", "long"])
def test_numbers_that_are_not_finite_are_refused(number: str, pad: str) -> None:
    for field in f'"x":{number}', f'"xs":[{number}]':
        with pytest.raises(ValidationError):
            event_from_json(Measured, f'{{"pad":{pad},{field}}}')


@pytest.mark.parametrize("value", [1, 1.5, -2e-7, 1e99, "the end, e.g. a5", None, [True], "x" * 400, 10**300])
def test_long_documents_of_finite_numbers_need_no_look_at_the_values(value: Any) -> None:
    data = f'{{"pad":{PAD},"v":{json.dumps(value)}}}'
    event = event_from_json(Measured, data)
    assert event.v == value
    assert may_hold_non_finite(data) is (value == 1e99)


def test_a_default_that_is_not_finite_is_refused() -> None:
    class Endless(Event):
        x: float = float("inf")

    for pad in "1", PAD:
        with pytest.raises(ValidationError, match="x"):
            event_from_json(Endless, f'{{"pad":{pad}}}')
