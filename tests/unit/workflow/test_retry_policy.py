from __future__ import annotations

import random
from typing import Any

import pytest

from stepwire.workflow.retry_policy import (
    ConstantDelayRetryPolicy,
    ExponentialBackoffRetryPolicy,
    RetryPolicy,
)

ERROR = ValueError("x")


def executions(policy: RetryPolicy) -> int:
    """Count the executions of a step that always fails."""
    failures = 0
    while policy.next(0.0, failures, ERROR) is not None:
        failures += 1
        assert failures < 1000
    return failures + 1


@pytest.mark.parametrize("maximum", [0, 1, 2, 3, 7])
def test_maximum_attempts_counts_the_retries_as_in_1x(maximum: int) -> None:
    assert executions(ConstantDelayRetryPolicy(maximum_attempts=maximum)) == maximum + 1
    assert executions(ExponentialBackoffRetryPolicy(maximum_attempts=maximum)) == maximum + 1


def test_constant_defaults() -> None:
    policy = ConstantDelayRetryPolicy()
    assert [policy.next(0, n, ERROR) for n in range(4)] == [5, 5, 5, None]


def test_backoff_grows_to_its_bound() -> None:
    policy = ExponentialBackoffRetryPolicy(initial=1, multiplier=3, maximum_delay=10)
    assert [policy.next(0, n, ERROR) for n in range(6)] == [1, 3, 9, 10, 10, None]


def test_backoff_without_a_bound_on_attempts_does_not_overflow() -> None:
    policy = ExponentialBackoffRetryPolicy(maximum_attempts=None, maximum_delay=30)
    assert policy.next(0, 100_000, ERROR) == 30
    assert ExponentialBackoffRetryPolicy(initial=0, maximum_attempts=None).next(0, 10**5, ERROR) == 0


def test_backoff_ends_when_the_next_start_would_be_too_late() -> None:
    policy = ExponentialBackoffRetryPolicy(initial=2, multiplier=1, maximum_elapsed=10)
    assert policy.next(8.0, 0, ERROR) == 2
    assert policy.next(8.1, 0, ERROR) is None


def test_jitter_takes_its_share_and_can_be_reproduced() -> None:
    def delays() -> list[float | None]:
        policy = ExponentialBackoffRetryPolicy(
            initial=8, multiplier=1, jitter=0.25, maximum_attempts=None, random=random.Random(7)
        )
        return [policy.next(0, n, ERROR) for n in range(200)]

    drawn = delays()
    assert drawn == delays()
    assert len(set(drawn)) > 100
    assert all(delay is not None and 6 <= delay <= 8 for delay in drawn)


def test_only_chosen_errors_are_retried() -> None:
    policy = ExponentialBackoffRetryPolicy(retry_on=(OSError, ValueError), not_on=FileNotFoundError)
    assert policy.next(0, 0, ValueError()) == 1
    assert policy.next(0, 0, PermissionError()) == 1
    assert policy.next(0, 0, FileNotFoundError()) is None
    assert policy.next(0, 0, KeyError()) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial": -1},
        {"maximum_delay": float("inf")},
        {"maximum_elapsed": float("nan")},
        {"maximum_attempts": -1},
        {"multiplier": 0.5},
        {"jitter": 1.5},
    ],
)
def test_wrong_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ExponentialBackoffRetryPolicy(**wrong)


@pytest.mark.parametrize("wrong", [{"delay": -1}, {"delay": float("nan")}, {"maximum_attempts": -1}])
def test_wrong_constant_numbers_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ConstantDelayRetryPolicy(**wrong)


def test_both_are_retry_policies() -> None:
    assert isinstance(ConstantDelayRetryPolicy(), RetryPolicy)
    assert isinstance(ExponentialBackoffRetryPolicy(), RetryPolicy)
