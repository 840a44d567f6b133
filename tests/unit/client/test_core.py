"""The parts of the client without a transport."""

from __future__ import annotations

import copy
import gc
import inspect
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from pydantic import BaseModel
from tests.unit.client.fake import Fault, entry

from stepwire import client as api
from stepwire.client import aio, sync
from stepwire.client._core.backoff import Backoff
from stepwire.client._core.channel import SEVERAL_KEEPALIVE, Endpoint, is_local
from stepwire.client._core.event_types import EventTypes, encode_event
from stepwire.client._core.payload import to_json_bytes
from stepwire.client._core.reconnect import is_connection_loss
from stepwire.client._core.replicas import Replicas
from stepwire.client._core.retry import Attempts
from stepwire.client._core.side_table import SideTable
from stepwire.client._core.status import from_rpc_error, from_status
from stepwire.server import listener
from stepwire.v1 import types_pb2
from stepwire.workflow.events import Event, HumanResponseEvent, StopEvent


class Tick(BaseModel):
    n: int = 0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def full(low: float, high: float) -> float:
    return high


def test_backoff_doubles_up_to_its_limit() -> None:
    backoff = Backoff(full)
    assert [backoff.next() for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    backoff.reset()
    assert backoff.next() == 0.1
    assert backoff.next(api.UnavailableError("", retry_after=9)) == 9
    assert Backoff(lambda low, high: low).next() == 0.05


def test_a_server_that_is_down_is_asked_each_second() -> None:
    backoff = Backoff(full)
    error = api.UnavailableError("cannot connect to ipv4:127.0.0.1:1: Connection refused (111)")
    assert [backoff.next(error) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0]
    assert dict(endpoint().options())["grpc.max_reconnect_backoff_ms"] == 1000


def test_backoff_of_a_very_long_outage() -> None:
    backoff = Backoff(full)
    assert {backoff.next() for _ in range(3000)} >= {5.0}


def test_attempts_share_one_budget() -> None:
    clock = Clock()
    attempts = Attempts(10, safe=True, clock=clock, backoff=Backoff(full))
    assert attempts.timeout() == 10
    clock.now += 4
    assert attempts.delay_after(api.UnavailableError("")) == 0.1
    assert attempts.timeout() == 6
    clock.now += 5.95
    with pytest.raises(api.UnavailableError):
        attempts.delay_after(api.UnavailableError(""))


def limits(addresses: int, budget: float, *, safe: bool = True) -> list[float]:
    """Return how long each attempt may take at replicas that do not answer."""
    clock = Clock()
    attempts = Attempts(budget, safe=safe, clock=clock, addresses=addresses, uniform=full)
    silence = api.DeadlineError("", code=grpc.StatusCode.DEADLINE_EXCEEDED)
    found: list[float] = []
    try:
        while True:
            found.append(attempts.timeout())
            clock.now += found[-1]
            clock.now += attempts.delay_after(silence)
    except api.DeadlineError:
        pass
    return found


def test_a_replica_that_does_not_answer_is_left_after_a_few_seconds() -> None:
    assert limits(1, 30) == [30]
    assert limits(2, 30) == [5, 25]
    # A call that takes long itself gets the most of the time: three attempts are all, however many addresses there are.
    assert limits(3, 30) == limits(9, 30) == [5, 10, 15]
    assert limits(3, 4) == [2, 1, 1]
    assert limits(2, 0.5) == [0.5]
    assert limits(2, 30, safe=False) == [30]


def test_clients_do_not_leave_a_slow_replica_all_at_once() -> None:
    first = [Attempts(30, safe=True, addresses=2).timeout() for _ in range(200)]
    assert 3 <= min(first) < 3.5
    assert 4.5 < max(first) <= 5


def test_what_was_not_sent_goes_to_an_untried_address_even_if_a_repeat_does_harm() -> None:
    error = api.UnavailableError("cannot connect to ipv4:127.0.0.1:1: refused", code=grpc.StatusCode.UNAVAILABLE)
    attempts = Attempts(30, safe=False, addresses=2)
    assert attempts.delay_after(error) == 0
    with pytest.raises(api.UnavailableError):
        attempts.delay_after(error)
    with pytest.raises(api.UnavailableError, match="cut"):
        Attempts(30, safe=False, addresses=2).delay_after(api.UnavailableError("cut"))
    with pytest.raises(api.UnavailableError):
        Attempts(30, safe=False).delay_after(error)


def test_all_runs_of_an_address_that_failed_are_looked_for_elsewhere() -> None:
    replicas = Replicas(["a:1", "b:1", "c:1"])
    for run, owner in (("r1", "b:1"), ("r2", "b:1"), ("r3", "c:1")):
        replicas.heard(run, [("stepwire-owner", owner)])
    replicas.failed("r1", 1)
    assert [replicas.pick(run) for run in ("r1", "r2", "r3")] == [0, 0, 2]


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_code_has_an_error(code: grpc.StatusCode) -> None:
    error = from_status(Fault(code, "WHY", retry="no").status)
    assert (error.code, error.reason, error.metadata) == (code, "WHY", {"retry": "no"})
    plain = {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}
    assert (type(error) is api.StepwireError) == (code in plain)


def test_info_of_another_domain_is_not_ours() -> None:
    fault = Fault(grpc.StatusCode.NOT_FOUND, "WHY")
    info = fault.status.details[0]
    info.value = info.value.replace(b"stepwire", b"elsewher")
    assert from_status(fault.status).reason == ""


def test_generic_event() -> None:
    event = api.GenericEvent("Tick", n=1, step="field", items=[2])
    assert (event.type, event.n, event["n"], event.get("m", 5)) == ("Tick", 1, 1, 5)
    assert event.step == "field"
    assert dict(event) == event.to_dict() == {"n": 1, "step": "field", "items": [2]}
    assert event["items"] == [2]
    assert "n" in event
    assert bool(api.GenericEvent("Tick"))
    assert event != api.GenericEvent("Tock", n=1, step="field", items=[2])
    assert copy.deepcopy(event) == event
    with pytest.raises(AttributeError, match="event Tick has no field m"):
        _ = event.m
    with pytest.raises(ValueError, match="not received"):
        api.event_meta(event)
    assert encode_event(api.GenericEvent.of("A", {"type": "field"})).payload.json == b'{"type":"field"}'


def test_metadata_of_events() -> None:
    fields: dict[str, Any] = {"kind": types_pb2.ENTRY_KIND_SENT, "role": types_pb2.EVENT_ROLE_INPUT_REQUIRED}
    received = entry(7, json=b'{"step":"field"}', step="a", delivered=2, **fields)
    received.time.FromDatetime(datetime(2025, 1, 1, tzinfo=UTC))
    event = EventTypes().decode(received)
    expected = api.EventMeta(
        "Tick", 7, datetime(2025, 1, 1, tzinfo=UTC), api.EntryKind.SENT, api.EventRole.INPUT_REQUIRED, "a", 2
    )
    assert api.event_meta(event) == event.meta == expected
    assert (event.step, event["step"], event.sequence, event.role) == ("a", "field", 7, "input_required")


def test_metadata_of_a_callers_class() -> None:
    events = [EventTypes([Tick]).decode(entry(n)) for n in range(1, 4)]
    assert [api.event_meta(event).sequence for event in events] == [1, 2, 3]
    assert events[0] == Tick()
    assert events[0].model_dump() == {"n": 0}
    with pytest.raises(ValueError, match="not received"):
        api.event_meta(events[0].model_copy())


def test_a_side_table_forgets_with_the_owner() -> None:
    table: SideTable[int] = SideTable()
    owners = [Tick(), Tick(), Tick()]
    for number, owner in enumerate(owners):
        table.put(owner, number)
    assert [table.get(owner) for owner in owners] == [0, 1, 2]
    assert table.get(Tick()) is None
    del owner
    del owners[1:]
    gc.collect()
    assert len(table) == 1
    table.put(owners[0], 7)
    assert table.get(owners[0]) == 7
    owners.clear()
    gc.collect()
    assert len(table) == 0


def test_what_can_be_sent() -> None:
    assert encode_event(Tick(n=1)).type == "Tick"
    assert encode_event(("Tick", {"n": Tick(n=2)})).payload.json == b'{"n":{"n":2}}'
    with pytest.raises(TypeError):
        encode_event("Tick")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Unable to serialize"):
        encode_event(("Tick", {"n": object()}))


class Answer(HumanResponseEvent):
    data: bytes
    about: Event


def test_events_of_the_engine_go_there_and_back() -> None:
    answer = Answer(data=b"\xff\x00", about=StopEvent(result=1), who="me")
    message = encode_event(answer)
    assert message.type == "Answer"
    assert message.payload.json == b'{"data":"_wA=","about":{"result":1},"who":"me"}'
    back = EventTypes([Answer]).decode(entry(3, "Answer", message.payload.json))
    assert isinstance(back, Answer)
    assert (back.data, back.who, back.about.result) == (b"\xff\x00", "me", 1)
    assert api.event_meta(back).sequence == 3


@pytest.mark.parametrize(
    ("message", "code", "reason", "lost"),
    [
        ("", grpc.StatusCode.UNAVAILABLE, "DRAINING", True),
        ("", grpc.StatusCode.CANCELLED, "", True),
        ("Internal error from Core", grpc.StatusCode.INTERNAL, "", True),
        ("Received RST_STREAM with error code 2", grpc.StatusCode.INTERNAL, "", True),
        ("Received RST_STREAM with error code 11", grpc.StatusCode.RESOURCE_EXHAUSTED, "", True),
        ("", grpc.StatusCode.INTERNAL, "", True),
        ("", grpc.StatusCode.UNKNOWN, "", True),
        ("", grpc.StatusCode.DEADLINE_EXCEEDED, "", True),
        ("Internal error from Core", grpc.StatusCode.INTERNAL, "INTERNAL", False),
        ("", grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", False),
        ("", grpc.StatusCode.DATA_LOSS, "", False),
        ("", grpc.StatusCode.NOT_FOUND, "", False),
        ("Received message larger than max (5 vs. 4)", grpc.StatusCode.RESOURCE_EXHAUSTED, "", False),
        ("Exception deserializing response!", grpc.StatusCode.INTERNAL, "", False),
    ],
)
def test_what_counts_as_a_lost_connection(message: str, code: grpc.StatusCode, reason: str, lost: bool) -> None:
    assert is_connection_loss(api.StepwireError(message, code=code, reason=reason)) is lost


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:9: "
            "Failed to connect to remote host: Connection refused",
            "cannot connect to ipv4:127.0.0.1:9: Connection refused",
        ),
        (
            "failed to connect to all addresses; last error: Ssl handshake failed",
            "cannot connect: Ssl handshake failed",
        ),
        ("Socket closed", "Socket closed"),
    ],
)
def test_why_there_is_no_connection_is_said_plainly(told: str, expected: str) -> None:
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), told)
    assert from_rpc_error(error).message == expected


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("localhost:1", True),
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("dns:///localhost:1", True),
        ("ipv4:127.0.0.1:1", True),
        ("unix:/run/x.sock", True),
        ("example.com:1", False),
        ("localhost.example.com:1", False),
        ("10.0.0.1:1", False),
        ("dns:///example.com:1", False),
    ],
)
def test_local_addresses(address: str, local: bool) -> None:
    assert is_local(address) is local


def endpoint(address: str = "example.com:1", **settings: Any) -> Endpoint:
    return Endpoint.of(address, **{"token": None, "tls": None, "keepalive": None, **settings})


def test_a_token_does_not_leave_unencrypted_by_accident() -> None:
    with pytest.raises(ValueError, match="unencrypted"):
        endpoint(token="t")
    assert endpoint(token="t", tls=False).tls is None
    assert endpoint(token="t", tls=True).tls == api.TlsConfig()
    assert endpoint("localhost:1", token="t").metadata() == (("authorization", "Bearer t"),)


def test_keepalive_is_not_too_eager() -> None:
    with pytest.raises(ValueError, match="at least 10 s"):
        endpoint(keepalive=9.9)
    options = dict(endpoint(keepalive=10).options())
    assert options["grpc.keepalive_time_ms"] == 10_000
    assert "grpc.keepalive_time_ms" not in dict(endpoint().options())


def test_a_client_with_several_addresses_notices_soon_that_a_connection_is_silent() -> None:
    one = dict(endpoint(keepalive=30).options())
    several = dict(endpoint("a.example:1,b.example:1", keepalive=30).options())
    assert one["grpc.keepalive_time_ms"] == 30_000
    assert several["grpc.keepalive_time_ms"] == 3000
    assert several["grpc.http2.ping_timeout_ms"] == several["grpc.keepalive_timeout_ms"] == 5000
    # A hung server's kernel takes connections.
    assert (one["grpc.min_reconnect_backoff_ms"], several["grpc.min_reconnect_backoff_ms"]) == (5000, 3000)
    assert "grpc.keepalive_time_ms" not in dict(endpoint("a.example:1,b.example:1").options())
    # gRPC's server ends connections that ping more often than it allows.
    assert listener._PING_MILLISECONDS < SEVERAL_KEEPALIVE * 1000


@pytest.mark.parametrize("address", ["", "http://127.0.0.1:50051", "https://example.com"])
def test_an_address_is_no_url(address: str) -> None:
    with pytest.raises(ValueError, match="address must be HOST:PORT"):
        endpoint(address)


@pytest.mark.parametrize("value", [{"fine": 1, "bad": object()}, Event(fine=1, bad=object())])
def test_what_has_no_json_form_is_named_and_not_shown(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^bad: Unable to serialize unknown type: ") as caught:
        to_json_bytes(value)
    assert "fine" not in str(caught.value)
    with pytest.raises(ValueError, match=r"^Unable to serialize"):
        to_json_bytes([object()])


def test_tls_needs_cert_and_key() -> None:
    with pytest.raises(ValueError, match="both cert and key"):
        api.TlsConfig(cert=b"x").credentials()


@pytest.mark.parametrize("name", ["Client", "Run", "Context", "Store", "Conversation"])
def test_both_clients_have_the_same_surface(name: str) -> None:
    ours, theirs = getattr(aio, name), getattr(sync, f"Sync{name}")

    def surface(cls: type) -> dict[str, list[tuple[str, Any, Any]]]:
        return {
            key: [(p.name, p.kind, p.default) for p in inspect.signature(value).parameters.values()]
            for key, value in vars(cls).items()
            if callable(value) and (not key.startswith("_") or key == "__init__")
        }

    assert surface(ours) == surface(theirs)
