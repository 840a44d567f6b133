"""Serve TLS with certificates that are read again when their files change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import grpc

from stepwire.server.auth import WatchedFile

logger = logging.getLogger("stepwire.tls")


class TlsError(ValueError):
    """A certificate or key cannot be used. The message names the file and the reason."""


class Certificates:
    """The server's certificate and key, and the CA of clients' certificates, all in PEM files.

    gRPC asks for them before each handshake, so a renewed certificate serves the next connection. If the new files do
    not fit together, as halfway through a renewal, the log says so and the previous ones stay in use.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        self._cert = WatchedFile(cert)
        self._key = WatchedFile(key)
        self._client_ca = WatchedFile(client_ca) if client_ca is not None else None

    def credentials(self) -> grpc.ServerCredentials:
        """Return gRPC's credentials. With a client CA, clients must present a certificate. TlsError."""
        required = self._client_ca is not None
        first, fetch = self._read(), self._fetch
        return grpc.dynamic_ssl_server_credentials(first, fetch, required)  # type: ignore[arg-type]  # None: no change

    def _read(self) -> grpc.ServerCertificateConfiguration:
        cert, key = self._read_one(self._cert), self._read_one(self._key)
        roots = self._read_one(self._client_ca) if self._client_ca is not None else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # Without a password an encrypted key is refused instead of asked for at the terminal.
            context.load_cert_chain(self._cert.path, self._key.path, password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise TlsError(f"tls_cert {self._cert.path} and tls_key {self._key.path}: {reason}") from None
        if roots is not None and self._client_ca is not None:
            try:
                context.load_verify_locations(cadata=roots.decode("ascii"))
            except (ssl.SSLError, ValueError) as error:
                reason = getattr(error, "reason", None) or "no certificate in it"
                raise TlsError(f"client_ca {self._client_ca.path}: {reason}") from None
        return grpc.ssl_server_certificate_configuration([(key, cert)], roots)

    def _read_one(self, file: WatchedFile) -> bytes:
        try:
            return file.read()
        except OSError as error:
            raise TlsError(f"cannot read {file.path}: {error.strerror}") from None

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new files if any of them changed, else None. gRPC's threads call this before each handshake."""
        files = [self._cert, self._key, *([self._client_ca] if self._client_ca is not None else [])]
        if not any(file.changed() for file in files):
            return None
        try:
            found = self._read()
        except TlsError as error:
            logger.error("the TLS files changed and are not used: %s", error)
            return None
        logger.info("read the TLS files again")
        return found
