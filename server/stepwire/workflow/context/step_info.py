"""Which piece of work is calling."""

from __future__ import annotations

__all__ = ["StepInfo"]


class StepInfo:
    """Who is calling: the delivery that a step works on. `key` names the work, the same in every attempt.

    A run that retries another goes on with its deliveries under the keys that they had there.
    """

    __slots__ = ("attempt", "delivery_id", "origin", "run_id", "step")

    def __init__(self, run_id: str, step: str, delivery_id: int, attempt: int, origin: str = "") -> None:
        self.run_id = run_id
        self.origin = origin or run_id
        """The run in which the work came up: the one that was retried, else the run itself."""
        self.step = step
        self.delivery_id = delivery_id
        self.attempt = attempt
        """1 for the first execution; more when the work was tried before."""

    @property
    def key(self) -> str:
        """Return the key to make outside effects idempotent with: `RUN_ID/DELIVERY_ID`.

        It is the same in every attempt, after a restart and when the step gets another name, and no other delivery of
        the namespace has it. In a service it has ASCII letters, digits and `._:-/` only, and at most 160 characters.
        A run that retries another goes on with its deliveries under the keys that they had there: RUN_ID is `origin`.
        The run of a nested workflow has a new id, and so new keys, each time the outer step begins.
        """
        return f"{self.origin}/{self.delivery_id}"
