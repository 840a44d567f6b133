"""Find the principal that the credentials of a call identify."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from stepwire.server.auth._access_file import AccessFile, AccessFileError
from stepwire.server.auth._files import WatchedFile
from stepwire.server.auth._keys import hash_of, id_of
from stepwire.server.auth._refusals import RefusalLog
from stepwire.server.auth._tokens import TokenError, TokenExpiredError, TokenVerifier
from stepwire.server.principal import DEFAULT_NAMESPACE, Principal

logger = logging.getLogger("stepwire.auth")

_BEARER = "bearer "
_NO_HASH = "sha256:" + "0" * 64
_KEPT = 4096
"""Headers to cache: more than the clients of a server usually have."""


class CredentialError(Exception):
    """The credential is missing or not valid.

    The message says which kind of credential is wrong, and never holds any of it. `why` labels the refusal's count:
    missing, scheme, several, key, token, certificate or expired.
    """

    def __init__(self, message: str, why: str) -> None:
        super().__init__(message)
        self.why = why


class Authenticator:
    """Authenticate callers by bearer token (API key or JWT) or by client certificate.

    A bearer token takes precedence over a certificate: a wrong token is refused, whatever the certificate. If the
    access file has no [[certificates]], each certificate that the client CA signed is a principal of the default
    namespace with every scope; if it has some, only those are accepted.

    The owner calls `refresh` periodically, which reads files that changed. If such a file is wrong, the log says so
    and the previous content stays in use.

    Args:
        access: The access file.
        jwks: The JWKS file with the public keys of tokens.
        issuer: The issuer that tokens must name; None for any.
        audience: The audience that tokens must name; None for any.
        leeway: Seconds by which the clock of the issuer may differ from this one.
        certificates: Whether a client may present a certificate instead of a token.
    """

    def __init__(
        self,
        *,
        access: Path | None = None,
        jwks: Path | None = None,
        issuer: str | None = None,
        audience: str | None = None,
        leeway: float = 0.0,
        certificates: bool = False,
    ) -> None:
        self.certificates = certificates
        """Whether a client may present a certificate instead of a token."""
        self._access = AccessFile({}, {})
        self._access_file = WatchedFile(access) if access is not None else None
        self._tokens = TokenVerifier(issuer=issuer, audience=audience, leeway=leeway) if jwks is not None else None
        self._jwks_file = WatchedFile(jwks) if jwks is not None else None
        self._known: dict[str, Principal] = {}
        """Principals by valid header. A dict compares hashes first, so timing tells nothing about part of a key."""
        self._log = RefusalLog()
        self.generation = 0
        """Grows when a file is read again; calls under way are then authenticated again."""

    def open(self) -> None:
        """Read the files. Raises AccessFileError, TokenError or OSError, each of which names the file."""
        if self._access_file is not None:
            try:
                self._access = AccessFile.parse(self._access_file.read())
            except AccessFileError as error:
                raise AccessFileError(f"{self._access_file.path}: {error}") from None
        if self._jwks_file is not None and self._tokens is not None:
            try:
                self._tokens.load(self._jwks_file.read())
            except TokenError as error:
                raise TokenError(f"{self._jwks_file.path}: {error}") from None

    def refresh(self) -> None:
        """Read the files that changed."""
        access, jwks = self._access_file, self._jwks_file
        if access is not None and access.changed():
            try:
                self._access = AccessFile.parse(access.read())
                logger.info("read %s again: %d keys", access.path.name, len(self._access.keys))
            except (AccessFileError, OSError) as error:
                logger.error("%s changed and is not used: %s", access.path.name, error)
            self._renew()
        if jwks is not None and self._tokens is not None and jwks.changed():
            try:
                self._tokens.load(jwks.read())
                logger.info("read %s again", jwks.path.name)
            except (TokenError, OSError) as error:
                logger.error("%s changed and is not used: %s", jwks.path.name, error)
            self._renew()

    def _renew(self) -> None:
        self._known.clear()
        self.generation += 1

    def authenticate(self, authorization: str | None, identities: Sequence[str] = ()) -> Principal:
        """Return the principal of a call.

        Args:
            authorization: The `authorization` header; None if there is none.
            identities: The common name and the alternative names in the client's certificate.

        Raises:
            CredentialError: The credential is missing, not valid or expired. The message does not say why it is not
                valid.
        """
        if authorization is not None:
            known = self._known.get(authorization)
            principal = known if known is not None else self._of_header(authorization)
        elif self.certificates and identities:
            principal = self._of_certificate(identities)
        else:
            raise CredentialError("The call carries no credential", "missing")
        if principal.expires is not None and principal.expires <= time.time():
            self._log.tell(f"The credential of {principal.name!r}", "it has expired")
            raise CredentialError("The credential has expired", "expired")
        return principal

    def _of_header(self, authorization: str) -> Principal:
        if authorization[:7].lower() != _BEARER:
            self._log.tell("An authorization", "it is not a bearer token")
            raise CredentialError("The authorization is not a bearer token", "scheme")
        principal = self._of_token(authorization[7:].strip())
        if len(self._known) >= _KEPT:
            del self._known[next(iter(self._known))]
        self._known[authorization] = principal
        return principal

    def _of_token(self, token: str) -> Principal:
        key_id = id_of(token)
        if key_id is not None:
            grant = self._access.keys.get(key_id)
            known = hmac.compare_digest(hash_of(token), grant.hash if grant is not None else _NO_HASH)
            if grant is None or not known:
                reason = "the access file has no such id" if grant is None else "its secret is not the one of its id"
                self._log.tell("An API key", reason)
                raise CredentialError("The token is not valid", "key")
            return grant.principal
        if self._tokens is None:
            self._log.tell("A bearer token", "it is not an API key, and without jwks there are no other tokens")
            raise CredentialError("The token is not valid", "token")
        try:
            return self._tokens.verify(token)
        except TokenExpiredError as error:
            self._log.tell("A token", str(error))
            raise CredentialError("The credential has expired", "expired") from None
        except TokenError as error:
            self._log.tell("A token", str(error))
            raise CredentialError("The token is not valid", "token") from None

    def _of_certificate(self, identities: Sequence[str]) -> Principal:
        if not self._access.certificates:
            return Principal(identities[0][:128], DEFAULT_NAMESPACE)
        for identity in identities:
            principal = self._access.certificates.get(identity)
            if principal is not None:
                return principal
        self._log.tell(f"The certificate of {identities[0][:128]!r}", "the access file has no such subject")
        raise CredentialError("The client's certificate is not known here", "certificate")
