"""Serve the console: the files in `console/`, compressed once at start and cached by their content."""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

__all__ = ["ConsoleFiles"]

_INDEX: Final = "index.html"
_PAGES: Final = frozenset({"", "runs", "schedules", "workflows", "server"})
"""The first segments of the console's pages (see app.js)."""


class _File(NamedTuple):
    body: bytes
    compressed: bytes
    media_type: str
    etag: str


class ConsoleFiles:
    """The ASGI endpoint of the console's files. Every page of the console is `index.html`."""

    def __init__(self) -> None:
        self._files = dict(_read(files("stepwire.server.web") / "console", ""))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        request = Request(scope)
        await self._response(request)(scope, receive, send)

    def _response(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response("The console is read with GET\n", status_code=405, headers={"allow": "GET, HEAD"})
        path = request.url.path.strip("/")
        file = self._files.get(_INDEX if path.partition("/")[0] in _PAGES else path)
        if file is None:
            return self._missing(request)
        headers = {"etag": file.etag, "cache-control": "no-cache", "vary": "accept-encoding"}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        body = file.body
        if "gzip" in request.headers.get("accept-encoding", "") and len(file.compressed) < len(body):
            body, headers["content-encoding"] = file.compressed, "gzip"
        return Response(body, media_type=file.media_type, headers=headers)

    def _missing(self, request: Request) -> Response:
        """Answer 404: to a browser with the console, which says so and has links; to others in plain text."""
        if "text/html" not in request.headers.get("accept", ""):
            return Response("There is no such page\n", status_code=404, media_type="text/plain")
        index = self._files[_INDEX]
        return Response(index.body, status_code=404, media_type=index.media_type)


def _read(folder: Traversable, prefix: str) -> list[tuple[str, _File]]:
    found = []
    for each in folder.iterdir():
        if each.is_dir():
            found += _read(each, f"{prefix}{each.name}/")
            continue
        body = each.read_bytes()
        kind = mimetypes.guess_type(each.name)[0] or "application/octet-stream"
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        found.append((prefix + each.name, _File(body, gzip.compress(body, mtime=0), kind, etag)))
    return found
