"""Verify JSON Web Tokens with the public keys of a JWKS file."""

from __future__ import annotations

import json
import re
import time
from typing import Any, Final

from stepwire.server.auth._access_file import valid_name, valid_namespace
from stepwire.server.principal import DEFAULT_NAMESPACE, Principal
from stepwire.server.scopes import Scopes

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Signatures by a private key only: a shared secret could be used to sign, and `none` signs nothing."""

_MAX_LENGTH = 8192
_SCOPE = re.compile(r"(answer|read|write|admin)(:.+)?")


class TokenError(ValueError):
    """The JWKS file is wrong, or a token is not valid. The message never holds any of their content."""


class TokenExpiredError(TokenError):
    """The token was valid once."""


class TokenVerifier:
    """Verify the signature and `exp` of tokens, and `iss` and `aud` if they are configured.

    The claim `sub` names the principal, `namespace` its namespace (by default `default`), and `scope` (a text) or
    `scopes` (a list) its scopes. Words that are not scopes of Stepwire are ignored. Without scopes nothing is allowed.
    """

    def __init__(self, *, issuer: str | None = None, audience: str | None = None, leeway: float = 0.0) -> None:
        """Make a verifier that knows no key yet.

        Args:
            issuer: The `iss` that tokens must have; None for any.
            audience: The `aud` that tokens must have; None for any.
            leeway: Seconds by which the clock of the issuer may differ from this one.
        """
        self._issuer = issuer
        self._audience = audience
        self._leeway = leeway
        self._keys: dict[str | None, tuple[Any, str]] = {}

    def load(self, data: bytes) -> None:
        """Replace the keys with those of a JWKS document. TokenError."""
        import jwt  # deferred: its cryptography takes a quarter of the start-up time, and few servers use tokens

        try:
            document = json.loads(data)
            entries = document["keys"]
            if not isinstance(entries, list) or not entries:
                raise TypeError
        except (ValueError, TypeError, KeyError, RecursionError):
            raise TokenError('not a JWKS document: {"keys": [...]} with at least one key') from None
        keys: dict[str | None, tuple[Any, str]] = {}
        for number, entry in enumerate(entries, 1):
            if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
                continue
            if entry.get("kty") == "oct" or "d" in entry:
                raise TokenError(f"key {number} is a secret: a JWKS file holds public keys only")
            try:
                key = jwt.PyJWK(entry)
            except jwt.PyJWTError as error:
                raise TokenError(f"key {number} cannot be used: {type(error).__name__}") from None
            if key.algorithm_name not in ALGORITHMS:
                raise TokenError(f"key {number} is for an algorithm that is not accepted")
            if entry.get("kid") in keys:
                raise TokenError(f"key {number} has the kid of another, or several have none")
            keys[entry.get("kid")] = (key.key, key.algorithm_name)
        if not keys:
            raise TokenError("no key for signatures")
        self._keys = keys

    def verify(self, token: str) -> Principal:
        """Return the principal of a token. It expires when the leeway has passed, too.

        Raises:
            TokenError: The token is not valid. The message says why, for the log: not for the client.
        """
        import jwt

        if len(token) > _MAX_LENGTH:
            raise TokenError("it is too long")
        try:
            header = jwt.get_unverified_header(token)
            found = self._keys.get(header.get("kid"))
            if found is None and "kid" not in header and len(self._keys) == 1:
                found = next(iter(self._keys.values()))
            if found is None:
                raise TokenError("its kid names no key of the JWKS file")
            key, algorithm = found
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway,
                options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            )
        except jwt.ExpiredSignatureError:
            raise TokenExpiredError(f"its exp is past{_past(token, 'exp')}; see to the clocks, or jwt_leeway") from None
        except jwt.ImmatureSignatureError as error:
            claim = "iat" if "iat" in str(error) else "nbf"
            late = _past(token, claim)
            raise TokenError(f"its {claim} is in the future{late}; see to the clocks, or jwt_leeway") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenError(f"it lacks the claim {error.claim}") from None
        except jwt.InvalidAudienceError:
            raise TokenError("its aud is not jwt_audience") from None
        except jwt.InvalidIssuerError:
            raise TokenError("its iss is not jwt_issuer") from None
        except jwt.InvalidSignatureError:
            raise TokenError("its signature does not fit the key that it names") from None
        except jwt.InvalidAlgorithmError:
            raise TokenError("it is signed with another algorithm than its key is for") from None
        except jwt.PyJWTError as error:
            raise TokenError(f"it cannot be read ({type(error).__name__})") from None
        except TokenError:  # which is a ValueError
            raise
        except (ValueError, TypeError, RecursionError, OverflowError):
            raise TokenError("it cannot be read") from None
        return _principal(claims, self._leeway)


def _past(token: str, claim: str) -> str:
    """Return how far a time claim of a token is from now, as the end of a sentence. Its signature was verified."""
    import jwt

    seconds = time.time() - float(jwt.decode(token, options={"verify_signature": False})[claim])
    return f", by {abs(seconds):.0f} s"


def _principal(claims: dict[str, Any], leeway: float) -> Principal:
    name = claims["sub"]
    namespace = claims.get("namespace", DEFAULT_NAMESPACE)
    if not valid_name(name) or not valid_namespace(namespace):
        raise TokenError("its sub or namespace is not valid")
    words = claims.get("scopes", claims.get("scope", ""))
    if isinstance(words, str):
        words = words.split()
    if not isinstance(words, list):
        raise TokenError("its scopes are not valid")
    scopes = [word for word in words if isinstance(word, str) and _SCOPE.fullmatch(word)]
    return Principal(name, namespace, Scopes(scopes), float(claims["exp"]) + leeway)
