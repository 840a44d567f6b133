"""A server that never answers is given up sooner than one that is lost."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest
from tests.unit.client.fake import FakeServer, events, forever

from stepwire import client as api
from stepwire.client import Client, Run, SyncClient, SyncRun
from stepwire.client._core.first_contact import FirstContact

REFUSED = api.UnavailableError(
    "cannot connect to ipv4:127.0.0.1:1: Connection refused (111)", code=grpc.StatusCode.UNAVAILABLE
)
CUT = api.UnavailableError("Socket closed", code=grpc.StatusCode.UNAVAILABLE)
ANSWERED = api.UnavailableError("draining", code=grpc.StatusCode.UNAVAILABLE, reason="DRAINING")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def given_up(contact: FirstContact, clock: Clock, *after: float) -> list[bool]:
    """Return whether each of some refusals, so many seconds after the one before, was the last one."""
    found: list[bool] = []
    for seconds in after:
        clock.now += seconds
        found.append(isinstance(contact.judge(REFUSED), api.NotConnectedError))
    return found


def test_refusals_are_final_once_they_have_lasted() -> None:
    clock = Clock()
    assert given_up(FirstContact(3.0, clock), clock, 0.0, 1.0, 1.0, 1.0, 0.1) == [False, False, False, True, True]


def test_a_refusal_long_after_another_begins_anew() -> None:
    clock = Clock()
    assert given_up(FirstContact(3.0, clock), clock, 0.0, 60.0, 3.0) == [False, False, True]


def test_no_refusal_is_final_before_each_address_was_tried() -> None:
    clock = Clock()
    contact = FirstContact(3.0, clock, addresses=("a:1", "b:1", "c:1"))
    final = []
    for seconds, index in ((0.0, 0), (3.0, 1), (3.0, 0), (3.0, 2)):
        clock.now += seconds
        final.append(isinstance(contact.judge(REFUSED, index), api.NotConnectedError))
    assert final == [False, False, False, True]


def test_an_address_without_a_port_is_named() -> None:
    for address, told in (
        ("10.0.0.1", "10.0.0.1 has no port: is it 10.0.0.1:50051?"),
        ("10.0.0.1:443", ""),
        ("dns:///stepwire", ""),
        ("unix:socket", ""),
        ("[::1]", ""),
    ):
        refused = api.UnavailableError(REFUSED.message, code=REFUSED.code)
        assert FirstContact(3.0, Clock(), addresses=(address,)).judge(refused).advice == told
        final = FirstContact(0.0, Clock(), addresses=(address,)).judge(refused)
        assert isinstance(final, api.NotConnectedError)
        assert final.advice == told


def test_without_a_timeout_no_refusal_is_final() -> None:
    clock = Clock()
    assert given_up(FirstContact(None, clock), clock, 0.0, 2.0, 2.0, 2.0) == [False] * 4


@pytest.mark.parametrize("answer", [None, api.NotFoundError("no", reason="RUN_NOT_FOUND"), ANSWERED])
def test_what_has_answered_once_is_lost_and_not_absent(answer: api.StepwireError | None) -> None:
    clock = Clock()
    contact = FirstContact(0.0, clock)
    if answer is None:
        contact.made()
    else:
        assert contact.judge(answer) is answer
    assert given_up(contact, clock, 0.0, 1.0) == [False, False]


def test_a_connection_that_is_cut_is_no_refusal() -> None:
    clock = Clock()
    contact = FirstContact(0.0, clock)
    assert contact.judge(CUT) is CUT
    assert given_up(contact, clock, 0.0) == [True]


def test_a_negative_timeout_is_refused() -> None:
    with pytest.raises(ValueError, match="connect_timeout"):
        Client("127.0.0.1:1", connect_timeout=-1.0)


@pytest.fixture
def nowhere() -> Iterator[str]:
    """Yield an address that refuses connections for as long as the test lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


async def converse(run: Run) -> None:
    async with run.converse():
        pass


def converse_blocking(run: SyncRun) -> None:
    with run.converse():
        pass


@pytest.mark.parametrize(
    "use",
    [
        lambda run: run.info(),
        lambda run: run.result(),
        lambda run: run.context.store.set("a", 1),
        lambda run: run.context.wait_for_event("Tick"),
        lambda run: anext(run.events()),
        converse,
    ],
    ids=["read", "result", "write", "wait", "events", "converse"],
)
async def test_everything_says_that_there_is_no_server(nowhere: str, use: Callable[[Run], Awaitable[Any]]) -> None:
    async with Client(nowhere, timeout=600, reconnect_timeout=None, connect_timeout=0.0) as client:
        with pytest.raises(api.NotConnectedError, match=f"cannot connect to .*{nowhere}.*refused"):
            await use(client.run("r1"))


@pytest.mark.parametrize(
    "use",
    [lambda run: run.info(), lambda run: run.result(), lambda run: next(run.events()), converse_blocking],
    ids=["read", "result", "events", "converse"],
)
def test_everything_says_so_in_threads(nowhere: str, use: Callable[[SyncRun], Any]) -> None:
    with (
        SyncClient(nowhere, timeout=600, reconnect_timeout=None, connect_timeout=0.0) as client,
        pytest.raises(api.NotConnectedError),
    ):
        use(client.run("r1"))


async def test_a_server_that_has_answered_is_waited_for(server: FakeServer) -> None:
    batches = iter([events(1, 1), events(2, 2)])

    async def script(_: Any) -> AsyncIterator[Any]:
        yield next(batches)
        await forever()

    server.on("StreamEvents", script)
    async with Client(server.address, timeout=0.5, connect_timeout=0.0) as client:
        stream = client.run("r1").events()
        await anext(stream)
        await server.stop()
        with pytest.raises(api.UnavailableError) as caught:
            await client.get_run("r1")
        assert not isinstance(caught.value, api.NotConnectedError)
        event = asyncio.ensure_future(anext(stream))
        await server.start()
        assert api.event_meta(await event).sequence == 2
