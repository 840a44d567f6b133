"""Errors as lines."""

from __future__ import annotations

from stepwire.cli.render.terminal import error_text
from stepwire.client import FieldViolation, InvalidArgumentError, UnavailableError


def test_an_error_is_readable_with_its_fields() -> None:
    error = InvalidArgumentError(
        "The input\nis bad",
        reason="INVALID_INPUT",
        field_violations=[FieldViolation("name", "Field required")],
        reference_id="ab12",
    )
    assert error_text(error).splitlines() == [
        "error: INVALID_INPUT: The input",
        "  is bad",
        "  name: Field required",
        "  reference: ab12",
    ]
    assert error_text(UnavailableError("gone")) == "error: UnavailableError: gone"
