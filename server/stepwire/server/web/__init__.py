"""Serve the contract to browsers and curl: Connect, gRPC-Web, server-sent events, and the console's files.

Every call goes on to the gRPC server of the same process through `upstream`, so that nothing is admitted, authorized,
limited, converted or reported a second way.
"""

from stepwire.server.web.server import WebServer, WebSettings

__all__ = ["WebServer", "WebSettings"]
