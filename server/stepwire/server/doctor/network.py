"""Check the addresses, TLS, the export of traces, and the files that say who may call."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stepwire.server.auth import AccessFile, Authenticator
from stepwire.server.config import Settings
from stepwire.server.doctor.check import Check, ok, problem, warning
from stepwire.server.extras import how_to_install
from stepwire.server.registry import Registry
from stepwire.server.rpc import Certificates, TlsError, is_free, validity_of

_ANSWER_SECONDS = 3.0
_OTLP_PORT = 4317


def addresses(settings: Settings) -> Iterator[Check]:
    """Check that the addresses are free, or that a Stepwire server answers there."""
    yield _address(settings)
    if settings.admin_address is not None:
        yield _admin_address(settings.admin_address, settings.address)
    if settings.exposed and (settings.tls_cert is None or not settings.authenticates):
        missing = " and no ".join(
            text
            for text, there in (
                ("TLS", settings.tls_cert is not None),
                ("authentication", settings.authenticates),
            )
            if not there
        )
        advice = "check that the proxy in front of the server does it"
        yield warning("exposure", f"{settings.address} can be reached from other machines, with no {missing}", advice)


def _address(settings: Settings) -> Check:
    address = settings.address
    try:
        free = is_free(address)
    except OSError as error:
        return problem("address", f"{address}: {error.strerror or error}", "give an address of this machine: --address")
    if free:
        return ok("address", f"{address} is free")
    advice = "stop what listens there, or give another --address"
    if settings.tls_cert is not None:
        # Only a client with the right certificates could tell what it is.
        return warning("address", f"{address} is in use", f"see that it is the server: stepwire health; else {advice}")
    status = _health(address)
    if status is None:
        return problem("address", f"{address} is in use, and not by a server of Stepwire that answers", advice)
    if status != health_pb2.HealthCheckResponse.SERVING:
        advice = "its log says why: it is draining, or cannot write"
        return problem("address", f"the server at {address} answers, but is not serving", advice)
    return ok("address", f"a server answers at {address}: serving")


def _admin_address(address: str, clients: str) -> Check:
    if address == clients and not address.endswith(":0"):
        return problem("admin address", f"{address} is the clients' address, too", "give another --admin-address")
    try:
        free = is_free(address)
    except OSError as error:
        advice = "give an address of this machine: --admin-address"
        return problem("admin address", f"{address}: {error.strerror or error}", advice)
    message = f"{address} is {'free' if free else 'in use'}"
    return ok("admin address", message if free else f"{message}: by a server that runs, or by something else")


def traces(settings: Settings) -> Iterator[Check]:
    """Check that traces can be exported, and that something listens where they go."""
    if settings.otlp_endpoint is None:
        return
    try:
        import opentelemetry.exporter.otlp.proto.grpc.trace_exporter  # noqa: F401 - an optional dependency
    except ImportError as error:
        yield problem("traces", f"{error.name} is not installed", how_to_install("otel"))
        return
    url = urlsplit(settings.otlp_endpoint)
    try:
        with socket.create_connection((url.hostname or "", url.port or _OTLP_PORT), _ANSWER_SECONDS):
            yield ok("traces", f"something listens at {settings.otlp_endpoint}")
    except OSError as error:
        advice = "check the collector: calls go on without it, but spans are lost"
        yield warning("traces", f"{settings.otlp_endpoint}: {error.strerror or error}", advice)


def _health(address: str) -> int | None:
    with grpc.insecure_channel(_reachable(address)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_SECONDS)
        except grpc.RpcError:
            return None
        return int(answer.status)


def tls(settings: Settings) -> Iterator[Check]:
    """Check that the certificate fits its key, and how long it is valid."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        Certificates(settings.tls_cert, settings.tls_key, settings.client_ca).check()
    except TlsError as error:
        yield problem("tls", str(error), "give a certificate chain and its key, unencrypted, in PEM")
        return
    yield _expiry("tls", settings.tls_cert)
    if settings.client_ca is not None:
        yield _expiry("client ca", settings.client_ca)
    if _open_to_all(settings.tls_key):
        yield warning("tls key", f"{settings.tls_key} can be read by all users", f"chmod o-rwx {settings.tls_key}")


def _expiry(name: str, path: Path) -> Check:
    found = validity_of(path)
    if found.fault is not None:
        advice = "renew it: the server reads it again by itself" if found.expired else "check the clock, or wait"
        return problem(name, f"{path} {found.fault}", advice)
    if found.ends_soon:
        return warning(name, f"{path} expires soon, on {found.until}", "renew it: the server reads it again by itself")
    return ok(name, f"{path} is valid until {found.until}")


def access(settings: Settings, registry: Registry) -> Iterator[Check]:
    """Check the files that say who may call; if workflows are named, also that those in scopes are served."""
    if settings.api_keys is None and settings.jwks is None:
        return
    try:
        Authenticator(
            access=settings.api_keys, jwks=settings.jwks, issuer=settings.jwt_issuer, audience=settings.jwt_audience
        ).open()
    except OSError as error:
        yield problem("access", f"cannot read {error.filename}: {error.strerror}", "let the user of the server read it")
        return
    except ValueError as error:
        yield problem("access", str(error), "correct the file: SECURITY.md, Access")
        return
    if settings.api_keys is not None and _open_to_all(settings.api_keys, writing=True):
        advice = f"chmod o-w {settings.api_keys}"
        yield problem("access", f"{settings.api_keys} can be changed by all users of this machine", advice)
        return
    if settings.api_keys is not None and len(registry):
        allowed = AccessFile.parse(settings.api_keys.read_bytes()).workflows()
        if unserved := sorted(name for name in allowed if registry.get(name) is None):
            advice = "correct the scopes, or serve these workflows too"
            yield warning("access", f"{settings.api_keys} has scopes for {', '.join(unserved)}, not named here", advice)
            return
    yield ok("access", ", ".join(str(path) for path in (settings.api_keys, settings.jwks) if path is not None))


def _open_to_all(path: Path, *, writing: bool = False) -> bool:
    return os.name == "posix" and bool(path.stat().st_mode & (0o002 if writing else 0o004))


def _reachable(address: str) -> str:
    """Return an address to reach the server at, also if it listens on all addresses."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host == "0.0.0.0" else f"[::1]:{port}" if host in ("[::]", "::") else address
