"""Where a server listens: never where another one does already."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.integration.rpc_serving import everything, serving

from stepwire.server.app import Server
from stepwire.server.config import Settings
from stepwire.server.doctor.network import addresses
from stepwire.server.rpc import is_free


@contextmanager
def listening(host: str) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as taken:
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind((host, 0))
        taken.listen()
        yield taken.getsockname()[1]


needs_ipv6 = pytest.mark.skipif(
    not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists(), reason="this machine has no IPv6"
)


@needs_ipv6
@pytest.mark.parametrize("taken", ["127.0.0.1", "::1", "0.0.0.0", "::"])
@pytest.mark.parametrize("wanted", ["127.0.0.1", "[::1]", "localhost", "0.0.0.0", "[::]"])
def test_a_port_that_is_taken_on_one_family_is_taken(taken: str, wanted: str) -> None:
    with listening(taken) as port:
        assert not is_free(f"{wanted}:{port}")
    assert is_free(f"{wanted}:{port}")


def test_a_connection_of_a_previous_server_that_is_still_closing_takes_nothing() -> None:
    with listening("127.0.0.1") as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.shutdown(socket.SHUT_RDWR)
    assert is_free(f"127.0.0.1:{port}")


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match=r"assign|available"):
        is_free("192.0.2.1:50051")


async def refused(tmp_path: Path, address: str) -> str:
    server = Server(everything(), Settings(address=address, data=str(tmp_path / "second")))
    with pytest.raises(OSError, match="cannot listen") as caught:
        await server.start()
    return str(caught.value)


@needs_ipv6
async def test_a_second_server_on_the_other_family_of_a_port_is_refused(tmp_path: Path) -> None:
    async with serving() as rpc:
        for host in ("[::1]", "localhost", "127.0.0.1"):
            assert "another server listens there" in await refused(tmp_path, f"{host}:{rpc.server.port}")


async def test_a_second_server_on_a_unix_socket_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for address in (f"unix:{path}", f"unix://{path}"):
        server = Server(everything(), Settings(address=address, data=":memory:"))
        await server.start()
        try:
            assert "another server listens there" in await refused(tmp_path, address)
            (check,) = await asyncio.to_thread(list, addresses(Settings(address=address, data=":memory:")))
            assert check.status == "ok"
            assert "a server answers" in check.message
        finally:
            await server.stop()
    # What a server that was killed left behind is no server.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        path.unlink(missing_ok=True)
        left.bind(str(path))
    assert path.exists()
    server = Server(everything(), Settings(address=f"unix:{path}", data=":memory:"))
    await server.start()
    await server.stop()
