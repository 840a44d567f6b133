"""Scrape the admin port as Prometheus does."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from tests.integration.operations.flows import Block, Hold, Work
from tests.integration.rpc_serving import Rpc, registry_of, serving

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@asynccontextmanager
async def operated(data: str = ":memory:", **settings: Any) -> AsyncIterator[Rpc]:
    """Serve the workflows with an admin port."""
    settings = {"admin_address": "127.0.0.1:0", "watchdog": 0.0, "grace": 0.0, **settings}
    async with serving(registry_of(work=Work, block=Block, hold=Hold), data, **settings) as rpc:
        yield rpc


def fetch(rpc: Rpc, path: str) -> tuple[int, str]:
    """Get a page of the admin port, from whatever thread."""
    try:
        with urllib.request.urlopen(f"http://{rpc.server.observing.admin_address}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def page(rpc: Rpc, path: str) -> tuple[int, str]:
    """Get a page of the admin port."""
    return await asyncio.to_thread(fetch, rpc, path)


def parse(text: str) -> Samples:
    """Return the value of each sample by its name and sorted labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(rpc: Rpc) -> Callable[..., float]:
    """Return a function from the name and labels of a sample to its value; 0 if there is no such sample."""
    status, text = await page(rpc, "/metrics")
    assert status == 200
    samples = parse(text)

    def value(name: str, **labels: str) -> float:
        return samples.get((name, tuple(sorted(labels.items()))), 0.0)

    return value
