"""A server in this process behind a proxy that ends calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.integration.h2_proxy import H2Proxy
from tests.integration.rpc_serving import Rpc, serving


@asynccontextmanager
async def proxied(**options: Any) -> AsyncIterator[tuple[Rpc, H2Proxy]]:
    # A heartbeat that is soon missed.
    async with serving(heartbeat=0.05) as rpc, H2Proxy(rpc.server.address, **options) as proxy:
        yield rpc, proxy
