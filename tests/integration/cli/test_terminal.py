"""Questions and live views at a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from types import TracebackType
from typing import Self

from tests.integration.cli.support import cli, document
from tests.serving import COMMAND


class Terminal:
    """A command at a pseudo terminal: `expect` what it shows, `type` an answer."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [str(COMMAND), *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "NO_COLOR": "1"},
        )
        os.close(slave)
        self.shown = ""
        self._at = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(60)
        os.close(self._master)
        if error is not None:
            error.add_note(self.shown)

    def expect(self, text: str, timeout: float = 60.0) -> None:
        """Read until `text` is shown, after what was expected before."""
        end = time.monotonic() + timeout
        while (found := self.shown.find(text, self._at)) < 0:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{text!r} was not shown"
            assert self._read(), f"it ended without {text!r}"
        self._at = found + len(text)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Read to the end; return the exit code."""
        while self._read():
            pass
        return self.process.wait(60)

    def _read(self) -> bool:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            return False
        self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace"))
        return bool(data)


def test_an_answer_of_no_declared_field_takes_what_is_typed() -> None:
    with Terminal("run", "Confirm") as terminal:
        terminal.expect("? Refund A-17?")
        terminal.expect("response (Enter: leave out): ")
        terminal.type("yes, do it\n")
        terminal.expect("A-17: yes, do it")
        assert terminal.end() == 0


def test_a_question_at_the_terminal() -> None:
    with Terminal("run", "Order") as terminal:
        terminal.expect("Ask question=")
        terminal.expect("? Ship it?")
        terminal.expect("approved (yes/no): ")
        terminal.type("perhaps\n")
        terminal.expect("type yes or no")
        terminal.expect("approved (yes/no): ")
        terminal.type("y\n")
        terminal.expect("parcels (integer): ")
        terminal.type("2\n")
        terminal.expect("speed (slow/fast): ")
        terminal.type("fast\n")
        terminal.expect("completed after")
        assert terminal.end() == 0
    assert "order" not in re.findall(r"^ {2}(\w+)[ :(]", terminal.shown, re.M)
    assert json.loads(terminal.shown[terminal.shown.rindex("{") :]) == {
        "approved": True,
        "speed": "fast",
        "note": None,
    }


def test_a_returned_question_at_the_terminal() -> None:
    with Terminal("run", "Name") as terminal:
        terminal.expect("? Your name?")
        terminal.expect("response: ")
        terminal.type("Ada\n")
        terminal.expect("Hello, Ada!")
        assert terminal.end() == 0


def test_a_question_is_answered_elsewhere_meanwhile() -> None:
    with Terminal("run", "Order", "--run-id", "race") as terminal:
        terminal.expect("approved (yes/no): ")
        terminal.type("ye")
        cli("send", "race", "Approval", 'order="7"', "approved=true", "parcels=1", "speed=slow")
        terminal.expect("completed after")
        assert terminal.end() == 0


def test_leaving_a_question_and_coming_back() -> None:
    with Terminal("run", "Name", "--run-id", "left") as terminal:
        terminal.expect("response: ")
        terminal.type("\x04")
        terminal.expect("left open; answer: stepwire send left HumanResponseEvent")
        terminal.process.send_signal(signal.SIGINT)
        terminal.expect("run left goes on")
        terminal.expect("stepwire events left --follow --ask")
        assert terminal.end() == 130
        back = terminal.shown[terminal.shown.index("stepwire events left") :].split()
    assert document("runs", "left")["status"] == "waiting"
    with Terminal(*back[1:]) as terminal:
        terminal.expect("response: ")
        terminal.type("Ada\n")
        terminal.expect("StopEvent")
        assert terminal.end() == 0
    assert cli("result", "left").stdout == "Hello, Ada!\n"


def test_an_interrupt_leaves_the_run() -> None:
    with Terminal("run", "Order", "--run-id", "interrupted") as terminal:
        terminal.expect("approved (yes/no): ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.expect("run interrupted goes on")
        assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert document("runs", "interrupted")["status"] == "waiting"
