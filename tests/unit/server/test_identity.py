"""Who answers at the address of a replica."""

from __future__ import annotations

from typing import Any

import pytest

from stepwire.server.rpc.peers.hop import HopSigner
from stepwire.server.rpc.peers.identity import ask


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b'{"replica": 7}', ""),
        (b'{"replica": 9}', "replica 9 answers there"),
        (b'{"replica": 0}', "a replica that was taken for dead answers there"),
        (b"{}", "something else than a replica answers there"),
    ],
)
async def test_only_the_replica_itself_is_right(answer: bytes, fault: str) -> None:
    async def who(request: bytes, *, metadata: Any, timeout: float) -> bytes:
        return answer

    assert (await ask(who, HopSigner(b"k" * 32))).fault_for(7) == fault
