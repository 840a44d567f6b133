"""Authentication: scopes, the access file, API keys, tokens, certificates."""

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
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.server.auth import (
    AccessFile,
    AccessFileError,
    Authenticator,
    CredentialError,
    TokenError,
    TokenVerifier,
    hash_of,
    new_key,
)
from stepwire.server.principal import ADMIN, ALL, READ, WRITE, Scopes


def test_scopes():
    scopes = Scopes(["read", "write:orders", "admin:bills"])
    assert scopes.allow(READ, "anything")
    assert not scopes.allow(WRITE, "anything")
    assert scopes.allow(WRITE, "orders")
    assert not scopes.allow(ADMIN, "orders")
    assert scopes.allow(ADMIN, "bills")
    assert scopes.anywhere(ADMIN)
    assert not scopes.everywhere(WRITE)
    assert not scopes.restricted
    only = Scopes(["write:orders"])
    assert only.restricted
    assert only.sees("orders")
    assert not only.sees("bills")
    assert only.workflows == ["orders"]
    assert ALL.everywhere(ADMIN)
    nothing = Scopes()
    assert not nothing.anywhere(READ)
    assert nothing.restricted
    for wrong in ("", "Read", "root", "write:", ":orders", "read orders", "*"):
        with pytest.raises(ValueError, match="a scope is"):
            Scopes([wrong])


GOOD = f'[[keys]]\nid = "a"\nhash = "sha256:{"0" * 64}"\nname = "n"\n'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[keys]", "TOML"),
        ("[[users]]\n", "users"),
        ("keys = 1", "keys"),
        ("[[keys]]\n", "number 1: id"),
        ('[[keys]]\nid = "a"\nname = "n"\nhash = "hunter2"', "hash"),
        (GOOD + GOOD, "number 2: another"),
        (GOOD + 'scopes = ["hunter2"]', "scope"),
        (GOOD + 'scopes = "read"', "scopes"),
        (GOOD + 'namespace = "a/b"', "namespace"),
        (GOOD + 'expires = "hunter2"', "expires"),
        (GOOD + 'scope = ["read"]', "unknown field scope"),
        (GOOD.replace('"n"', r'"\u0007"'), "name"),
        ('[[certificates]]\nname = "n"', "subject"),
    ],
)
def test_a_wrong_access_file_is_told_without_its_values(text: str, named: str):
    with pytest.raises(AccessFileError) as caught:
        AccessFile.parse(text.encode())
    assert named in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_keys_are_kept_as_hashes(tmp_path: Path):
    made = [new_key() for _ in range(20)]
    assert len({key.id for key in made}) == 20
    file = tmp_path / "access.toml"
    file.write_text(f'[[keys]]\nid = "{made[0].id}"\nhash = "{made[0].hash}"\nname = "n"\nscopes = ["read"]\n')
    authenticator = Authenticator(access=file)
    authenticator.open()
    principal = authenticator.authenticate(f"Bearer {made[0].key}")
    assert (principal.name, principal.namespace) == ("n", "default")
    assert authenticator.authenticate(f"bearer {made[0].key}") == principal
    assert made[0].key not in file.read_text()
    secret = made[0].key.rpartition("_")[2]
    for wrong in (
        made[1].key,
        made[0].key[:-1],
        made[0].key + "x",
        f"swk_{made[0].id}_",
        f"swk_{made[1].id}_{secret}",
        made[0].hash,
        hash_of("x"),
        "swk",
        "",
    ):
        with pytest.raises(CredentialError):
            authenticator.authenticate(f"Bearer {wrong}")
    for header in (None, "", made[0].key, f"Basic {made[0].key}"):
        with pytest.raises(CredentialError):
            authenticator.authenticate(header)


def test_a_changed_file_is_read_again_and_a_broken_one_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file = tmp_path / "access.toml"
    one, two = new_key(), new_key()
    file.write_text(f'[[keys]]\nid = "{one.id}"\nhash = "{one.hash}"\nname = "one"\n')
    authenticator = Authenticator(access=file)
    authenticator.open()
    assert authenticator.authenticate(f"Bearer {one.key}").name == "one"
    file.write_text(f'[[keys]]\nid = "{two.id}"\nhash = "{two.hash}"\nname = "two and a half"\n')
    authenticator.refresh()
    assert authenticator.authenticate(f"Bearer {two.key}").name == "two and a half"
    with pytest.raises(CredentialError):
        authenticator.authenticate(f"Bearer {one.key}")
    assert authenticator.generation == 1
    file.write_text("[[keys]]\nid = 1")
    authenticator.refresh()
    assert authenticator.authenticate(f"Bearer {two.key}").name == "two and a half"
    assert "is not used" in caplog.text
    file.unlink()
    authenticator.refresh()
    assert authenticator.authenticate(f"Bearer {two.key}").name == "two and a half"


# -- tokens -----------------------------------------------------------------------------------------------------------

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


def authenticator_of_tokens(tmp_path: Path) -> Authenticator:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(JWKS))
    found = Authenticator(jwks=file, issuer="us", audience="stepwire")
    found.open()
    return found


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


def test_certificates(tmp_path: Path):
    file = tmp_path / "access.toml"
    file.write_text('[[certificates]]\nsubject = "orders.internal"\nname = "orders"\nscopes = ["write"]\n')
    listed = Authenticator(access=file, certificates=True)
    listed.open()
    assert listed.authenticate(None, ["x.internal", "orders.internal"]).name == "orders"
    with pytest.raises(CredentialError):
        listed.authenticate(None, ["other.internal"])
    with pytest.raises(CredentialError):
        listed.authenticate("Bearer x", ["orders.internal"])  # a wrong token is wrong, whatever the certificate
    with pytest.raises(CredentialError):
        listed.authenticate(None, [])
    everyone = Authenticator(certificates=True)
    everyone.open()
    assert everyone.authenticate(None, ["anyone"]).scopes.everywhere(ADMIN)
    ignored = Authenticator(access=file)
    ignored.open()
    with pytest.raises(CredentialError):
        ignored.authenticate(None, ["orders.internal"])


def test_keys_new_makes_entries_that_work(tmp_path: Path):
    file = tmp_path / "access.toml"
    runner = CliRunner()
    made = runner.invoke(
        app, ["keys", "new", "ann", "--scope", "write:orders", "--file", str(file), "--expires", "90d"]
    )
    assert made.exit_code == 0, made.output
    again = runner.invoke(app, ["keys", "new", 'bob "q"', "--namespace", "shop", "--file", str(file)])
    assert again.exit_code == 0, again.output
    assert file.stat().st_mode & 0o077 == 0
    authenticator = Authenticator(access=file)
    authenticator.open()
    ann = authenticator.authenticate(f"Bearer {made.stdout.strip()}")
    assert (ann.name, ann.namespace, repr(ann.scopes)) == ("ann", "default", "Scopes(['write:orders'])")
    assert ann.expires is not None
    assert abs(ann.expires - time.time() - 90 * 86400) < 60
    bob = authenticator.authenticate(f"Bearer {again.stdout.strip()}")
    assert (bob.name, bob.namespace, repr(bob.scopes)) == ('bob "q"', "shop", "Scopes(['read'])")
    wrong = runner.invoke(app, ["keys", "new", "eve", "--scope", "root", "--file", str(file)])
    assert wrong.exit_code == 2
    file.write_text("broken [")
    assert runner.invoke(app, ["keys", "new", "eve", "--file", str(file)]).exit_code == 1
    assert file.read_text() == "broken ["


def test_keys_are_listed_and_revoked_and_the_rest_of_the_file_stays(tmp_path: Path):
    file, runner = tmp_path / "access.toml", CliRunner()
    for name, *more in (["ann", "--scope", "answer:orders"], ["bob", "--expires", "1d"], ["ann", "--scope", "admin"]):
        assert runner.invoke(app, ["keys", "new", name, *more, "--file", str(file)]).exit_code == 0
    tail = '\n# the front desk\n[[certificates]]\nsubject = "desk"\nscopes = ["read"]\n'
    file.write_text(file.read_text() + tail)
    listed = runner.invoke(app, ["keys", "list", "--file", str(file), "--json"])
    known = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(key["name"], key["scopes"]) for key in known] == [
        ("ann", ["answer:orders"]),
        ("bob", ["read"]),
        ("ann", ["admin"]),
    ]
    assert [key["expires"] is None for key in known] == [True, False, True]
    table = runner.invoke(app, ["keys", "list", "--file", str(file)])
    assert known[1]["id"] in table.stdout
    assert "sha256" not in table.stdout
    revoked = runner.invoke(app, ["keys", "revoke", known[1]["id"][:6], "--file", str(file)])
    assert revoked.exit_code == 0, revoked.output
    assert set(AccessFile.parse(file.read_bytes()).keys) == {known[0]["id"], known[2]["id"]}
    assert file.read_text().endswith(tail)
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_text()
    for wrong, code in (
        (["f00"], 1),
        ([""], 1),  # it is the beginning of both
        (["--name", "eve"], 1),
        ([], 2),
        ([known[0]["id"], "--name", "ann"], 2),
    ):
        assert runner.invoke(app, ["keys", "revoke", *wrong, "--file", str(file)]).exit_code == code, wrong
    assert file.read_text() == before
    mistaken = runner.invoke(app, ["keys", "revoke", "ann", "--file", str(file)])
    assert "no key ann in it; ann holds keys: --name ann" in mistaken.stderr
    assert runner.invoke(app, ["keys", "revoke", "--name", "ann", "--file", str(file)]).exit_code == 0
    left = AccessFile.parse(file.read_bytes())
    assert not left.keys
    assert set(left.certificates) == {"desk"}
    made = new_key()
    inline = f'keys = [{{id = "{made.id}", hash = "{made.hash}", name = "x"}}]\n'
    file.write_text(inline)
    assert runner.invoke(app, ["keys", "revoke", made.id, "--file", str(file)]).exit_code == 1
    assert file.read_text() == inline


# -- clocks that differ, and what the log says ------------------------------------------------------------------------


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


def test_the_log_says_why_other_credentials_were_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    file, made = tmp_path / "access.toml", new_key()
    file.write_text(
        f'[[keys]]\nid = "{made.id}"\nhash = "{made.hash}"\nname = "old"\nexpires = 2020-01-01T00:00:00Z\n'
        '[[certificates]]\nsubject = "orders.internal"\n'
    )
    authenticator = Authenticator(access=file, certificates=True)
    authenticator.open()
    for authorization, identities, reason in (
        (f"Bearer {made.key}", [], "The credential of 'old' was refused: it has expired"),
        (f"Bearer {new_key().key}", [], "no such id"),
        (f"Bearer {made.key[:-4]}AAAA", [], "its secret is not the one of its id"),
        (f"Basic {made.key}", [], "not a bearer token"),
        ("Bearer a.b.c", [], "without jwks"),
        (None, ["bills.internal"], "The certificate of 'bills.internal' was refused"),
    ):
        caplog.clear()
        with pytest.raises(CredentialError):
            authenticator.authenticate(authorization, identities)
        (record,) = caplog.records
        assert reason in record.getMessage()
        assert made.key not in caplog.text


def test_refusals_do_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    authenticator = authenticator_of_tokens(tmp_path)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def refused(times: int) -> list[str]:
        caplog.clear()
        for _ in range(times):
            with pytest.raises(CredentialError):
                authenticator.authenticate("Bearer a.b.c")
        return [record.getMessage() for record in caplog.records]

    assert len(refused(500)) == 20
    assert refused(10) == []
    now += 1.0
    (line,) = refused(10)
    assert "490 more were refused" in line
