"""Authentication by tokens: what they must say, and what is remembered of them."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.unit.server.tokens import EC, ED, JWKS, RSA, authenticator_of_tokens, token

from stepwire.server.auth import (
    CredentialError,
    TokenError,
    TokenVerifier,
)
from stepwire.server.scopes import ADMIN, READ, WRITE


@pytest.fixture
def verifier() -> TokenVerifier:
    found = TokenVerifier(issuer="us", audience="stepwire")
    found.load(json.dumps(JWKS).encode())
    return found


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "r"), (EC, "ES256", "e"), (ED, "EdDSA", "d")])
def test_good_tokens(verifier: TokenVerifier, key: Any, algorithm: str, kid: str):
    principal = verifier.verify(token(key, algorithm, kid, namespace="shop"))
    assert (principal.name, principal.namespace) == ("ann", "shop")
    assert principal.scopes.allow(READ, "x")
    assert principal.scopes.allow(WRITE, "orders")
    assert not principal.scopes.allow(WRITE, "x")
    assert principal.expires is not None
    assert verifier.verify(token(key, algorithm, kid, scope=None, scopes=["admin"])).scopes.everywhere(ADMIN)
    assert not verifier.verify(token(key, algorithm, kid, scope=None)).scopes.anywhere(READ)


def test_bad_tokens(verifier: TokenVerifier):
    pem = EC.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    good = token()
    head, body, signature = good.split(".")
    bad = [
        token(aud="other"),
        token(aud=None),
        token(iss="them"),
        token(iss=None),
        token(exp=time.time() - 1),
        token(exp=None),
        token(exp="never"),
        token(nbf=time.time() + 60),
        token(sub=None),
        token(sub=""),
        token(sub="\x07"),
        token(namespace="a/b"),
        token(namespace=7),
        token(scope={"a": 1}),
        token(kid="nobody"),
        token(kid=None),
        token(RSA, "RS256", "e"),
        token(RSA, "RS512", "r"),
        token(ec.generate_private_key(ec.SECP256R1())),
        jwt.encode({"sub": "ann", "aud": "stepwire", "iss": "us", "exp": time.time() + 60}, None, "none"),  # type: ignore[arg-type]
        jwt.encode({"sub": "ann", "aud": "stepwire", "iss": "us"}, b"k" * 32, "HS256", headers={"kid": "e"}),
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{jwt.utils.base64url_encode(b'[]').decode()}.{signature}",
        "a.b.c",
        "..",
        "",
        "x" * 10_000,
    ]
    # The old trick: the public key, which everyone has, as a shared secret.
    forged = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "kid": "e"}).encode()).decode()
    mac = hmac.new(pem, f"{forged}.{body}".encode(), hashlib.sha256).digest()
    bad.append(f"{forged}.{body}.{jwt.utils.base64url_encode(mac).decode()}")
    taken = []
    for number, text in enumerate(bad):
        with suppress(TokenError):
            taken.append((number, verifier.verify(text)))
    assert taken == []


def test_a_known_token_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    authenticator = authenticator_of_tokens(tmp_path)
    header = f"Bearer {token(exp=time.time() + 30)}"
    assert authenticator.authenticate(header) is authenticator.authenticate(header)
    later = time.time() + 31
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(CredentialError, match="expired"):
        authenticator.authenticate(header)


def test_new_keys_forget_tokens(tmp_path: Path):
    authenticator = authenticator_of_tokens(tmp_path)
    header = f"Bearer {token()}"
    authenticator.authenticate(header)
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": JWKS["keys"][:1]}))
    authenticator.refresh()
    with pytest.raises(CredentialError):
        authenticator.authenticate(header)


def test_as_many_credentials_are_remembered_as_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stepwire.server.auth._authenticator._KEPT", 3)
    authenticator = authenticator_of_tokens(tmp_path)
    headers = [f"Bearer {token(sub=f'caller {number}')}" for number in range(10)]
    for _ in range(2):
        assert [authenticator.authenticate(header).name for header in headers] == [
            f"caller {number}" for number in range(10)
        ]
        assert len(authenticator._known) == 3


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct", "k": "aHVudGVyMg"}]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256"}]}',
        json.dumps({"keys": [JWKS["keys"][0], JWKS["keys"][0]]}).encode(),
        json.dumps({"keys": [{**JWKS["keys"][0], "d": "AQAB"}]}).encode(),
        json.dumps({"keys": [{**JWKS["keys"][0], "use": "enc"}]}).encode(),
    ],
)
def test_bad_key_sets(document: bytes):
    with pytest.raises(TokenError) as caught:
        TokenVerifier(audience="a").load(document)
    assert "aHVudGVyMg" not in str(caught.value)


def test_clocks_may_differ_by_the_leeway():
    verifier = TokenVerifier(issuer="us", audience="stepwire", leeway=20.0)
    verifier.load(json.dumps(JWKS).encode())
    now = time.time()
    near: list[dict[str, Any]] = [{"exp": now - 10}, {"nbf": now + 10}, {"iat": now + 10}]
    for claims in near:
        assert verifier.verify(token(**claims)).name == "ann"
    far: list[dict[str, Any]] = [{"exp": now - 30}, {"nbf": now + 30}, {"iat": now + 30}]
    for claims in far:
        with pytest.raises(TokenError, match="by 30 s; see to the clocks, or jwt_leeway"):
            verifier.verify(token(**claims))
    # A call under way may last as long as a new one would be admitted.
    assert verifier.verify(token(exp=now + 5)).expires == pytest.approx(now + 25, abs=2)


def test_the_log_says_why_a_token_was_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    authenticator = authenticator_of_tokens(tmp_path)
    now = time.time()
    for claims, reason in (
        ({"exp": now - 40}, "its exp is past, by 40 s"),
        ({"nbf": now + 40}, "its nbf is in the future, by 40 s"),
        ({"iat": now + 40}, "its iat is in the future, by 40 s"),
        ({"exp": None}, "it lacks the claim exp"),
        ({"sub": None}, "it lacks the claim sub"),
        ({"aud": "hunter2"}, "its aud is not jwt_audience"),
        ({"iss": "hunter2"}, "its iss is not jwt_issuer"),
        ({"kid": "hunter2"}, "its kid names no key"),
        ({"key": ec.generate_private_key(ec.SECP256R1())}, "its signature does not fit"),
        ({"key": RSA, "algorithm": "RS256"}, "another algorithm"),
        ({"namespace": "hunter2/"}, "its sub or namespace"),
        ({"scope": {"hunter2": 1}}, "its scopes"),
    ):
        caplog.clear()
        made = token(**claims)  # type: ignore[arg-type]
        with pytest.raises(CredentialError):
            authenticator.authenticate(f"Bearer {made}")
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert reason in record.getMessage()
        assert "hunter2" not in caplog.text
        assert made[-20:] not in caplog.text
