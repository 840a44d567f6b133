"""Show one run, with what its open questions take."""

from __future__ import annotations

from stepwire.cli.following.answer_schemas import AnswerSchemas
from stepwire.cli.render.pages import run_page
from stepwire.cli.render.records import run_record
from stepwire.cli.render.terminal import Output
from stepwire.client import Client, RunInfo

__all__ = ["show_run"]


async def show_run(client: Client, output: Output, info: RunInfo) -> None:
    """Write a run. The workflows of its open questions are asked for."""
    if output.json:
        output.document(run_record(info))
        return
    output.show(run_page(info, schemas=await AnswerSchemas(client).of(info)))
