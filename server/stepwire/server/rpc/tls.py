"""Serve TLS with certificates that are read again when their files change."""

from __future__ import annotations

import logging
import math
import ssl
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import grpc

from stepwire.server.auth import WatchedFile

logger = logging.getLogger("stepwire.tls")

_SOON: Final = 14 * 86_400.0
"""Seconds before the end of a certificate from which on it is told: long enough to renew it by hand."""


class TlsError(ValueError):
    """A certificate or key cannot be used. The message names the file and the reason."""


class Validity(NamedTuple):
    """The time in which all certificates of a file are valid, in seconds since the epoch."""

    begins: float
    ends: float

    @property
    def until(self) -> str:
        """The end, for people."""
        return f"{datetime.fromtimestamp(self.ends, UTC):%Y-%m-%d %H:%M} UTC"

    @property
    def expired(self) -> bool:
        """Whether the end is past."""
        return self.ends <= time.time()

    @property
    def ends_soon(self) -> bool:
        """Whether the end is at most two weeks away."""
        return self.ends <= time.time() + _SOON

    @property
    def fault(self) -> str | None:
        """What is wrong with the certificates now, as the end of a sentence; None if they are valid."""
        if self.expired:
            return f"has expired, on {self.until}"
        if self.begins > time.time():
            return f"is not valid before {datetime.fromtimestamp(self.begins, UTC):%Y-%m-%d %H:%M} UTC"
        return None


def validity_of(path: Path) -> Validity:
    """Return the validity of the certificates in a PEM file. OSError, or ValueError if there is none in it."""
    from cryptography import x509  # deferred: it is slow to import, and many servers have no TLS

    found = x509.load_pem_x509_certificates(path.read_bytes())
    return Validity(
        max(each.not_valid_before_utc.timestamp() for each in found),
        min(each.not_valid_after_utc.timestamp() for each in found),
    )


class Certificates:
    """The server's certificate and key, and the CA of clients' certificates, all in PEM files.

    gRPC asks for them before each handshake, so a renewed certificate serves the next connection. If the new files do
    not fit together, as halfway through a renewal, the log says so and the previous ones stay in use.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        self._cert = WatchedFile(cert)
        self._key = WatchedFile(key)
        self._client_ca = WatchedFile(client_ca) if client_ca is not None else None
        self._ends = math.inf
        """When the first certificate expires, until the log has said so."""

    def credentials(self) -> grpc.ServerCredentials:
        """Return gRPC's credentials. With a client CA, clients must present a certificate. TlsError."""
        required = self._client_ca is not None
        first, fetch = self._read(), self._fetch
        self._tell_validity()
        return grpc.dynamic_ssl_server_credentials(first, fetch, required)  # type: ignore[arg-type]  # None: no change

    def check(self) -> None:
        """Raise TlsError if the files cannot be used. It does not look at how long they are valid."""
        self._read()

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

    def _tell_validity(self) -> None:
        """Log certificates that clients refuse, or soon will: the server itself would serve them silently."""
        self._ends = math.inf
        for name, file in (("tls_cert", self._cert), ("client_ca", self._client_ca)):
            if file is None:
                continue
            try:
                found = validity_of(file.path)
            except (OSError, ValueError):
                continue  # OpenSSL reads it: a form that this check does not know
            if found.fault is not None:
                logger.error("%s %s %s: connections fail until the file is renewed", name, file.path, found.fault)
            elif found.ends_soon:
                logger.warning("%s %s expires soon, on %s", name, file.path, found.until)
            if not found.expired:
                self._ends = min(self._ends, found.ends)

    def _read_one(self, file: WatchedFile) -> bytes:
        try:
            return file.read()
        except OSError as error:
            raise TlsError(f"cannot read {file.path}: {error.strerror}") from None

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new files if any of them changed, else None. gRPC's threads call this before each handshake."""
        if self._ends <= time.time():
            self._tell_validity()
        files = [self._cert, self._key, *([self._client_ca] if self._client_ca is not None else [])]
        if not any(file.changed() for file in files):
            return None
        try:
            found = self._read()
        except TlsError as error:
            logger.error("the TLS files changed and are not used: %s", error)
            return None
        self._tell_validity()
        logger.info("read the TLS files again")
        return found
