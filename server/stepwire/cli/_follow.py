"""Follow a run at the terminal: show its events, put its questions, see how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepwire.cli._answers import Answers
from stepwire.cli.render import (
    Asker,
    LineReader,
    Output,
    Progress,
    error_text,
    event_record,
    outcome_record,
    question_text,
    run_record,
    send_command,
    waiter_text,
)
from stepwire.client import (
    Client,
    DeadlineError,
    EntryKind,
    EventRole,
    FailedPreconditionError,
    GenericEvent,
    InvalidArgumentError,
    NotFoundError,
    Run,
    RunInfo,
    RunStatus,
    UnavailableError,
    WorkflowInfo,
    event_meta,
)

__all__ = ["Follower", "Question"]

# Not every change of a run is in its log (a wait without a prompt opens silently), so its status is looked at as well:
# soon after something happened, then less and less often.
_FIRST_LOOK, _LAST_LOOK = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class Question:
    """Something a run waits for: `types` are the event types that answer it, `fixed` the fields they must have."""

    key: tuple[str, str]
    types: tuple[str, ...]
    fixed: Mapping[str, Any]
    text: str
    record: Mapping[str, Any] = field(repr=False, default_factory=dict)


class Follower:
    """Follow one run to its end.

    `answers` are used first; `ask` puts what is left to the person at the terminal, else it is printed and left to be
    answered elsewhere. `wrap` writes JSON lines as `{"run": …}`, `{"event": …}`, `{"question": …}`, `{"outcome": …}`.
    """

    def __init__(
        self,
        client: Client,
        run: Run,
        output: Output,
        *,
        answers: Answers,
        ask: bool,
        after: int = 0,
        types: Sequence[str] = (),
        internal: bool = False,
        events_to_stdout: bool = False,
    ) -> None:
        self._client = client
        self._run = run
        self._output = output
        self._answers = answers
        self._after = after
        self._types = frozenset(types)
        self._internal = internal
        console = output.out if events_to_stdout else output.err
        self._progress = Progress(console, live=output.live and not events_to_stdout)
        self._asker = Asker(output.err, LineReader()) if ask else None
        self._bare = events_to_stdout
        self._workflow: WorkflowInfo | None = None
        self._info: RunInfo | None = None
        # Questions of the log that no waiter stands behind, oldest first, and the sequences of our own answers.
        self._prompts: list[GenericEvent] = []
        self._own: set[int] = set()
        self._told: set[tuple[str, str]] = set()
        self._left: set[tuple[str, str]] = set()
        self._activity = asyncio.Event()
        self._looked = asyncio.Event()
        self._lock = asyncio.Lock()
        self.sequence = after

    @property
    def resume_after(self) -> int:
        """Return the sequence to come back at: what was seen, but not the questions that are still open."""
        return min([self.sequence, *(event_meta(prompt).sequence - 1 for prompt in self._prompts)])

    @property
    def elapsed(self) -> float:
        """Return the seconds since this began."""
        return self._progress.elapsed

    async def follow(self) -> RunInfo:
        """Follow the run; return it as it ended. Cancelling leaves the run as it is."""
        self._info = await self._run.info()
        self._workflow = await self._find_workflow(self._info.workflow)
        if self._output.json and not self._bare:
            self._output.record({"run": run_record(self._info)})
        with self._progress:
            await self._work()
        info = await self._run.info()
        if self._output.json and not self._bare and info.outcome is not None:
            self._output.record({"outcome": outcome_record(info.outcome)})
        return info

    async def _work(self) -> None:
        reading = asyncio.create_task(self._read())
        others = [asyncio.create_task(self._look()), asyncio.create_task(self._answer())]
        try:
            done, _ = await asyncio.wait([reading, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # only reading ends without an error
        finally:
            for task in (reading, *others):
                task.cancel()
            await asyncio.gather(reading, *others, return_exceptions=True)

    # -- events ---------------------------------------------------------------------------------

    async def _read(self) -> None:
        # Internal entries say when a question was answered elsewhere.
        async for event in self._run.events(self._after, internal=True):
            meta = event_meta(event)
            self.sequence = meta.sequence
            if meta.kind is EntryKind.RECEIVED and meta.sequence not in self._own:
                del self._prompts[:1]
            elif meta.role is EventRole.INPUT_REQUIRED and meta.kind is EntryKind.STREAM:
                self._prompts.append(event)
            self._activity.set()
            if self._shown(event):
                self._show(event)

    def _shown(self, event: GenericEvent) -> bool:
        meta = event_meta(event)
        if meta.kind in (EntryKind.RECEIVED, EntryKind.SENT) and not self._internal:
            return False
        return not self._types or meta.type in self._types or meta.kind is EntryKind.TERMINAL

    def _show(self, event: GenericEvent) -> None:
        meta = event_meta(event)
        if self._output.json:
            record = event_record(event)
            self._output.record(record if self._bare else {"event": record})
        elif self._bare or meta.kind is not EntryKind.TERMINAL:  # `run` writes the outcome itself
            self._progress.event(event)

    # -- the run's status and questions ---------------------------------------------------------

    async def _look(self) -> None:
        delay = _FIRST_LOOK
        while True:
            try:
                async with asyncio.timeout(delay):
                    await self._activity.wait()
            except TimeoutError:
                delay = min(delay * 2, _LAST_LOOK)
            else:
                self._activity.clear()
                delay = _FIRST_LOOK
            try:
                await self._refresh()
            except (UnavailableError, DeadlineError):
                # The stream of events knows when to give up.
                self._progress.trouble = "the server does not answer"

    async def _refresh(self) -> None:
        async with self._lock:  # an older answer must not replace a newer one
            self._info = await self._run.info()
        self._progress.trouble = ""
        self._progress.status = self._info.status
        questions = self._questions()
        self._progress.questions = len(questions)
        keys = {question.key for question in questions}
        self._left &= keys
        self._told &= keys
        self._looked.set()

    def _questions(self) -> list[Question]:
        info = self._info
        if info is None or info.ended:
            return []
        if info.pending_waiters:
            records = run_record(info)["pending_waiters"]
            return [
                Question(
                    ("waiter", waiter.waiter_id),
                    (waiter.event_type,),
                    waiter.requirements,
                    waiter_text(waiter),
                    record,
                )
                for waiter, record in zip(info.pending_waiters, records, strict=True)
            ]
        if info.status is not RunStatus.WAITING or not (types := self._answer_types()):
            return []
        # A step returned the question, another one takes the answer: there is no waiter.
        return [self._returned_question(prompt, types) for prompt in self._prompts]

    def _returned_question(self, prompt: GenericEvent, types: tuple[str, ...]) -> Question:
        sequence = event_meta(prompt).sequence
        record = {
            "sequence": sequence,
            "event_types": list(types),
            "prompt": {"type": prompt.type, "data": prompt.to_dict()},
        }
        return Question(("event", str(sequence)), types, {}, question_text(prompt), record)

    def _answer_types(self) -> tuple[str, ...]:
        if self._workflow is None:
            return ()
        accepted = {name for step in self._workflow.steps for name in step.accepts}
        return tuple(
            item.name
            for item in self._workflow.types
            if item.role is EventRole.HUMAN_RESPONSE and item.sendable and item.name in accepted
        )

    async def _find_workflow(self, name: str) -> WorkflowInfo | None:
        try:
            return await self._client.workflow(name)
        except NotFoundError:  # the workflow of an old run that is not served any more
            return None

    # -- answers --------------------------------------------------------------------------------

    async def _answer(self) -> None:
        while True:
            self._looked.clear()
            # What led to a question is shown before it.
            shown = self._info is not None and self._info.last_sequence <= self.sequence
            for question in self._questions() if shown else ():
                if question.key not in self._left and await self._handle(question):
                    break  # the questions have changed
            else:
                await self._looked.wait()

    async def _handle(self, question: Question) -> bool:
        """Answer a question; return whether something was done about it."""
        for event_type in question.types:
            fields = self._answers.take(event_type, question.fixed)
            if fields is not None:
                self._tell(question)
                await self._send(question, event_type, fields)
                return True
        if self._asker is None:
            self._tell(question)
            self._left.add(question.key)
            return False
        with self._progress.pause():
            await self._ask(question, self._asker)
        return True

    def _tell(self, question: Question) -> None:
        if question.key in self._told:
            return
        self._told.add(question.key)
        if self._output.json:
            if not self._bare:
                self._output.record({"question": question.record})
            return
        self._output.note(f"? {question.text}", style="yellow")
        if self._asker is None:
            self._output.note(f"  answer: {self._send_command(question)}")

    def _send_command(self, question: Question) -> str:
        return send_command(self._run.run_id, question.types[0], question.fixed)

    async def _ask(self, question: Question, asker: Asker) -> None:
        """Ask until the answer is taken, the person leaves the question, or someone else has answered it."""
        asking = asyncio.create_task(self._converse(question, asker))
        try:
            while not asking.done():
                self._looked.clear()
                looked = asyncio.create_task(self._looked.wait())
                await asyncio.wait([asking, looked], return_when=asyncio.FIRST_COMPLETED)
                looked.cancel()
                if not asking.done() and all(other.key != question.key for other in self._questions()):
                    asker.say("\n  answered elsewhere", "dim")
                    return
            asking.result()
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def _converse(self, question: Question, asker: Asker) -> None:
        asker.say(f"? {question.text}", "yellow")
        while True:
            event_type: str | None = question.types[0]
            if len(question.types) > 1:
                event_type = await asker.choose("answer with", question.types)
            fields = None if event_type is None else await asker.answer(self._schema(event_type), question.fixed)
            if event_type is None or fields is None:
                asker.say(f"\n  left open; answer: {self._send_command(question)}", "dim")
                self._left.add(question.key)
                return
            if await self._send(question, event_type, fields):
                return

    def _schema(self, event_type: str) -> Mapping[str, Any]:
        types = self._workflow.types if self._workflow is not None else ()
        return next((item.json_schema for item in types if item.name == event_type), {})

    async def _send(self, question: Question, event_type: str, fields: Mapping[str, Any]) -> bool:
        """Send an answer; return whether it was taken, else the person may correct it."""
        try:
            sent = await self._run.context.send_event((event_type, fields))
        except InvalidArgumentError as error:
            self._output.note(error_text(error), style="red")
            if self._asker is None:
                self._left.add(question.key)
            return False
        except (UnavailableError, DeadlineError) as error:
            if self._asker is None:
                raise
            self._output.note(error_text(error), style="red")
            return False
        except FailedPreconditionError as error:  # the run has ended meanwhile: its stream says how
            self._output.note(error_text(error), style="dim")
            self._left.add(question.key)
            return True
        if not sent.delivered:
            self._output.note(f"  nothing took the {event_type}", style="dim")
            self._left.add(question.key)
        if question.key[0] == "event":
            self._own.add(sent.sequence)
            self._prompts = [item for item in self._prompts if str(event_meta(item).sequence) != question.key[1]]
        await self._refresh()
        return True
