"""The key of a step's work, as databases and HTTP headers get it."""

from __future__ import annotations

import re
import string

import pytest
from tests.integration.rpc_serving import refused, registry_of, serving

from stepwire.workflow import Context, StartEvent, StopEvent, Workflow, step

LONGEST = (string.ascii_letters + string.digits + "._:-").ljust(128, "x")


class Key(Workflow):
    @step
    async def tell(self, ctx: Context, ev: StartEvent) -> StopEvent:
        return StopEvent(result=ctx.step_info().key)


async def test_it_is_short_and_ascii_whatever_id_a_client_chooses() -> None:
    async with serving(registry_of(key=Key)) as rpc:
        await rpc.start("key", {}, run_id=LONGEST)
        key = (await rpc.ended(LONGEST)).outcome.result.json.decode().strip('"')
        assert key == f"{LONGEST}/1"
        assert re.fullmatch(r"[A-Za-z0-9._:/-]{1,160}", key)


@pytest.mark.parametrize("run_id", ["a b", "ä", "a/1", "a\n", 'a"'])
async def test_an_id_of_which_no_such_key_can_be_made_is_refused(run_id: str) -> None:
    async with serving(registry_of(key=Key)) as rpc:
        refusal = await refused(rpc.start("key", {}, run_id=run_id))
        assert (refusal.reason, list(refusal.fields)) == ("INVALID_REQUEST", ["run_id"])
