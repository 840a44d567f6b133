"""Answer the open questions of a run that is followed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from stepwire.cli.following.answers import Answers
from stepwire.cli.following.view import Question, RunView
from stepwire.cli.render.pages import send_command
from stepwire.cli.render.questions import Asker
from stepwire.cli.render.terminal import Output, error_text
from stepwire.cli.render.text import fields_text
from stepwire.client import DeadlineError, FailedPreconditionError, InvalidArgumentError, Run, UnavailableError

__all__ = ["Answering"]


class Answering:
    """Answer questions with the answers that were given, else ask the person, else print the question.

    Args:
        run: The run.
        view: What is known of it.
        output: Where questions are printed.
        answers: The answers that were given on the command line.
        asker: Asks the person at the terminal; None when there is none.
        pause: Leaves the terminal to the asker for the length of a block.
        records: Write the questions as JSON lines when `output` is for scripts.
    """

    def __init__(
        self,
        run: Run,
        view: RunView,
        output: Output,
        *,
        answers: Answers,
        asker: Asker | None,
        pause: Callable[[], AbstractContextManager[None]],
        records: bool,
    ) -> None:
        self._run = run
        self._view = view
        self._output = output
        self._answers = answers
        self._asker = asker
        self._pause = pause
        self._records = records
        # The keys of questions that were printed, and of those that are left to be answered elsewhere.
        self._told: set[tuple[str, str]] = set()
        self._left: set[tuple[str, str]] = set()
        self._sending = False
        """Whether an answer of this person is on its way: that the question closes is its doing then."""

    def forget_closed(self) -> None:
        """Forget the questions that are no longer open: their keys may come again."""
        keys = {question.key for question in self._view.questions()}
        self._left &= keys
        self._told &= keys

    async def answer_all(self) -> None:
        """Answer questions as they come, until cancelled."""
        while True:
            self._view.refreshed.clear()
            # What led to a question is shown before it.
            for question in self._view.questions() if self._view.up_to_date else ():
                if question.key not in self._left and await self._handle(question):
                    break  # the questions have changed
            else:
                await self._view.refreshed.wait()

    async def _handle(self, question: Question) -> bool:
        """Answer a question; return whether something was done about it."""
        for event_type in question.types:
            fields = self._answers.take(event_type, question.fixed)
            if fields is not None:
                self._tell(question, (event_type, fields))
                await self._send(question, event_type, fields)
                return True
        if self._asker is None:
            self._tell(question)
            self._left.add(question.key)
            return False
        with self._pause():
            await self._ask(question, self._asker)
        return True

    def _tell(self, question: Question, answer: tuple[str, Mapping[str, Any]] | None = None) -> None:
        """Print a question, once, and the answer that was given beforehand or how to answer."""
        if question.key in self._told:
            return
        self._told.add(question.key)
        if self._output.json:
            if self._records:
                self._output.record({"question": question.record})
            return
        self._output.note(f"? {question.text}", style="yellow")
        if answer is not None:
            self._output.note(f"  answered: {answer[0]} {fields_text(answer[1])}".rstrip())
        elif self._asker is None:
            self._output.note(f"  answer: {self._send_command(question)}")

    def _send_command(self, question: Question) -> str:
        event_type = question.types[0]
        schema = self._view.known_schema(event_type, question.run_id)
        return send_command(question.run_id or self._run.run_id, event_type, question.fixed, schema)

    async def _ask(self, question: Question, asker: Asker) -> None:
        """Ask until the answer is taken, the person leaves the question open, or it is answered elsewhere."""
        asking = asyncio.create_task(self._converse(question, asker))
        try:
            while not asking.done():
                self._view.refreshed.clear()
                refreshed = asyncio.create_task(self._view.refreshed.wait())
                await asyncio.wait([asking, refreshed], return_when=asyncio.FIRST_COMPLETED)
                refreshed.cancel()
                if (
                    not asking.done()
                    and not self._sending
                    and all(other.key != question.key for other in self._view.questions())
                ):
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
            fields = None
            if event_type is not None:
                fields = await asker.answer(self._view.schema(event_type, question.run_id), question.fixed)
            if event_type is None or fields is None:
                asker.say(f"\n  left open; answer: {self._send_command(question)}", "dim")
                self._left.add(question.key)
                return
            self._sending = True
            try:
                if await self._send(question, event_type, fields):
                    return
            finally:
                self._sending = False

    async def _send(self, question: Question, event_type: str, fields: Mapping[str, Any]) -> bool:
        """Send an answer; return whether it was taken. When it was not, the person may correct it."""
        try:
            sent = await self._view.run_of(question).context.send_event((event_type, fields))
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
        self._view.answered(question, sent)
        await self._view.refresh()
        self.forget_closed()
        return True
