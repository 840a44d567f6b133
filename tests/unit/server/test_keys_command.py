"""The command that makes, lists and revokes API keys."""

from __future__ import annotations

import json
import time
from pathlib import Path

from typer.testing import CliRunner

from stepwire.cli import app
from stepwire.server.auth import (
    AccessFile,
    Authenticator,
    new_key,
)


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
