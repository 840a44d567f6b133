"""ServerService: what a server tells about itself, and about who calls."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from tests.integration.rpc_flows import Echo
from tests.integration.rpc_serving import registry_of, serving
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.client import Client, PermissionDeniedError, UnauthenticatedError
from stepwire.server.config import Settings
from stepwire.server.config_table import rows, told


def key_of(file: Path, name: str, *scopes: str, more: Sequence[str] = ()) -> str:
    wanted = [part for scope in scopes for part in ("--scope", scope)]
    made = CliRunner().invoke(app, ["keys", "new", name, *wanted, *more, "--file", str(file)])
    assert made.exit_code == 0, made.output
    return made.stdout.strip()


async def test_without_authentication_everyone_is_told(tmp_path: Path) -> None:
    before = time.time()
    async with serving(registry_of(echo=Echo), str(tmp_path), grace=3.0) as rpc, Client(rpc.server.address) as client:
        info, me = await client.server(), await client.who_am_i()
        assert (me.principal, me.namespaces, me.scopes, me.expires_at) == ("anonymous", ("default",), ("admin",), None)
        assert (info.store, info.replicas, info.unready, info.authenticates) == ("sqlite", 1, "", False)
        assert info.version
        assert info.started_at is not None
        assert info.time is not None
        assert before - 1 <= info.started_at.timestamp() <= info.time.timestamp()
        assert (info.settings["grace"], info.settings["max_runs"], info.settings["retention_age"]) == ("3s", "", "")
        assert info.settings["failure_detail"] == "message"


async def test_a_caller_is_told_what_its_credential_is_worth(tmp_path: Path) -> None:
    file = tmp_path / "access.toml"
    desk = key_of(file, "desk", "answer:echo", "read:echo", more=("--namespace", "shop", "--expires", "1d"))
    answerer, nobody = key_of(file, "staff", "answer"), new_nobody(file)
    async with serving(registry_of(echo=Echo), str(tmp_path / "data"), api_keys=file) as rpc:
        async with Client(rpc.server.address, token=desk) as client:
            me = await client.who_am_i()
            assert (me.principal, me.namespaces, me.scopes) == ("desk", ("shop",), ("read:echo", "answer:echo"))
            assert me.expires_at is not None
            assert abs(me.expires_at.timestamp() - time.time() - 86400) < 60
            info = await client.server()
            assert info.authenticates
            assert info.settings["max_runs"] == "100000"  # the quota that holds, although none was set
        async with Client(rpc.server.address, token=answerer) as client:
            assert (await client.who_am_i()).scopes == ("answer",)
            with pytest.raises(PermissionDeniedError, match="needs the scope read"):
                await client.server()
        async with Client(rpc.server.address, token=nobody) as client:
            with pytest.raises(PermissionDeniedError):
                await client.who_am_i()
        async with Client(rpc.server.address) as client:
            with pytest.raises(UnauthenticatedError):
                await client.who_am_i()
        shown = await asyncio.to_thread(command, rpc.server.address, answerer)
        assert "the scope read is needed" in shown
        assert "staff in namespace default" in shown
        document = json.loads(await asyncio.to_thread(command, rpc.server.address, desk, "--json"))
        assert document["caller"]["namespaces"] == ["shop"]
        assert document["server"]["store"] == "sqlite"
        assert "sync_threads" in await asyncio.to_thread(command, rpc.server.address, desk, "--settings")


def new_nobody(file: Path) -> str:
    """Add a key that may do nothing."""
    key = key_of(file, "nobody", "read:nothing")
    file.write_text(file.read_text().replace('scopes = ["read:nothing"]', "scopes = []"))
    return key


def command(address: str, token: str, *options: str) -> str:
    answer = CliRunner().invoke(app, ["server", "--server", address, *options], env={"STEPWIRE_TOKEN": token})
    assert answer.exit_code == 0, answer.output
    return answer.stdout if "--json" in options else answer.output


async def test_the_web_serves_it_too(tmp_path: Path) -> None:
    async with serving(registry_of(echo=Echo), str(tmp_path), web_address="127.0.0.1:0") as rpc:

        def post(method: str) -> Any:
            address = f"http://{rpc.server.web_address}/stepwire.v1.ServerService/{method}"
            request = Request(address, data=b"{}", headers={"content-type": "application/json"})
            with urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())

        assert (await asyncio.to_thread(post, "WhoAmI"))["scopes"] == ["admin"]
        assert (await asyncio.to_thread(post, "GetServer"))["store"] == "sqlite"


def test_no_setting_that_is_told_names_a_file_a_key_or_a_host() -> None:
    odd = told(Settings(max_event_bytes=1500, max_state_bytes=3 << 10))
    assert (odd["max_event_bytes"], odd["max_state_bytes"]) == ("1500", "3KiB")
    found = told(Settings())
    kinds = {row.name: row.metavar for row in rows()}
    assert {
        "data",
        "api_keys",
        "jwks",
        "tls_key",
        "jwt_issuer",
        "otlp_endpoint",
        "address",
        "cluster_key",
    } & found.keys() == set()
    assert not [name for name in found if kinds[name] in ("FILE", "DIR", "HOST:PORT", "URL")]
    assert {"max_message_bytes", "retention_age", "failure_detail", "idle_after"} <= found.keys()
