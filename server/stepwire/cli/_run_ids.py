"""Run ids as people type them: a beginning is enough where only one run has it."""

from __future__ import annotations

from typing import Final

from stepwire.client import Client, NotFoundError

__all__ = ["AmbiguousRunError", "whole_id"]

_WHOLE: Final = 32
"""Characters of an id that a server chooses: no other id begins with it."""
_TOLD: Final = 5
"""Ids that are named where a beginning is not enough."""


class AmbiguousRunError(ValueError):
    """Several runs have an id that begins so."""


async def whole_id(client: Client, given: str) -> str:
    """Return the id of the run that a person means by `given`: an id, or the beginning of one.

    Raises:
        NotFoundError: No run has it.
        AmbiguousRunError: Several runs do, and none has exactly this id.
    """
    if len(given) >= _WHOLE:
        return given
    try:
        return (await client.get_run(given)).run_id
    except NotFoundError:
        found = await _beginning_with(client, given)
        if not found:
            raise
    if len(found) > 1:
        shown = ", ".join(found[:_TOLD]) + (", …" if len(found) > _TOLD else "")
        number = f"more than {_TOLD}" if len(found) > _TOLD else len(found)
        raise AmbiguousRunError(f"{number} runs begin with {given}: {shown}; write more of the id")
    return found[0]


async def _beginning_with(client: Client, given: str) -> list[str]:
    found: list[str] = []
    async for info in client.list_runs(run_id_prefix=given, page_size=_TOLD + 1):
        found.append(info.run_id)
        if len(found) > _TOLD:
            break
    return found
