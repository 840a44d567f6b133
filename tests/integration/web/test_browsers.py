"""What pages of others can do with the web: nothing. What callers without a credential can do: nothing either."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.integration.web.support import Web, frame, web
from tests.system.security.support import Keys

PATHS = ["/", "/app.js", "/v1/runs/none/events", "/stepwire.v1.RunService/GetRun"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:50080", "127.0.0.1.evil.example", "", "127.0.0.1:80@evil.example", "[::1]x"]
)
def test_another_host_is_refused(site: Web, path: str, host: str) -> None:
    assert site.request("GET", path, headers={"host": host}).status in (400, 403)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_another_origin_is_refused(site: Web, path: str, origin: str) -> None:
    answer = site.request("POST", path, b"{}", {"origin": origin, "content-type": "application/json"})
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


def test_the_own_origin_may_call(site: Web) -> None:
    headers = {"origin": f"http://{site.host}", "sec-fetch-site": "same-origin"}
    assert site.call("RunService/ListRuns", {}, headers).status == 200


def test_a_cross_site_request_without_an_origin_is_refused_but_a_link_is_not(site: Web) -> None:
    assert site.request("GET", "/v1/runs/none/events", headers={"sec-fetch-site": "cross-site"}).status == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert site.request("GET", "/", headers=link).status == 200


def test_a_listed_origin_may_call_and_read() -> None:
    with web(web_origins="https://app.example.com, http://localhost:3000") as open_:
        origin = {"origin": "https://app.example.com"}
        asked = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        }
        preflight = open_.request("OPTIONS", "/stepwire.v1.RunService/GetRun", headers={**origin, **asked})
        assert preflight.status == 200
        assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
        answer = open_.call("RunService/ListRuns", {}, origin)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "https://app.example.com")
        assert "access-control-allow-credentials" not in answer.headers
        assert open_.call("RunService/ListRuns", {}, {"origin": "https://other.example.com"}).status == 403


def test_every_response_confines_the_page(site: Web) -> None:
    for path in PATHS:
        headers = site.request("GET", path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "set-cookie" not in headers
        assert "server" not in headers


def test_answers_are_kept_by_no_cache(site: Web) -> None:
    run_id = site.start("echo", value="private")
    json_ = {"content-type": "application/json"}
    stream = {"content-type": "application/connect+json"}
    asked = {"runId": run_id}
    for answer in (
        site.call("RunService/GetRun", asked),
        site.call("RunService/GetRun", {"runId": "none"}),
        site.request("POST", "/stepwire.v1.RunService/GetRun", b"{", json_),
        site.request("POST", "/stepwire.v1.RunService/StreamEvents", frame(json.dumps(asked).encode()), stream),
        site.request("GET", f"/v1/runs/{run_id}/events"),
        site.request("GET", "/v1/runs/none/events"),
        site.request("GET", "/", headers={"host": "evil.example"}),
    ):
        assert answer.headers["cache-control"] == "no-store", answer
    # The console's files hold no data: a browser keeps them, and asks whether they are as they were.
    for path in ("/", "/app.js", "/runs/some-id"):
        assert site.request("GET", path).headers["cache-control"] == "no-cache"


def test_credentials_scopes_and_namespaces_hold_as_over_grpc(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "access.toml")
    writer = dict(keys.add("ann", ["write"], "north"))
    reader = dict(keys.add("rob", ["read"], "north"))
    other = dict(keys.add("sue", ["admin"], "south"))
    with web(api_keys=tmp_path / "access.toml") as guarded:
        start = {"workflow": "ask", "input": {"value": {"item": "pen"}}}
        assert guarded.call("RunService/StartRun", start).status == 401
        assert guarded.call("RunService/StartRun", start, {"authorization": "Bearer wrong"}).status == 401
        assert guarded.call("RunService/StartRun", start, {"cookie": writer["authorization"]}).status == 401
        assert guarded.call("RunService/StartRun", start, reader).status == 403
        run_id = guarded.call("RunService/StartRun", start, writer).json["run"]["runId"]
        assert guarded.call("RunService/GetRun", {"runId": run_id}, reader).status == 200
        assert guarded.call("RunService/GetRun", {"runId": run_id}, other).status == 404
        assert guarded.request("GET", f"/v1/runs/{run_id}/events").status == 401
        assert guarded.request("GET", f"/v1/runs/{run_id}/events", headers=other).status == 404
        with guarded.events(run_id, headers=reader) as sent:
            assert next(event for event in sent if event.id).event == "Question"
        # The console itself is public: it holds no data.
        assert guarded.request("GET", "/").status == 200


def test_only_files_of_the_console_are_read(site: Web) -> None:
    for path in [
        "/../server.py",
        "/..%2f..%2fserver.py",
        "/views/../../server.py",
        "//etc/passwd",
        "/__init__.py",
        "/x.js",
    ]:
        answer = site.request("GET", path)
        assert answer.status == 404 or b"import" not in answer.body, path
    assert site.request("POST", "/", b"x").status == 405
    page = site.request("GET", "/runs/some-id")
    assert page.body == site.request("GET", "/").body
    again = site.request("GET", "/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
