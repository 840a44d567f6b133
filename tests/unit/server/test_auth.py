"""Authentication: scopes, the access file, API keys, certificates, and what the log says of refusals."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.unit.server.tokens import authenticator_of_tokens

from stepwire.server.auth import (
    AccessFile,
    AccessFileError,
    Authenticator,
    CredentialError,
    hash_of,
    new_key,
)
from stepwire.server.scopes import ADMIN, ALL, READ, WRITE, Scopes


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
