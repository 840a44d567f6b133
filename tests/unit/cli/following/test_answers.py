"""Answers that are given before the questions."""

from __future__ import annotations

import pytest
import typer

from stepwire.cli.following.answers import Answers


def test_answers_in_order() -> None:
    answers = Answers.parse(["Ok:a=1", "Ok:b=x", "Ok:a=2", "No", 'Ok:{"a": 3}'])
    assert answers.take("Ok", {}) == {"a": 1, "b": "x"}
    assert answers.take("Ok", {}) == {"a": 2}
    assert answers.unused() == ["Ok", "No"]
    assert answers.take("No", {"id": 7}) == {"id": 7}
    assert answers.take("No", {}) is None
    assert answers.take("Other", {}) is None


def test_an_answer_goes_to_the_question_that_it_fits() -> None:
    answers = Answers.parse(["Ok:id=1", "Ok:yes=true", "Ok:id=2", "Ok:yes=false"])
    assert answers.take("Ok", {"id": 2}) == {"id": 2, "yes": False}
    assert answers.take("Ok", {"id": 2}) is None
    assert answers.take("Ok", {"id": 1}) == {"id": 1, "yes": True}


@pytest.mark.parametrize("item", ["", ":a=1", "Ok:a", "Ok:=1", "Ok:{", "not a name:a=1"])
def test_bad_answers(item: str) -> None:
    with pytest.raises(typer.BadParameter):
        Answers.parse([item])
