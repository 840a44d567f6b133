"""What is known of a run that is followed: its workflow, its status, its open questions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stepwire.cli.following.answer_schemas import AnswerSchemas
from stepwire.cli.render.pages import Schemas, question_text, schema_of, waiter_text
from stepwire.cli.render.records import run_record
from stepwire.client import (
    Client,
    EntryKind,
    EventRole,
    GenericEvent,
    Run,
    RunInfo,
    RunStatus,
    SendResult,
    WorkflowInfo,
    event_meta,
)

__all__ = ["Question", "RunView"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question that a run waits to have answered.

    Attributes:
        key: Tells it from other questions: ("waiter", waiter_id), with the child that asks before it, or
            ("event", sequence).
        types: The event types that answer it.
        fixed: The values that fields of the answer must have.
        text: The question for people.
        record: The question for scripts.
        run_id: The child that asks; empty when the run itself does.
    """

    key: tuple[str, str]
    types: tuple[str, ...]
    fixed: Mapping[str, Any]
    text: str
    record: Mapping[str, Any] = field(repr=False, default_factory=dict)
    run_id: str = ""


class RunView:
    """Keep track of one run.

    Attributes:
        sequence: The last sequence of the log that was taken in.
        info: The run as the server last described it; None before `open`.
        refreshed: Set by each look at the status. A task that waits for the next look clears it first.
    """

    def __init__(self, client: Client, run: Run, after: int) -> None:
        self._client = client
        self._run = run
        self._answers = AnswerSchemas(client)
        self._workflow: WorkflowInfo | None = None
        # What the answers to the questions of waiters take.
        self._schemas: Schemas = {}
        # Questions in the log that no waiter stands behind, oldest first.
        self._prompts: list[GenericEvent] = []
        # The sequences of the answers that were sent from here.
        self._own: set[int] = set()
        self._lock = asyncio.Lock()
        self.sequence = after
        self.info: RunInfo | None = None
        self.refreshed = asyncio.Event()

    @property
    def resume_after(self) -> int:
        """Return the sequence to come back at: after what was seen, but before the questions that are still open."""
        return min([self.sequence, *(event_meta(prompt).sequence - 1 for prompt in self._prompts)])

    @property
    def up_to_date(self) -> bool:
        """Say whether the log was taken in as far as the last look at the status knew it."""
        return self.info is not None and self.info.last_sequence <= self.sequence

    async def open(self) -> RunInfo:
        """Ask the server for the run and its workflow."""
        self.info = await self._run.info()
        self._workflow = await self._answers.workflow(self.info.workflow)
        self._schemas = await self._answers.of(self.info)
        return self.info

    async def refresh(self) -> RunInfo:
        """Look at the run's status."""
        async with self._lock:  # an older answer must not replace a newer one
            info = await self._run.info()
            self._schemas = await self._answers.of(info)
            self.info = info
        self.refreshed.set()
        return info

    def take(self, event: GenericEvent) -> None:
        """Take in an event of the log, internal ones included: they say when a question was answered elsewhere."""
        meta = event_meta(event)
        self.sequence = meta.sequence
        if meta.kind is EntryKind.RECEIVED and meta.sequence not in self._own:
            del self._prompts[:1]
        elif meta.role is EventRole.INPUT_REQUIRED and meta.kind is EntryKind.STREAM:
            self._prompts.append(event)

    def answered(self, question: Question, sent: SendResult) -> None:
        """Note an answer that was sent from here."""
        if question.key[0] == "event":
            self._own.add(sent.sequence)
            self._prompts = [item for item in self._prompts if str(event_meta(item).sequence) != question.key[1]]

    def questions(self) -> list[Question]:
        """Return the open questions."""
        info = self.info
        if info is None or info.ended:
            return []
        if info.pending_waiters:
            records = run_record(info)["pending_waiters"]
            return [
                Question(
                    ("waiter", f"{waiter.run_id} {waiter.waiter_id}".lstrip()),
                    (waiter.event_type,),
                    waiter.requirements,
                    waiter_text(waiter),
                    record,
                    waiter.run_id,
                )
                for waiter, record in zip(info.pending_waiters, records, strict=True)
            ]
        if info.status is not RunStatus.WAITING or not (types := self._answer_types()):
            return []
        # A step returned the question and another one takes the answer, so there is no waiter.
        return [_returned_question(prompt, types) for prompt in self._prompts]

    def run_of(self, question: Question) -> Run:
        """Return the run that an answer is sent to: the child that asks, where it can be seen, else the run itself."""
        seen = question.run_id and any((question.run_id, each) in self._schemas for each in question.types)
        return self._client.run(question.run_id) if seen else self._run

    def schema(self, event_type: str, child: str = "") -> Mapping[str, Any]:
        """Return the JSON Schema of an answer to the run, or to a child that asks; {} when it is unknown."""
        return self.known_schema(event_type, child) or {}

    def known_schema(self, event_type: str, child: str = "") -> Mapping[str, Any] | None:
        """Return the JSON Schema of an answer to the run, or to a child that asks; None when it is unknown."""
        return self._schemas.get((child, event_type)) if child else schema_of(self._workflow, event_type)

    def _answer_types(self) -> tuple[str, ...]:
        if self._workflow is None:
            return ()
        accepted = {name for step in self._workflow.steps for name in step.accepts}
        return tuple(
            item.name
            for item in self._workflow.types
            if item.role is EventRole.HUMAN_RESPONSE and item.sendable and item.name in accepted
        )


def _returned_question(prompt: GenericEvent, types: tuple[str, ...]) -> Question:
    sequence = event_meta(prompt).sequence
    record = {
        "sequence": sequence,
        "event_types": list(types),
        "prompt": {"type": prompt.type, "data": prompt.to_dict()},
    }
    return Question(("event", str(sequence)), types, {}, question_text(prompt), record)
