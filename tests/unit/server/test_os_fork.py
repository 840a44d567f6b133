"""Which sockets a forked child of a step closes."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from stepwire.server.process import os_fork

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks of POSIX")


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(os_fork, "_addresses", [])
    monkeypatch.setattr(os_fork, "os", SimpleNamespace(**{**vars(os), "close": found.append}))
    return found


@pytest.mark.parametrize("kind", ["IPv4", "IPv6", "unix", "unix-abstract"])
def test_those_that_listen_and_their_connections(kind: str, closed: list[int], tmp_path: Path) -> None:
    family = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6}.get(kind, socket.AF_UNIX)
    if kind == "unix-abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    place: object = {
        "IPv4": ("127.0.0.1", 0),
        "IPv6": ("::1", 0),
        "unix": str(tmp_path / "socket"),
        "unix-abstract": f"\0stepwire-{os.getpid()}",
    }[kind]
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket(family))
        try:
            server.bind(place)  # type: ignore[arg-type]
        except OSError:
            pytest.skip(f"no {kind} here")
        server.listen()
        client = stack.enter_context(socket.socket(family))
        client.connect(server.getsockname())
        accepted = stack.enter_context(server.accept()[0])
        other = stack.enter_context(socket.socket(family))
        for one in socket.socketpair():
            stack.enter_context(one)
        name = server.getsockname()
        os_fork.close_sockets_of(
            {
                "IPv4": lambda: f"127.0.0.1:{name[1]}",
                "IPv6": lambda: f"[::1]:{name[1]}",
                "unix": lambda: f"unix:{name}",
                "unix-abstract": lambda: f"unix-abstract:{name[1:].decode()}",
            }[kind]()
        )
        os_fork._close_sockets()
        assert set(closed) == {server.fileno(), accepted.fileno()}
        assert other.fileno() not in closed


def test_what_a_callback_raises_keeps_no_other_from_being_called(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def fails() -> None:
        called.append("fails")
        raise RuntimeError

    monkeypatch.setattr(os_fork, "_addresses", [])
    monkeypatch.setattr(os_fork, "_callbacks", [fails, lambda: called.append("works")])
    os_fork._before()
    os_fork._in_child()
    assert called == ["fails", "works"]
