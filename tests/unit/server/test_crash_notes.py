"""The notes of a process tell the next one how it ended, what it was loading, and which run was on trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stepwire.server.runs.hosting.loading.crash_notes import NOTES, CrashNotes, LastEnd
from stepwire.server.store import RunKey

LIBRARY = "ctypes.CDLL(None)"
KEY = RunKey("default", "r")


def test_notes_tell_the_next_process_what_was_loaded_and_on_trial(tmp_path: Path) -> None:
    notes = CrashNotes(tmp_path)
    notes.open()
    assert notes.last == LastEnd()
    with notes.loading(RunKey("default", "before")):
        pass
    notes.trial(KEY)
    with notes.loading(KEY):
        after = CrashNotes(tmp_path)
        after.open()
    assert after.last == LastEnd(True, False, KEY, KEY, 1)
    after.trial(KEY)
    third = CrashNotes(tmp_path)
    third.open()
    assert (third.last.loading, third.last.on_trial, third.last.rounds) == (None, KEY, 2)
    third.close()
    fourth = CrashNotes(tmp_path)
    fourth.open()
    assert fourth.last == LastEnd()


@pytest.mark.parametrize(
    ("end", "itself"),
    [
        ("import os; os._exit(1)", True),
        ("import os, signal; os.kill(os.getpid(), signal.SIGABRT)", True),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", True),
        ("import os, signal; os.setpgid(0, 0); os.killpg(os.getpgrp(), signal.SIGKILL)", True),
        ("import signal; signal.raise_signal(signal.SIGKILL)", True),
        (f"{LIBRARY}.kill(os.getpid(), 9)", False),
        (f"{LIBRARY}; os.fork() or os._exit(0); os.wait(); {LIBRARY}.kill(os.getpid(), 9)", False),
        (f"child = os.fork() or time.sleep(60); os.kill(child, 9); os.wait(); {LIBRARY}.kill(os.getpid(), 9)", False),
    ],
)
def test_notes_tell_whether_the_process_ended_itself(tmp_path: Path, end: str, itself: bool) -> None:
    code = (
        "from pathlib import Path; from stepwire.server.runs.hosting.loading.crash_notes import CrashNotes;"
        f"import ctypes, os, time; notes = CrashNotes(Path({str(tmp_path)!r})); notes.watch(); notes.open(); " + end
    )
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    notes = CrashNotes(tmp_path)
    notes.open()
    assert (notes.last.crashed, notes.last.itself) == (True, itself)


def test_notes_that_are_damaged_or_cannot_be_written_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / NOTES).write_bytes(b"R" + os.urandom(100) + json.dumps("x").encode())
    notes = CrashNotes(tmp_path)
    notes.open()
    assert notes.last.crashed
    missing = CrashNotes(tmp_path / "nowhere")
    missing.open()
    with missing.loading(KEY):
        missing.trial(KEY)
    missing.close()
