"""Authenticate callers by API key, JSON Web Token or client certificate. Knows nothing of gRPC or the runs."""

from stepwire.server.auth._access_file import AccessFile, AccessFileError, Grant
from stepwire.server.auth._authenticator import Authenticator, CredentialError
from stepwire.server.auth._files import WatchedFile
from stepwire.server.auth._keys import NewKey, hash_of, new_key
from stepwire.server.auth._tokens import TokenError, TokenVerifier

__all__ = [
    "AccessFile",
    "AccessFileError",
    "Authenticator",
    "CredentialError",
    "Grant",
    "NewKey",
    "TokenError",
    "TokenVerifier",
    "WatchedFile",
    "hash_of",
    "new_key",
]
