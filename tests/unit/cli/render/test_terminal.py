"""Errors as lines."""

from __future__ import annotations

from stepwire.cli.render.terminal import error_text
from stepwire.client import FieldViolation, InvalidArgumentError, UnavailableError


def test_error_is_one_line_and_its_fields() -> None:
    error = InvalidArgumentError(
        "The input\nis bad",
        reason="INVALID_INPUT",
        field_violations=[FieldViolation("name", "Field required")],
        reference_id="ab12",
    )
    assert error_text(error).splitlines() == [
        "error: INVALID_INPUT: The input\\x0ais bad",
        "  name: Field required",
        "  reference: ab12",
    ]
    assert error_text(UnavailableError("gone")) == "error: UnavailableError: gone"
