"""The client for TypeScript in a real browser, on a page of another origin that `web_origins` lists."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from examples.approval import Approval
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait
from tests.serving import ROOT

from stepwire.server.testing import serve

pytestmark = [pytest.mark.web, pytest.mark.timeout(120)]

PACKAGE = ROOT / "clients" / "typescript"
ESM = "/node_modules/{}/dist/esm/{}index.js"
IMPORTS = {
    "@bufbuild/protobuf": ESM.format("@bufbuild/protobuf", ""),
    "@bufbuild/protobuf/codegenv2": ESM.format("@bufbuild/protobuf", "codegenv2/"),
    "@bufbuild/protobuf/wire": ESM.format("@bufbuild/protobuf", "wire/"),
    "@bufbuild/protobuf/wkt": ESM.format("@bufbuild/protobuf", "wkt/"),
    "@connectrpc/connect": ESM.format("@connectrpc/connect", ""),
    "@connectrpc/connect/protocol": ESM.format("@connectrpc/connect", "protocol/"),
    "@connectrpc/connect/protocol-connect": ESM.format("@connectrpc/connect", "protocol-connect/"),
    "@connectrpc/connect/protocol-grpc-web": ESM.format("@connectrpc/connect", "protocol-grpc-web/"),
    "@connectrpc/connect-web": ESM.format("@connectrpc/connect-web", ""),
    "@stepwire/client": "/dist/web.js",
}
PROGRAM = """
import { StepwireError, connect } from "@stepwire/client";

const client = connect("SERVER");
const seen = [];
const run = await client.start("approval", { who: "ada", amount: 120 });
for await (const event of run.events()) {
  seen.push(event.type);
  if (event.type === "ApprovalQuestion") await run.answer(event, { verdict: "approve", by: "a browser" });
}
const other = await client.start("approval", { who: "ada", amount: 120 });
const talk = other.converse();
for await (const event of talk) {
  const answer = { expense_id: event.data.expense_id, verdict: "reject", by: "a browser" };
  if (event.type === "ApprovalQuestion") await talk.send("ApprovalAnswer", answer);
}
await run.client.run("nobody").info().catch((error) => seen.push(error instanceof StepwireError && error.reason));
window.found = JSON.stringify([seen, await run.result(), await other.result()]);
"""


class _Pages(http.server.SimpleHTTPRequestHandler):
    page = b""

    def do_GET(self) -> None:
        """Serve the page, or a file of the package."""
        if self.path != "/":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def pages() -> Iterator[http.server.ThreadingHTTPServer]:
    if not (PACKAGE / "dist" / "web.js").exists():
        pytest.skip("clients/typescript was not built: make clients")
    handler = functools.partial(_Pages, directory=str(PACKAGE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_page_of_another_origin_runs_the_client(
    browser: webdriver.Chrome, pages: http.server.ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = f"http://127.0.0.1:{pages.server_port}"
    settings = {"web_address": "127.0.0.1:0", "web_origins": origin}
    with serve(settings=settings, approval=Approval) as server:
        program = PROGRAM.replace("SERVER", f"http://{server.web_address}")
        imports = ", ".join(f'"{name}": "{path}"' for name, path in IMPORTS.items())
        page = (
            f'<script type="importmap">{{"imports": {{{imports}}}}}</script>'
            "<script>window.onerror = (message) => { window.found = String(message) };"
            "window.onunhandledrejection = ({ reason }) => { window.found = String(reason) };</script>"
            f'<script type="module">{program}</script>'
        )
        monkeypatch.setattr(_Pages, "page", page.encode())
        browser.get(origin)
        found = WebDriverWait(browser, 60).until(lambda driver: driver.execute_script("return window.found"))
    assert found == (
        '[["ApprovalQuestion","StopEvent","RUN_NOT_FOUND"],"approved by a browser","rejected by a browser"]'
    ), browser.get_log("browser")
