"""`stepwire health`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import grpc
import typer

from stepwire.cli._arguments import DEFAULT_SERVER, Json, Server
from stepwire.cli._credentials import credentials
from stepwire.cli._exit_codes import ERROR
from stepwire.cli._help import examples
from stepwire.cli.render.terminal import Output
from stepwire.cli.render.text import clean
from stepwire.client import TlsConfig
from stepwire.server.extras import not_installed

__all__ = ["register"]

CONNECT_TIMEOUT = 1.0
ANSWER_TIMEOUT = 5.0
"""Seconds: a server that is not there should be told soon, one that is busy deserves patience."""

_NO_STATUS = {grpc.StatusCode.DEADLINE_EXCEEDED: "UNREACHABLE", grpc.StatusCode.NOT_FOUND: "UNKNOWN_SERVICE"}

_ADVICE = {
    "UNREACHABLE": "nothing answers at {server}: stepwire serve starts a server, --server names another one, --timeout"
    " waits longer; a server that hangs takes connections and must be started again",
    "NOT_SERVING": "{server} stops, has just started, or cannot write: its log says why, and stepwire doctor on its"
    " machine",
    "UNKNOWN_SERVICE": "{server} has no service of that name: stepwire.v1.RunService is one; without --service it is"
    " asked as a whole",
    "UNIMPLEMENTED": "what answers at {server} has no health service: is it a Stepwire server?",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog=examples(
            "stepwire health",
            "stepwire health --service stepwire.v1.RunService --server orders.internal:50051 --ca ca.crt",
        )
    )(health)


def health(
    service: Annotated[
        str, typer.Option(metavar="NAME", help="The service to ask for. Default: the server as a whole.")
    ] = "",
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="How long to wait for a server that is not there yet, or does not answer."
            f" Default: {CONNECT_TIMEOUT:g} to connect, {ANSWER_TIMEOUT:g} for the answer.",
            show_default=False,
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(envvar="STEPWIRE_CA", metavar="FILE", help="Roots (PEM) to trust: speak TLS.", show_default=False),
    ] = None,
    cert: Annotated[
        Path | None,
        typer.Option(
            envvar="STEPWIRE_CERT", metavar="FILE", help="This client's certificate (PEM).", show_default=False
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(envvar="STEPWIRE_KEY", metavar="FILE", help="The key (PEM) of --cert.", show_default=False),
    ] = None,
    server_name: Annotated[
        str | None,
        typer.Option(
            envvar="STEPWIRE_SERVER_NAME",
            metavar="NAME",
            help="The name to find in the server's certificate instead of the address.",
            show_default=False,
        ),
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: Json = False,
) -> None:
    """Ask a server whether it serves.

    For probes: exits with 0 when it serves, with 1 when not. Calls grpc.health.v1, which needs no token.
    """
    output = Output(json=as_json)
    given = {"STEPWIRE_CA": ca, "STEPWIRE_CERT": cert, "STEPWIRE_KEY": key, "STEPWIRE_SERVER_NAME": server_name}
    tls = credentials({**os.environ, **{name: str(value) for name, value in given.items() if value is not None}})[1]
    try:
        status = _status(server, tls, service, timeout)
    except ModuleNotFoundError as error:
        output.note(f"error: {not_installed(error, 'server')}", style="red")
        raise typer.Exit(ERROR) from None
    except (ValueError, OSError) as error:  # unreadable files, or a certificate without its key
        output.note(f"error: {clean(str(error), keep='')}", style="red")
        raise typer.Exit(ERROR) from None
    if as_json:
        output.record({"status": status, "service": service})
    else:
        output.text(status)
    if status in _ADVICE and not as_json:
        output.note(f"  {_ADVICE[status].format(server=server)}")
    if status != "SERVING":
        raise typer.Exit(ERROR)


def _status(server: str, tls: TlsConfig | None, service: str, timeout: float | None) -> str:
    """Return the status that the server reports, or why there is none."""
    from grpc_health.v1 import health_pb2  # of the extra `server`

    with _channel(server, tls) as channel:
        if timeout is None:
            ready = grpc.channel_ready_future(channel)
            try:
                ready.result(CONNECT_TIMEOUT)
            except grpc.FutureTimeoutError:
                return "UNREACHABLE"
            finally:
                ready.cancel()
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            # A server that is starting already listens, and answers when it is ready.
            response = check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout or ANSWER_TIMEOUT, wait_for_ready=True
            )
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return _NO_STATUS.get(code, code.name)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)


def _channel(server: str, tls: TlsConfig | None) -> grpc.Channel:
    """Open a channel that connects again soon after it was refused."""
    options: list[tuple[str, object]] = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.enable_retries", 0)]
    options.append(("grpc.max_reconnect_backoff_ms", 500))
    if tls is None:
        return grpc.insecure_channel(server, options)
    if tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return grpc.secure_channel(server, tls.credentials(), options)
