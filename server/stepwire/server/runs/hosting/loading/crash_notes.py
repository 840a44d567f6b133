"""Notes in the data directory that outlive the process: how it ended, and which run it was loading then.

The kernel keeps what a process has written when the process is killed, so a note needs no sync. A crash of the machine
may lose the notes; then no run was to blame.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from stepwire.server.store import RunKey

__all__ = ["CrashNotes", "LastEnd"]

logger = logging.getLogger("stepwire.runs")

NOTES = "crash-notes"
"""The file of the notes: a state, the count of processes killed for lack of memory, and the run being loaded."""
TRACE = "crash-trace"
"""The file that Python's faulthandler writes to when a fatal signal ends the process."""

_CLEAN, _RUNNING, _EXITED = b"-", b"R", b"X"
_CONTROL, _NO_CONTROL = b"C", b" "
_CONTROL_AT, _OOM_AT, _ROUNDS_AT, _LOADING_AT, _TRIAL_AT, _SIZE = 1, 8, 40, 64, 1024, 2048
"""Offsets in the file of the notes, and its size, in bytes."""
_SHOWN_LINES = 12
"""Lines of a trace that are logged."""


class LastEnd(NamedTuple):
    """How the last process on the data directory ended.

    Attributes:
        crashed: Whether it did not stop in order.
        itself: Whether it ended itself: by a fatal signal, by `os._exit`, or killed because it took too much memory.
            False for a crash whose cause is unknown, as after SIGKILL.
        loading: The run that it was loading then.
        on_trial: The run that was on trial then.
        rounds: How many processes in a row, up to that one, crashed during their trials or soon after.
        control: Whether it held all suspects back then, to see whether it is killed without them.
    """

    crashed: bool = False
    itself: bool = False
    loading: RunKey | None = None
    on_trial: RunKey | None = None
    rounds: int = 0
    control: bool = False

    @property
    def killer_is_outside(self) -> bool:
        """Whether the process was killed while no suspect was at work."""
        return self.control and not self.itself


class CrashNotes:
    """Write the notes of this process, and read those of the last one."""

    def __init__(self, directory: Path | None = None) -> None:
        """Use a data directory; None keeps no notes."""
        self._directory = directory
        self._file: int | None = None
        self._trace: IO[str] | None = None
        self._watches = False
        self._tries = False
        """Whether this process has held a trial."""
        self.last = LastEnd()

    def open(self) -> None:
        """Read the notes of the last process and begin new ones. The data directory must be locked."""
        if self._directory is None:
            return
        try:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            file = os.open(self._directory / NOTES, flags, 0o600)
            try:
                data = os.read(file, _SIZE).ljust(_SIZE, b"\0")
                self.last = self._read(data)
                state = _RUNNING.ljust(_OOM_AT) + str(_killed_for_memory()).encode().ljust(_ROUNDS_AT - _OOM_AT)
                state += str(self.last.rounds).encode()
                os.lseek(file, 0, os.SEEK_SET)
                os.write(file, state.ljust(_SIZE, b"\0"))
            except BaseException:  # whatever it is: the descriptor is nobody's then
                os.close(file)
                raise
            self._file = file
            if self._watches:
                self._watch()
        except OSError as error:
            logger.warning("cannot write %s: %s; a run whose loading crashes is not found out", NOTES, error.strerror)

    def _read(self, data: bytes) -> LastEnd:
        state = data[:1]
        if state not in (_RUNNING, _EXITED):
            return LastEnd()
        trace = self._read_trace()
        itself = state == _EXITED or bool(trace)
        with contextlib.suppress(ValueError):
            itself = itself or _killed_for_memory() > _number(data, _OOM_AT)
        if trace:
            logger.error("the last process was ended by a fatal signal:\n%s", "\n".join(trace[:_SHOWN_LINES]))
        loading, on_trial = _key(data, _LOADING_AT), _key(data, _TRIAL_AT)
        control = data[_CONTROL_AT : _CONTROL_AT + 1] == _CONTROL
        rounds = 0 if control and not itself else _number(data, _ROUNDS_AT)
        return LastEnd(True, itself, loading, on_trial, rounds, control)

    def _read_trace(self) -> list[str]:
        assert self._directory is not None
        try:
            return (self._directory / TRACE).read_text(errors="replace").splitlines()
        except OSError:
            return []

    def watch(self) -> None:
        """From `open` on, note how this process ends. For a process that does nothing but serve."""
        self._watches = True

    def stopping(self) -> None:
        """Note no exit from here on: the process is told to stop. From any thread."""
        self._watches = False

    def _watch(self) -> None:
        assert self._directory is not None
        with contextlib.suppress(OSError):
            self._trace = (self._directory / TRACE).open("w")
            faulthandler.enable(self._trace)
        pid, end = os.getpid(), os._exit

        def note() -> None:
            if self._watches and os.getpid() == pid:  # a child that a step forked ends in this way, too
                self._write(_EXITED, 0)

        def exit_noted(status: int) -> None:
            note()
            end(status)

        os._exit = exit_noted  # type: ignore[assignment]
        os.register_at_fork(after_in_child=faulthandler.disable)
        if hasattr(signal, "SIGKILL"):
            _note_kills(note)

    @contextlib.contextmanager
    def loading(self, key: RunKey) -> Iterator[None]:
        """Note that a run is being restored while the block lasts. The block must not await."""
        if self._file is None:
            yield
            return
        self._write(json.dumps(key).encode() + b"\0", _LOADING_AT)
        try:
            yield
        finally:
            self._write(b"\0", _LOADING_AT)

    def trial(self, key: RunKey | None) -> None:
        """Note which run is on trial; with the first, that there are trials."""
        if key is not None and not self._tries:
            self._tries = True
            self._note_rounds(self.last.rounds + 1)
        self._write(b"\0" if key is None else json.dumps(key).encode() + b"\0", _TRIAL_AT)

    def control(self, holds: bool) -> None:
        """Note whether all suspects are held back."""
        self._write(_CONTROL if holds else _NO_CONTROL, _CONTROL_AT)

    def calm(self) -> None:
        """Note that the trials are over, and that nothing has crashed for a while."""
        self._note_rounds(0)

    def _note_rounds(self, rounds: int) -> None:
        self._write(str(rounds).encode().ljust(_LOADING_AT - _ROUNDS_AT, b"\0"), _ROUNDS_AT)

    def _write(self, data: bytes, offset: int) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a note that cannot be written is not worth a failed call
                os.lseek(self._file, offset, os.SEEK_SET)
                os.write(self._file, data)

    def close(self) -> None:
        """Note that the process stopped in order."""
        self._write(_CLEAN, 0)
        self.leave()

    def leave(self) -> None:
        """Write no more notes. What reads them next takes this process for crashed, unless it has stopped in order."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _note_kills(note: Callable[[], None]) -> None:
    """Note a SIGKILL that this process sends to itself: it leaves no trace, as if it came from outside."""
    kill, kill_group, raise_signal = os.kill, os.killpg, signal.raise_signal

    def kill_noted(target: int, number: int) -> None:
        if number == signal.SIGKILL and target in (os.getpid(), 0, -1, -os.getpgrp()):
            note()
        kill(target, number)

    def kill_group_noted(group: int, number: int) -> None:
        if number == signal.SIGKILL and group in (0, os.getpgrp()):
            note()
        kill_group(group, number)

    def raise_signal_noted(number: int) -> None:
        if number == signal.SIGKILL:
            note()
        raise_signal(number)

    os.kill, os.killpg, signal.raise_signal = kill_noted, kill_group_noted, raise_signal_noted


def _key(data: bytes, offset: int) -> RunKey | None:
    with contextlib.suppress(ValueError, TypeError):
        return RunKey(*json.loads(data[offset:].partition(b"\0")[0]))
    return None


def _number(data: bytes, offset: int) -> int:
    text = data[offset : offset + 20].partition(b"\0")[0].split()
    return int(text[0]) if text and text[0].isdigit() else 0


def _killed_for_memory() -> int:
    """Return how many processes the kernel has killed for lack of memory; 0 where that is unknown."""
    with contextlib.suppress(OSError, ValueError), Path("/proc/vmstat").open() as lines:
        for line in lines:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
