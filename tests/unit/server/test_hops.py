"""The signature of what goes between replicas, and the frames of the commits that one sends another."""

from __future__ import annotations

import base64
import json

import pytest

from stepwire.server.rpc.peers.frames import Frame, FrameReader, FrameWriter
from stepwire.server.rpc.peers.hop import HEADER, Hop, HopSigner
from stepwire.server.store import Chunk, RunKey, RunRecord

METHOD = "/stepwire.v1.RunService/SendEvent"


def test_a_header_is_valid_for_its_method_its_key_and_half_a_minute() -> None:
    now = [1000.0]
    one, other = HopSigner(b"k" * 32, lambda: now[0]), HopSigner(b"k" * 32, lambda: now[0])
    header = one.sign(METHOD, ("CN=ann",))
    assert other.verify([("x", "y"), header], METHOD) == Hop(("CN=ann",))
    assert other.verify([header], METHOD) == Hop(("CN=ann",))
    assert other.verify([header], "/stepwire.v1.RunService/CancelRun") is None
    assert HopSigner(b"j" * 32, lambda: now[0]).verify([header], METHOD) is None
    assert other.verify([], METHOD) is None
    now[0] = 1029.0
    assert other.verify([header], METHOD) is not None
    now[0] = 1031.0
    assert other.verify([header], METHOD) is None
    now[0] = 960.0
    assert other.verify([header], METHOD) is None


def test_a_header_is_made_anew_every_second() -> None:
    now = [1000.0]
    signer = HopSigner(b"k" * 32, lambda: now[0])
    first = signer.sign(METHOD)
    now[0] = 1000.9
    assert signer.sign(METHOD) == first
    now[0] = 1001.1
    assert signer.sign(METHOD) != first


@pytest.mark.parametrize("value", ["", ".", "a.b", "e30=.", "é.x", "W10=." + "0" * 64])
def test_nonsense_is_no_header(value: str) -> None:
    assert HopSigner(b"k" * 32).verify([(HEADER, value)], METHOD) is None


def test_an_altered_header_is_refused() -> None:
    signer = HopSigner(b"k" * 32)
    name, value = signer.sign(METHOD, ("ann",))
    text, _, digest = value.partition(".")
    says = json.loads(base64.urlsafe_b64decode(text))
    says[2] = ["root"]
    forged = base64.urlsafe_b64encode(json.dumps(says, separators=(",", ":")).encode()).decode()
    assert signer.verify([(name, f"{forged}.{digest}")], METHOD) is None


def test_a_second_key_is_accepted_while_the_key_is_changed() -> None:
    old, new = b"o" * 32, b"n" * 32
    both = HopSigner(old, accepted=[new])
    for signer in (HopSigner(old), HopSigner(new), both):
        assert both.verify([signer.sign(METHOD)], METHOD) == Hop()
    assert HopSigner(old).verify([both.sign(METHOD)], METHOD) == Hop()
    assert HopSigner(new).verify([both.sign(METHOD)], METHOD) is None
    assert both.verify([HopSigner(b"x" * 32).sign(METHOD)], METHOD) is None


def record(**fields: object) -> RunRecord:
    values: dict[str, object] = {"workflow": "w", "status": "RUNNING", "created_at": 1.0, "updated_at": 2.0}
    return RunRecord(key=RunKey("default", "r"), **{**values, **fields})  # type: ignore[arg-type]


def test_frames_come_back_equal_and_leave_out_what_stays() -> None:
    writer, reader = FrameWriter(), FrameReader()
    question = {3: {"waiter_id": "q", "prompt": "x" * 500}}
    first = Frame(
        record(info={"version": "1", "text": "y" * 500}, pending=question),
        (Chunk(1, 2, b"public", None), Chunk(3, 3, b"", b"internal")),
        {"request": {"sequence": 1}},
    )
    data = writer.write(first)
    assert reader.read(data) == first
    second = Frame(record(info={"version": "1", "text": "y" * 500}, pending=question, last_sequence=4))
    shorter = writer.write(second)
    assert len(shorter) < len(data) / 3
    assert reader.read(shorter) == second
    third = Frame(record(info={"version": "1"}, pending={}, last_sequence=5))
    assert reader.read(writer.write(third)) == third
    assert reader.read(writer.write(Frame(None, left=True))) == Frame(None, left=True)


def test_a_frame_of_a_later_version_is_read() -> None:
    head = json.dumps({"left": True, "more": [1, 2]}).encode()
    assert FrameReader().read(len(head).to_bytes(4, "big") + head) == Frame(None, left=True)
