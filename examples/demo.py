"""The demo: a review of a Python package that survives the death of its server.

    make demo                     or: python examples/demo.py [--package json] [--answer ticket]

It starts a server on SQLite and, as a client that knows nothing of the workflow's code, goes through everything that a
client can do with a run. Every claim is checked; the first one that does not hold ends the demo with exit code 1. At a
terminal a person answers the run's question, there or in the console; otherwise the demo answers itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sys
import sysconfig
import tempfile
import threading
import webbrowser
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from stepwire.client import Client, Conversation, RunStatus, StepwireError, event_meta

EXAMPLES = Path(__file__).resolve().parent
ANSWERS = ("ignore", "ticket", "block")
PATIENCE = 60.0
"""Seconds that anything but the person may take."""

COLOR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(text: str, code: str) -> str:
    """Return text in a color where there are colors."""
    return f"\033[{code}m{text}\033[0m" if COLOR else text


class Demo:
    """Number the parts, print and check the claims."""

    def __init__(self) -> None:
        self._part = 0
        self._checked = 0

    def part(self, title: str) -> None:
        """Begin a part."""
        self._part += 1
        print(f"\n{paint(f'{self._part}. {title}', '1')}", flush=True)

    def say(self, text: str) -> None:
        """Print something that is no claim."""
        print(f"   {text}", flush=True)

    def check(self, condition: bool, what: str) -> None:
        """Print a claim; exit with 1 when it does not hold."""
        print(f"   {paint('✓', '32') if condition else paint('✗', '31')} {what}", flush=True)
        if not condition:
            sys.exit(1)
        self._checked += 1

    def end(self, following: str = "docs/quickstart.md") -> None:
        """Say what came of it, and what to read next."""
        print(f"\n{paint(f'All {self._checked} checks hold.', '1')} Next: {following}", flush=True)


class Server:
    """A server on SQLite in a process of its own; only this process is ever ended."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._process: asyncio.subprocess.Process | None = None
        self._log: deque[str] = deque(maxlen=40)
        self._drain: asyncio.Task[None] | None = None
        self.address = "127.0.0.1:0"
        self.console = "http://127.0.0.1:0"

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Return the last lines that the server wrote."""
        return "\n".join(self._log)

    async def start(self) -> None:
        """Start the server, from the second time on at the same address, and wait until it listens."""
        self._process = await asyncio.create_subprocess_exec(
            Path(sysconfig.get_path("scripts")) / "stepwire",
            *("serve", f"{EXAMPLES / 'code_review.py'}:CodeReview=code_review"),
            *("--address", self.address, "--web", self.console.removeprefix("http://"), "--data", str(self._data)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._process.stderr is not None
        lines = self._process.stderr
        async with asyncio.timeout(PATIENCE):
            while line := await lines.readline():
                self._log.append(line.decode(errors="replace").rstrip())
                if found := re.search(r"stepwire: console at (\S+)", self._log[-1]):
                    self.console = found.group(1)
                if found := re.search(r"stepwire: listening on (\S+)", self._log[-1]):
                    self.address = found.group(1)
                    self._drain = asyncio.create_task(self._keep(lines))
                    return
        code = await self._process.wait()
        raise RuntimeError(f"the server ended before it listened: exit code {code}")

    async def _keep(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            self._log.append(line.decode(errors="replace").rstrip())

    async def end(self, *, kill: bool) -> int:
        """End the server with SIGKILL, or kindly with SIGTERM; return its exit code."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill() if kill else self._process.terminate()
        async with asyncio.timeout(PATIENCE):
            code = await self._process.wait()
            if self._drain is not None:
                await self._drain
        return code


async def main(package: str, answer: str | None) -> None:
    """Run the demo in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="stepwire-demo-") as name:
        server = Server(Path(name) / "data")
        try:
            async with contextlib.AsyncExitStack() as stack:
                await show(Demo(), server, stack, Path(name), package, answer)
        except (StepwireError, RuntimeError, TimeoutError, OSError) as error:
            print(f"   ✗ {type(error).__name__}: {str(error) or 'it took too long'}\n{server.log}", file=sys.stderr)
            sys.exit(1)
        finally:
            await server.end(kill=True)


async def show(
    demo: Demo, server: Server, stack: contextlib.AsyncExitStack, folder: Path, package: str, answer: str | None
) -> None:
    """Go through the parts."""
    report, second_report, work_log = folder / "report.md", folder / "second.md", folder / "work.log"

    demo.part("Start the server on SQLite")
    await server.start()
    first_pid = server.pid
    demo.check(True, f"it listens on {server.address} (pid {first_pid})")
    client = await stack.enter_async_context(Client(server.address, timeout=PATIENCE))

    demo.part(f"Start a review of the package {package} and follow it over Converse")
    run = await client.start_run("code_review", package=package, report=str(report), work_log=str(work_log))
    demo.say(f"run {run.run_id}")
    sequences: list[int] = []
    question: Any = None
    async with run.converse(internal=True) as talk:
        async for event in bounded(talk):
            sequences.append(event_meta(event).sequence)
            if event.type == "Progress" and event.reviewed == 1:
                seen = await run.context.store.get("reviewed")
                await run.context.store.set("reviewer", "Ada")
                status = (await run.info()).status
                demo.check(not status.ended, f"read the state while it runs ({seen} modules in), wrote to it: reviewer")
            elif event.type == "Progress" and event.reviewed == event.total:
                demo.say(f"{event.reviewed} of {event.total} modules reviewed, the last one was {event.name}")
            elif event.type == "ReviewQuestion":
                question = event
                break
    demo.check(question is not None, f"the run asks: {question.text if question else 'nothing'}")
    for finding in question.worst:
        demo.say(f"  {finding['module']}:{finding['line']}: {finding['what']}")
    last = sequences[-1]
    demo.check(sequences == list(range(1, last + 1)), f"the stream had every sequence from 1 to {last} once")
    state = await run.context.store.get_state()
    demo.check(state["reviewer"] == "Ada", "what was written to the state is there")
    demo.check(
        state["reviewed"] == state["total"] > 0, f"the state counts {state['reviewed']} modules: {state['by_kind']}"
    )
    work = work_log.read_text()
    modules = [line.split()[0] for line in work.splitlines()]
    demo.check(sorted(modules) == sorted(state["by_module"]), "the work log has one line for each module")

    demo.part("Fetch a snapshot")
    snapshot = await run.snapshot()
    demo.check(snapshot.status is RunStatus.WAITING, f"{len(bytes(snapshot))} bytes at sequence {snapshot.sequence}")

    demo.part("Kill the server with SIGKILL while the run waits for the human, and start it again")
    code = await server.end(kill=True)
    demo.check(code < 0, f"the server (pid {first_pid}) is dead: exit code {code}")
    await server.start()
    demo.check(server.pid != first_pid, f"another one (pid {server.pid}) listens on {server.address}")

    demo.part(f"Resume the stream at sequence {last + 1}")
    page = f"{server.console}/runs/{run.run_id}"
    demo.say(f"the run in a browser: {paint(page, '4')}")
    async with run.converse(after=last, internal=True) as talk:
        events = Upcoming(talk)
        decision = await answer_question(demo, events, question, answer, page)
        after = await follow_to_end(events)
        demo.check(
            after == list(range(last + 1, last + 1 + len(after))),
            f"it went on without a gap to {last + len(after)}, the end",
        )
    demo.check(work_log.read_text() == work, "the work before the question was not repeated")

    demo.part("The report and the result")
    result = await run.result(timeout=PATIENCE)
    text = report.read_text()
    for line in text.splitlines()[:12]:
        demo.say(paint(f"| {line}", "2"))
    demo.say(f"result: { ({name: value for name, value in result.items() if name != 'report'}) }")
    demo.check(result["decision"] == decision and result["modules"] == len(modules), "the result has the decision")
    demo.check(f"**{decision}** (by Ada)" in text, "the report has the decision, and the reviewer that we wrote")

    demo.part("Start a second run from the snapshot")
    second = await client.start_run("code_review", snapshot=snapshot)
    info = await second.info()
    demo.check(info.forked_from == (run.run_id, snapshot.sequence), f"run {second.run_id} goes on from the question")
    await second.context.store.set("report", str(second_report))
    other = next(item for item in ANSWERS if item != decision)
    async with second.converse(internal=True) as talk:
        events = Upcoming(talk)
        await answer_question(demo, events, question, other, page)
        after = await follow_to_end(events)
        demo.check(after == list(range(1, len(after) + 1)), f"its own stream has every sequence from 1 to {len(after)}")
    result = await second.result(timeout=PATIENCE)
    demo.check(
        result["decision"] == other and f"**{other}**" in second_report.read_text(),
        f"it ended with another decision: {other}",
    )
    demo.check(report.read_text() == text, "the first run's report is as it was")
    demo.check(work_log.read_text() == work, "and still no module was reviewed twice")

    demo.part("Stop the server")
    demo.check(await server.end(kill=False) == 0, "it stopped cleanly")
    demo.end()


async def bounded(talk: Conversation) -> AsyncIterator[Any]:
    """Iterate over a conversation; TimeoutError when an event is long in coming."""
    while True:
        try:
            event = await asyncio.wait_for(anext(talk), PATIENCE)
        except StopAsyncIteration:
            return
        yield event


class Upcoming:
    """The events of a conversation, the next of which can be waited for beside something else."""

    def __init__(self, talk: Conversation) -> None:
        self.talk = talk
        self.sequences: list[int] = []
        """Of the events that were taken."""
        self._next: asyncio.Task[Any] | None = None

    def arriving(self) -> asyncio.Task[Any]:
        """Return the task that waits for the next event; it is not taken yet."""
        if self._next is None:
            self._next = asyncio.create_task(anext(self.talk, None))
        return self._next

    async def take(self) -> Any:
        """Return the next event, None at the end; TimeoutError when it is long in coming."""
        event = await asyncio.wait_for(self.arriving(), PATIENCE)
        self._next = None
        if event is not None:
            self.sequences.append(event_meta(event).sequence)
        return event


async def answer_question(demo: Demo, events: Upcoming, question: Any, answer: str | None, page: str) -> str:
    """See the pending question and answer it, or see it answered in the console; return the answer."""
    pending = events.talk.info.pending_waiters
    demo.check(len(pending) == 1 and pending[0].event_type == "ReviewDecision", "the question is pending")
    prompt = pending[0].prompt
    demo.check(prompt == question, f"it is the one that was asked: {question.text}")
    if answer is None:
        asking = asyncio.create_task(ask_person(page))
        while not asking.done():
            await asyncio.wait({asking, events.arriving()}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done() and (event := await events.take()) is not None and event.type == "ReviewDecision":
                asking.cancel()
                print(flush=True)
                demo.check(event.decision in ANSWERS, f"answered in the console: {event.decision}")
                return str(event.decision)
        answer = asking.result()
    sent = await asyncio.wait_for(events.talk.send(("ReviewDecision", {"decision": answer})), PATIENCE)
    demo.check(sent.delivered == 1, f"answered: {answer}")
    return answer


async def follow_to_end(events: Upcoming) -> list[int]:
    """Follow a run to its end; return the sequences of all events that were taken."""
    while await events.take() is not None:
        pass
    outcome = events.talk.outcome
    if outcome is None or outcome.status is not RunStatus.COMPLETED:
        raise RuntimeError(f"the run did not complete: {outcome}")
    return events.sequences


async def ask_person(page: str) -> str:
    """Have the person at the terminal choose, with nobody's patience to lose; `open` opens the console."""
    loop = asyncio.get_running_loop()
    while True:
        line: asyncio.Future[str] = loop.create_future()
        # A daemon thread, so that Ctrl-C ends the demo and not only the question.
        threading.Thread(target=_read_line, args=(loop, line), daemon=True).start()
        typed = (await line).strip().lower()
        if typed == "open":
            if not await asyncio.to_thread(webbrowser.open, page):
                print(f"   no browser was found here: open {page} yourself", flush=True)
            continue
        chosen = [item for item in ANSWERS if typed and item.startswith(typed)]
        if len(chosen) == 1:
            return chosen[0]


def _read_line(loop: asyncio.AbstractEventLoop, line: asyncio.Future[str]) -> None:
    try:
        typed = input(f"   Your decision ({', '.join(ANSWERS)}), here or in the console (open): ")
    except EOFError:
        typed = ANSWERS[0]
    with contextlib.suppress(RuntimeError):  # answered in the console meanwhile: the demo has ended
        loop.call_soon_threadsafe(_set, line, typed)


def _set(line: asyncio.Future[str], typed: str) -> None:
    if not line.done():
        line.set_result(typed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", default="email", help="a package of the standard library (default: email)")
    parser.add_argument("--answer", choices=ANSWERS, help="do not ask, answer this")
    arguments = parser.parse_args()
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        asyncio.run(main(arguments.package, arguments.answer or (None if interactive else "ticket")))
    except KeyboardInterrupt:
        sys.exit(130)
