"""TLS between replicas, and callers whose certificate ends at the replica that takes the call."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from tests.integration.cluster.conftest import FLOWS, Start
from tests.integration.cluster.test_operating import doctor
from tests.ports import free_port
from tests.system.security.test_tls import Authority

from stepwire.v1 import run_service_pb2 as pb
from stepwire.v1 import run_service_pb2_grpc, types_pb2


async def test_the_identity_of_a_certificate_travels_between_replicas(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("replica", dns="localhost")
    access = tmp_path / "access.toml"
    access.write_text('[[certificates]]\nsubject = "ann"\nname = "ann"\nnamespace = "team"\nscopes = ["write"]\n')
    tls = ["--tls-cert", cert, "--tls-key", key, "--client-ca", authority.cert, "--api-keys", access]
    addresses, database = [], None
    replicas = []
    for _ in range(2):
        address = f"localhost:{free_port()}"
        (made,), database = start(1, ["--address", address, "--advertise", address, *map(str, tls)])
        addresses.append(address)
        replicas.append(made)
    assert database is not None

    ann_cert, ann_key = authority.issue("ann")
    credentials = grpc.ssl_channel_credentials(authority.cert.read_bytes(), ann_key.read_bytes(), ann_cert.read_bytes())
    async with (
        grpc.aio.secure_channel(addresses[0], credentials) as one,
        grpc.aio.secure_channel(addresses[1], credentials) as other,
    ):
        here, there = (run_service_pb2_grpc.RunServiceStub(channel) for channel in (one, other))
        run_id = (await here.StartRun(pb.StartRunRequest(workflow="chat"))).run.run_id
        assert database.owner_of(run_id) == addresses[0]
        event = types_pb2.Event(type="Note", payload=types_pb2.Payload(json=b'{"n": 1}'))
        assert (await there.SendEvent(pb.SendEventRequest(run_id=run_id, event=event))).delivered == 1
        # The commits come from there, too.
        async for frame in there.StreamEvents(pb.StreamEventsRequest(run_id=run_id)):
            if any(entry.type == "Pong" for entry in frame.events.entries):
                break
        assert database.sql(f"SELECT namespace FROM runs WHERE run_id = '{run_id}'") == "team"

    # Each of them, and doctor, can ask who answers at an address.
    asked = (*FLOWS, "--data", database.dsn, "--address", "127.0.0.1:0")
    _, checks = await asyncio.to_thread(doctor, *asked, *tls)
    assert checks["advertise"]["status"] == "ok", checks["advertise"]
    _, checks = await asyncio.to_thread(doctor, *asked)
    assert checks["advertise"]["status"] == "warning", "asked without TLS"
    wrong_key = tmp_path / "another.key"
    wrong_key.write_text("0123456789abcdef" * 4)
    wrong_key.chmod(0o600)
    _, checks = await asyncio.to_thread(doctor, *asked, *tls, "--cluster-key", wrong_key)
    assert "does not take the signature" in checks["advertise"]["message"]
    assert "is not reached" not in "".join(each.log for each in replicas)
    assert "does not reach itself" not in "".join(each.log for each in replicas)

    # The replica's own certificate identifies no caller.
    replica = grpc.ssl_channel_credentials(authority.cert.read_bytes(), key.read_bytes(), cert.read_bytes())
    async with grpc.aio.secure_channel(addresses[1], replica) as channel:
        stub = run_service_pb2_grpc.RunServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.SendEvent(pb.SendEventRequest(run_id=run_id, event=event))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_replica_that_cannot_verify_the_others_takes_none_of_their_runs_and_tells(
    start: Start, tmp_path: Path
) -> None:
    authority, wrong = Authority(tmp_path), Authority(tmp_path, "wrong")
    cert, key = authority.issue("replica", dns="localhost")
    replicas, database = [], None
    for ca in (authority, authority, wrong):
        address = f"localhost:{free_port()}"
        tls = ["--tls-cert", str(cert), "--tls-key", str(key), "--peer-ca", str(ca.cert), "--lease", "1s"]
        (made,), database = start(1, ["--address", address, "--advertise", address, *tls])
        replicas.append(made)
    assert database is not None
    fault = r"its certificate is not accepted: no CA that this replica trusts has signed it"
    for number, each in enumerate(replicas[:2], 1):
        told = (
            rf"replica {number} beats, but is not reached at {each.address}: {fault} .*Its runs are not taken from it"
        )
        await asyncio.to_thread(replicas[2].hear, told)

    credentials = grpc.ssl_channel_credentials(authority.cert.read_bytes())
    async with (
        grpc.aio.secure_channel(replicas[0].address, credentials) as one,
        grpc.aio.secure_channel(replicas[2].address, credentials) as other,
    ):
        here, there = (run_service_pb2_grpc.RunServiceStub(channel) for channel in (one, other))
        run_id = (await here.StartRun(pb.StartRunRequest(workflow="chat"))).run.run_id
        event = types_pb2.Event(type="Note", payload=types_pb2.Payload(json=b'{"n": 1}'))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await there.SendEvent(pb.SendEventRequest(run_id=run_id, event=event))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "is not reached from this one, and this replica reaches none of the others" in str(
            refused.value.details()
        )
        assert database.owner_of(run_id) == replicas[0].address
        # The others reach that one, and each other.
        run_id = (await there.StartRun(pb.StartRunRequest(workflow="chat"))).run.run_id
        assert (await here.SendEvent(pb.SendEventRequest(run_id=run_id, event=event))).delivered == 1
    assert "by force" not in "".join(each.log for each in replicas)
    asked = (*FLOWS, "--data", database.dsn, "--address", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)
    _, checks = await asyncio.to_thread(doctor, *asked, "--peer-ca", wrong.cert)
    assert f"replica 1 at {replicas[0].address}: its certificate is not accepted" in checks["advertise"]["message"]
    _, checks = await asyncio.to_thread(doctor, *asked, "--peer-ca", authority.cert)
    assert checks["advertise"]["status"] == "ok"


async def test_replicas_with_different_keys_tell_and_call_nobody_unauthenticated(start: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("replica", dns="localhost")
    access = tmp_path / "access.toml"
    access.write_text('[[certificates]]\nsubject = "ann"\nname = "ann"\nnamespace = "team"\nscopes = ["write"]\n')
    files = []
    for name in ("old", "new"):
        files.append(tmp_path / f"{name}.key")
        files[-1].write_text(name * 16)
        files[-1].chmod(0o600)
    tls = ["--tls-cert", cert, "--tls-key", key, "--client-ca", authority.cert, "--api-keys", access, "--lease", "1s"]
    replicas, database = [], None
    addresses = [f"localhost:{free_port()}" for _ in range(2)]
    for address, file in zip(addresses, files, strict=True):
        (made,), database = start(
            1, ["--address", address, "--advertise", address, "--cluster-key", str(file), *map(str, tls)]
        )
        replicas.append(made)
    assert database is not None
    for each, number, address in ((replicas[0], 2, addresses[1]), (replicas[1], 1, addresses[0])):
        told = rf"replica {number} beats, but is not reached at {address}: .*another --cluster-key"
        await asyncio.to_thread(each.hear, told)
    ann_cert, ann_key = authority.issue("ann")
    credentials = grpc.ssl_channel_credentials(authority.cert.read_bytes(), ann_key.read_bytes(), ann_cert.read_bytes())
    event = types_pb2.Event(type="Note", payload=types_pb2.Payload(json=b'{"n": 1}'))
    async with (
        grpc.aio.secure_channel(addresses[0], credentials) as one,
        grpc.aio.secure_channel(addresses[1], credentials) as other,
    ):
        here, there = (run_service_pb2_grpc.RunServiceStub(channel) for channel in (one, other))
        run_id = (await here.StartRun(pb.StartRunRequest(workflow="chat"))).run.run_id
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await there.SendEvent(pb.SendEventRequest(run_id=run_id, event=event))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "either of the two may have the wrong certificate, --peer-ca or --cluster-key" in str(
            refused.value.details()
        )
        assert database.owner_of(run_id) == addresses[0]
