"""Ask at the address of each replica who answers there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import grpc

from stepwire.server.config import Settings
from stepwire.server.doctor.check import Check, ok, problem, warning
from stepwire.server.rpc import WHO, Answer, HopSigner, LinkSecurity, ask_over, key_of_file
from stepwire.server.wiring import link_security_of

if TYPE_CHECKING:
    from stepwire.server.store.postgres.inspection import DatabaseInspection, ReplicaInspection

_NAME = "advertise"
_OWN = "give each replica an --advertise of its own, at which the others reach it: docs/cluster.md"


def peer_addresses(found: DatabaseInspection, settings: Settings) -> Iterator[Check]:
    """Check that each living replica, and no other, answers at its address."""
    alive = [each for each in found.replicas if each.beat_age <= settings.lease]
    if not alive:
        return
    counts = Counter(each.address for each in alive)
    if shared := sorted(address for address, count in counts.items() if count > 1):
        yield problem(_NAME, f"several replicas have the same address: {', '.join(shared)}", _OWN)
        return
    try:
        key = found.cluster_key if settings.cluster_key is None else key_of_file(settings.cluster_key)
        security = link_security_of(settings)
        security.credentials()
    except (OSError, ValueError) as error:
        yield warning(_NAME, f"no replica was asked: {error}", "correct the file")
        return
    if key is None:
        yield warning(_NAME, "no replica was asked: their key is in a file", "give it: --cluster-key")
        return
    answers = asyncio.run(_ask_all(alive, HopSigner(key), security))
    yield _judged(alive, answers)


def _judged(replicas: Sequence[ReplicaInspection], answers: Sequence[Answer]) -> Check:
    wrong: list[str] = []
    silent: list[str] = []
    for each, answer in zip(replicas, answers, strict=True):
        if fault := answer.fault_for(each.id):
            (silent if answer.fault else wrong).append(f"replica {each.id} at {each.address}: {fault}")
    if wrong:
        return problem(_NAME, "; ".join(wrong + silent), _OWN)
    if silent:
        advice = "if the other replicas do not reach it either, they take its runs from it: see its --advertise"
        return warning(_NAME, "; ".join(silent), advice)
    return ok(_NAME, "each replica answers at its address")


async def _ask_all(replicas: Sequence[ReplicaInspection], signer: HopSigner, security: LinkSecurity) -> list[Answer]:
    credentials = security.credentials()

    async def one(address: str) -> Answer:
        if credentials is None:
            channel = grpc.aio.insecure_channel(address)
        else:
            channel = grpc.aio.secure_channel(address, credentials)
        async with channel:
            return await ask_over(channel.unary_unary(WHO), signer, address, security)

    return list(await asyncio.gather(*(one(each.address) for each in replicas)))
