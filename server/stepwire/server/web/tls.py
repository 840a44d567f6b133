"""TLS of the web: a renewed certificate serves the next connection, as over gRPC (see `rpc/tls.py`)."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

from stepwire.server.auth import WatchedFile

__all__ = ["RenewedContext"]

logger = logging.getLogger("stepwire.web")


class RenewedContext(ssl.SSLContext):
    """A server's context that looks before each handshake whether its files have changed.

    New files that do not fit together, as halfway through a renewal, are told in the log, and the previous ones stay.
    """

    _files: tuple[WatchedFile, WatchedFile]

    @classmethod
    def of(cls, cert: Path, key: Path) -> RenewedContext:
        """Return a context with a certificate chain and its key, PEM files. OSError, ssl.SSLError."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._files = (WatchedFile(cert), WatchedFile(key))
        context._load()
        return context

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection."""
        if any(file.changed() for file in self._files):
            try:
                self._load()
            except (OSError, ValueError) as error:  # an SSLError is an OSError
                logger.error("the TLS files changed and are not used: %s", getattr(error, "reason", None) or error)
        return super().wrap_bio(*args, **options)

    def _load(self) -> None:
        for file in self._files:
            file.read()  # it counts as seen, whatever is wrong with it
        cert, key = (file.path for file in self._files)
        # On trial first: a key that does not fit would leave this context with half of a pair. Without a password an
        # encrypted key is refused instead of asked for at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
        self.load_cert_chain(cert, key, password="")
