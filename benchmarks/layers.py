"""The layers of a server, by the files and modules of their code."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

__all__ = ["LAYERS", "NATIVE", "REST", "layer_of_file", "layer_of_function"]

NATIVE: Final = "gRPC and event loop, native"
"""What runs while no function of Python does, on the thread of the event loop."""
REST: Final = "standard library"

_FILES: Final = {
    "/grpc/": "gRPC",
    "/asyncio/runners": NATIVE,
    "/asyncio/": "event loop",
    "/google/": "protobuf",
    "/server/rpc/gate/": "gate",
    "/server/rpc/tracing": "gate",
    "/server/rpc/": "services, conversion",
    "/server/runs/hosting/": "hosting, commits",
    "/server/runs/log/": "log, feed",
    "/server/runs/": "runs",
    "/server/store/": "store",
    "/server/telemetry/": "telemetry",
    "/server/web/": "web",
    "/uvicorn/": "web",
    "/workflow/broker/": "broker",
    "/workflow/runner/": "runner",
    "/workflow/codec/": "codec",
    "/workflow/": "context, state, events",
    "/pydantic/": "pydantic",
    "/benchmarks/": "the author's code",
}
_MODULES: Final = {
    "pydantic_core._pydantic_core": "pydantic",
    "google._upb._message": "protobuf",
    "sqlite3": "SQLite",
    "_queue": "hand-overs between threads",
    "_thread": "hand-overs between threads",
}
LAYERS: Final = (*dict.fromkeys((*_FILES.values(), *_MODULES.values())), REST)


@cache
def layer_of_file(file: str) -> str:
    """Return the layer of a module's file."""
    return next((name for part, name in _FILES.items() if part in file), REST)


def layer_of_function(function: Any) -> str | None:
    """Return the layer of a function of C; None for one that belongs to its caller's layer."""
    owner = getattr(function, "__self__", None)
    module = getattr(function, "__module__", None) or type(owner).__module__
    return _MODULES.get(module)
