"""Start, tell, cancel and answer runs of a family, here or at the replica that has them."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from stepwire.server.principal import Principal
from stepwire.server.rpc.peers.acting import Actor, Do
from stepwire.server.runs.errors import (
    PeerRefusedError,
    PeerSilentError,
    RunBlockedError,
    RunElsewhereError,
    RunNotFoundError,
    RunsError,
    StoreDownError,
)
from stepwire.server.runs.family.calls import FamilyCalls
from stepwire.server.runs.hosting.replicas.routes import Routes
from stepwire.server.runs.requests import Parent, StartRequest
from stepwire.server.scopes import Scopes
from stepwire.server.store import RunKey

__all__ = ["PeerCalls", "family_acts"]

_HOPS: Final = 3
"""Replicas that are asked one after the other, where each names the next one."""
_KNOWN: Final[dict[str, Callable[[str, str], RunsError]]] = {
    "RUN_NOT_FOUND": lambda _, run_id: RunNotFoundError(run_id),
    "RUN_BLOCKED": lambda message, run_id: RunBlockedError(message, run_id=run_id),
}
"""What a family tells apart, of what another replica refuses."""


class PeerCalls:
    """Do what a family does to other runs here, or at the replica that has the run."""

    def __init__(self, local: FamilyCalls, routes: Routes, actor: Actor) -> None:
        self._local = local
        self._routes = routes
        self._actor = actor
        self.own = ""
        """The address of this replica, which does itself what it is named for."""

    async def start(self, caller: Principal, request: StartRequest) -> None:
        """Start a child; return once it is durable."""
        key = caller.key(request.run_id)
        await self._carry(lambda: self._local.start(caller, request), key, "family.start", _start_told(caller, request))

    async def tell(self, parent: RunKey, child: str) -> None:
        """Tell a parent that a child has ended; return once it is durable that it knows."""
        given = {"parent": list(parent), "child": child}
        await self._carry(lambda: self._local.tell(parent, child), parent, "family.tell", given)

    async def cancel(self, caller: Principal, run_id: str, reason: str) -> None:
        """Cancel a run; return once that is durable."""
        given = {"caller": _caller_told(caller), "run_id": run_id, "reason": reason}
        key = caller.key(run_id)
        await self._carry(lambda: self._local.cancel(caller, run_id, reason), key, "family.cancel", given)

    async def answer(
        self, caller: Principal, run_id: str, type_name: str, data: bytes, request_id: str
    ) -> tuple[int, int]:
        """Send an event to a run; return its sequence there, and how many took it."""
        given = {
            "caller": _caller_told(caller),
            "run_id": run_id,
            "type_name": type_name,
            "data": base64.b64encode(data).decode(),
            "request_id": request_id,
        }

        async def act() -> tuple[int, int]:
            return await self._local.answer(caller, run_id, type_name, data, request_id)

        sequence, delivered = await self._carry(act, caller.key(run_id), "family.answer", given)
        return sequence, delivered

    async def send(
        self, caller: Principal, run_id: str, type_name: str, data: bytes, step: str, request_id: str
    ) -> None:
        """Send an event of its parent to a run, and to no child of it; return once it is durable that it has it."""
        given = {
            "caller": _caller_told(caller),
            "run_id": run_id,
            "type_name": type_name,
            "data": base64.b64encode(data).decode(),
            "step": step,
            "request_id": request_id,
        }

        async def act() -> None:
            await self._local.send(caller, run_id, type_name, data, step, request_id)

        await self._carry(act, caller.key(run_id), "family.send", given)

    async def _carry(self, act: Callable[[], Awaitable[Any]], key: RunKey, what: str, given: Mapping[str, Any]) -> Any:
        try:
            return await act()
        except RunElsewhereError as error:
            address, replica = error.address, error.replica
        for _ in range(_HOPS):
            if not address:
                break
            try:
                if address == self.own:
                    return await act()
                done = await self._actor.act(address, what, given, replica)
                self._routes.answered(key)
                return done
            except RunElsewhereError as error:
                self._routes.forget(key)
                address, replica = error.address, error.replica
            except PeerSilentError:
                self._routes.unanswered(key, replica)
                raise
            except StoreDownError:
                self._routes.forget(key)
                raise
            except PeerRefusedError as error:
                if (known := _KNOWN.get(error.code_reason)) is not None:
                    raise known(str(error), key.run_id) from None
                raise
        raise StoreDownError("The run moves from replica to replica; its family looks again")


def family_acts(local: FamilyCalls) -> dict[str, Do]:
    """Return what other replicas ask for, by its name."""

    async def start(
        caller: list[Any], parent: list[Any], input: str, from_run: list[Any] | None = None, **fields: Any
    ) -> None:
        run_id, step, delivery, close, chain = parent
        above = Parent(run_id, step, delivery, close, tuple(chain))
        before = None if from_run is None else (str(from_run[0]), int(from_run[1]))
        request = StartRequest(input=input.encode(), from_run=before, use_existing=True, parent=above, **fields)
        await local.start(_caller_of(caller), request)

    async def tell(parent: list[str], child: str) -> None:
        await local.tell(RunKey(*parent), child)

    async def cancel(caller: list[Any], run_id: str, reason: str) -> None:
        await local.cancel(_caller_of(caller), run_id, reason)

    async def answer(caller: list[Any], run_id: str, type_name: str, data: str, request_id: str) -> list[int]:
        return [*await local.answer(_caller_of(caller), run_id, type_name, base64.b64decode(data), request_id)]

    async def send(caller: list[Any], run_id: str, type_name: str, data: str, step: str, request_id: str) -> None:
        await local.send(_caller_of(caller), run_id, type_name, base64.b64decode(data), step, request_id)

    return {
        "family.start": start,
        "family.tell": tell,
        "family.cancel": cancel,
        "family.answer": answer,
        "family.send": send,
    }


def _caller_told(caller: Principal) -> list[Any]:
    return [caller.name, caller.namespace, list(caller.scopes)]


def _caller_of(told: list[Any]) -> Principal:
    name, namespace, scopes = told
    return Principal(name, namespace, Scopes(scopes))


def _start_told(caller: Principal, request: StartRequest) -> dict[str, Any]:
    assert request.parent is not None
    return {
        "caller": _caller_told(caller),
        "run_id": request.run_id,
        "workflow": request.workflow,
        "input": (request.input or b"").decode(),
        "labels": request.labels,
        "timeout": request.timeout,
        "from_run": request.from_run and list(request.from_run),
        "trace": request.trace,
        "parent": list(request.parent),
    }
