"""Show one run, with what its open questions take."""

from __future__ import annotations

from typing import Final

from stepwire.cli.following.answer_schemas import AnswerSchemas
from stepwire.cli.render.activity import may_have_stalled
from stepwire.cli.render.pages import run_page
from stepwire.cli.render.records import run_record
from stepwire.cli.render.terminal import Output
from stepwire.client import Client, EntryKind, EventRole, RunInfo, StepwireError, event_meta

__all__ = ["show_run"]

_LOOKED_AT: Final = 50
"""Entries at the end of the log among which the event is that nothing took."""


async def show_run(client: Client, output: Output, info: RunInfo) -> None:
    """Write a run. The workflows of its open questions are asked for."""
    if output.json:
        output.document(run_record(info))
        return
    schemas = await AnswerSchemas(client).of(info)
    output.show(run_page(info, schemas=schemas, untaken=await _untaken(client, info)))


async def _untaken(client: Client, info: RunInfo) -> str:
    """Return the type of the last event that nothing took, if the run may have stalled because of it; else ""."""
    if not may_have_stalled(info):
        return ""
    found = ""
    after = max(info.first_available - 1, info.last_sequence - _LOOKED_AT)
    try:
        async for event in client.run(info.run_id).events(after, internal=True, follow=False):
            meta = event_meta(event)
            if meta.kind in (EntryKind.SENT, EntryKind.RECEIVED):
                is_question = meta.role is EventRole.INPUT_REQUIRED  # for clients, not for a step
                found = meta.type if meta.delivered == 0 and not is_question else ""
    except StepwireError:  # the run was deleted meanwhile, or this caller may not read internal events
        return ""
    return found
