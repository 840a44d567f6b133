"""Tokens, and the keys that sign them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from stepwire.server.auth import (
    Authenticator,
)

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, algorithm: str, kid: str) -> dict[str, Any]:
    known = jwt.get_algorithm_by_name(algorithm)
    return {**json.loads(known.to_jwk(key.public_key())), "kid": kid, "alg": algorithm, "use": "sig"}  # type: ignore[attr-defined]


JWKS = {"keys": [jwk(RSA, "RS256", "r"), jwk(EC, "ES256", "e"), jwk(ED, "EdDSA", "d")]}


def token(key: Any = EC, algorithm: str = "ES256", kid: str | None = "e", **claims: Any) -> str:
    found = {"sub": "ann", "aud": "stepwire", "iss": "us", "exp": time.time() + 60, "scope": "read openid write:orders"}
    found = {name: value for name, value in {**found, **claims}.items() if value is not None}
    return jwt.encode(found, key, algorithm, headers={"kid": kid} if kid else {})


def authenticator_of_tokens(tmp_path: Path) -> Authenticator:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(JWKS))
    found = Authenticator(jwks=file, issuer="us", audience="stepwire")
    found.open()
    return found
