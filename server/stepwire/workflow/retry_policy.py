"""Retry policies: whether a failed step runs again, and after how long."""

from __future__ import annotations

import math
import random as _random
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

__all__ = ["ConstantDelayRetryPolicy", "ExponentialBackoffRetryPolicy", "RetryPolicy"]


@runtime_checkable
class RetryPolicy(Protocol):
    """Decide on the retries of a step."""

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        """Return the seconds to wait before the next execution, or None to give up.

        Args:
            elapsed_time: Seconds since the first execution began.
            attempts: The number of failures before this one; 0 at the first.
            error: What the step raised.
        """
        ...


@dataclass(frozen=True)
class ConstantDelayRetryPolicy:
    """Retry after a constant delay.

    Attributes:
        maximum_attempts: How many retries there may be; the first execution does not count.
        delay: Seconds before each retry.
    """

    maximum_attempts: int = 3
    delay: float = 5

    def __post_init__(self) -> None:
        _check_attempts(self.maximum_attempts)
        _check_seconds("delay", self.delay)

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        """Return the delay, or None if no retry is left."""
        return self.delay if attempts < self.maximum_attempts else None


@dataclass(frozen=True)
class ExponentialBackoffRetryPolicy:
    """Retry after delays that grow exponentially: `initial * multiplier ** failures` seconds.

    Attributes:
        initial: Seconds before the first retry.
        multiplier: What each delay is multiplied by to get the next; at least 1.
        maximum_delay: The longest delay, in seconds.
        maximum_attempts: How many retries there may be; None for no limit. With neither this nor `maximum_elapsed` the
            step is retried for ever: only the `timeout` of its run ends it, or who cancels the run.
        maximum_elapsed: Seconds from the first execution within which a retry may start; None for no limit.
        jitter: The share of each delay that is random, from 0 to 1: with 0.25 a delay is between 75 % and 100 %.
        retry_on: The error types that are retried.
        not_on: Error types among those that are not retried.
        random: The source of the jitter; pass one with a seed to make delays reproducible.
    """

    initial: float = 1.0
    multiplier: float = 2.0
    maximum_delay: float = 60.0
    maximum_attempts: int | None = 5
    maximum_elapsed: float | None = None
    jitter: float = 0.0
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception
    not_on: type[BaseException] | tuple[type[BaseException], ...] = ()
    random: _random.Random = field(default_factory=_random.Random, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_seconds("initial", self.initial)
        _check_seconds("maximum_delay", self.maximum_delay)
        if self.maximum_elapsed is not None:
            _check_seconds("maximum_elapsed", self.maximum_elapsed)
        if self.maximum_attempts is not None:
            _check_attempts(self.maximum_attempts)
        if not (math.isfinite(self.multiplier) and self.multiplier >= 1):
            raise ValueError("multiplier must be a finite number, at least 1")
        if not 0 <= self.jitter <= 1:
            raise ValueError("jitter must be between 0 and 1")

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        """Return the delay, or None if a limit or the type of the error forbids a retry."""
        if not isinstance(error, self.retry_on) or isinstance(error, self.not_on):
            return None
        if self.maximum_attempts is not None and attempts >= self.maximum_attempts:
            return None
        delay = self._backoff(attempts)
        if self.jitter:
            delay *= 1 - self.jitter * self.random.random()
        if self.maximum_elapsed is not None and elapsed_time + delay > self.maximum_elapsed:
            return None
        return delay

    def _backoff(self, attempts: int) -> float:
        try:
            return min(self.initial * self.multiplier**attempts, self.maximum_delay)
        except OverflowError:  # far beyond any bound
            return self.maximum_delay if self.initial else 0.0


def _check_seconds(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be a finite number of seconds, at least 0")


def _check_attempts(value: int) -> None:
    if value < 0:
        raise ValueError("maximum_attempts must be at least 0")
