"""The command that goes on following a run."""

from __future__ import annotations

from stepwire.cli._arguments import DEFAULT_SERVER

__all__ = ["resume_command"]


def resume_command(run_id: str, sequence: int, server: str, *, ask: bool) -> str:
    """Return the shell command that goes on following a run.

    Args:
        run_id: The run.
        sequence: The sequence to go on after.
        server: The address of the server.
        ask: The person answers questions at the terminal.
    """
    words = ["stepwire events", run_id, "--follow"]
    if ask:
        words.append("--ask")
    if sequence:
        words.append(f"--after {sequence}")
    if server != DEFAULT_SERVER:
        words.append(f"--server {server}")
    return " ".join(words)
