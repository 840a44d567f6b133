from __future__ import annotations

import copy
import pickle

import pytest

from stepwire.workflow import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_a_workflow_error_and_survives_a_copy(name: str) -> None:
    cls = getattr(errors, name)
    assert issubclass(cls, errors.WorkflowError) or cls is errors.DeadAttemptError  # which is no Exception
    error = cls("what went wrong")
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(twin) is cls
        assert str(twin) == "what went wrong"
        assert vars(twin) == vars(error)


def test_facts_are_attributes_and_survive_pickling() -> None:
    error = errors.CrashLoopError("lost", step="s", attempts=5, public="try later")
    twin = pickle.loads(pickle.dumps(error))
    assert (twin.step, twin.attempts, twin.public) == ("s", 5, "try later")


def test_public_is_none_unless_given() -> None:
    assert errors.WorkflowError("secret").public is None
    assert errors.WorkflowError("secret", public="shown").public == "shown"


def test_bad_paths_are_value_and_attribute_errors() -> None:
    error = errors.StateNotFoundError("nothing at 'a.b'", path="a.b")
    assert isinstance(error, errors.StatePathError)
    assert isinstance(error, ValueError)
    assert isinstance(error, AttributeError)
    assert error.path == "a.b"


def test_serialization_error_keeps_every_key() -> None:
    error = errors.SerializationError("no", keys=iter(["a", "b"]))
    assert isinstance(error, ValueError)
    assert isinstance(error, errors.ContextSerdeError)
    assert error.keys == ("a", "b")
