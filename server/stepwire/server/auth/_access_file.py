"""Read the access file, which grants scopes to hashed API keys and to client certificates.

::

[[keys]]
id = "5f2a…"                      # from `stepwire keys new`
hash = "sha256:…"
name = "orders-service"
namespace = "shop"                # default: default
scopes = ["write:orders", "read"]
expires = 2030-01-01T00:00:00Z    # optional

[[certificates]]
subject = "orders.internal"       # a common name, or an alternative name of the client's certificate
name = "orders-service"           # default: the subject
scopes = ["write"]
"""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from typing import Any, NamedTuple

from stepwire.server.principal import DEFAULT_NAMESPACE, Principal
from stepwire.server.scopes import Scopes

_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY_FIELDS = {"id", "hash", "name", "namespace", "scopes", "expires"}
_CERTIFICATE_FIELDS = {"subject", "name", "namespace", "scopes", "expires"}


class AccessFileError(ValueError):
    """The access file is wrong. The message names the entry and the field, never the value."""


class Grant(NamedTuple):
    """The hash that an API key must have, and the principal that it authenticates."""

    hash: str
    principal: Principal


class AccessFile(NamedTuple):
    """The entries of the file: API keys by id, certificates by subject."""

    keys: dict[str, Grant]
    certificates: dict[str, Principal]

    def workflows(self) -> set[str]:
        """Return the workflows that scopes name."""
        principals = [*(grant.principal for grant in self.keys.values()), *self.certificates.values()]
        return {workflow for principal in principals for workflow in principal.scopes.workflows}

    @classmethod
    def parse(cls, data: bytes) -> AccessFile:
        """Parse the file. AccessFileError."""
        try:
            document = tomllib.loads(data.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            place = str(error).rpartition("(")[2].rstrip(")") if "(" in str(error) else "not UTF-8"
            raise AccessFileError(f"not valid TOML ({place})") from None
        if unknown := sorted(set(document) - {"keys", "certificates"}):
            raise AccessFileError(f"unknown table {unknown[0]}: there are [[keys]] and [[certificates]]")
        keys: dict[str, Grant] = {}
        for where, entry in _entries(document, "keys", _KEY_FIELDS):
            key_id = _text(entry, "id", where)
            if key_id in keys:
                raise AccessFileError(f"{where}: another key has this id")
            digest = _text(entry, "hash", where)
            if not _HASH.fullmatch(digest):
                raise AccessFileError(f"{where}: hash must be sha256: and 64 hexadecimal digits")
            keys[key_id] = Grant(digest, _principal(entry, _text(entry, "name", where), where))
        certificates: dict[str, Principal] = {}
        for where, entry in _entries(document, "certificates", _CERTIFICATE_FIELDS):
            subject = _text(entry, "subject", where)
            if subject in certificates:
                raise AccessFileError(f"{where}: another certificate has this subject")
            certificates[subject] = _principal(entry, entry.get("name", subject), where)
        return cls(keys, certificates)


def valid_name(name: object) -> bool:
    """Tell whether something can be the name of a principal."""
    return isinstance(name, str) and 1 <= len(name) <= 128 and name.isprintable()


def valid_namespace(name: object) -> bool:
    """Tell whether something can be a namespace."""
    return isinstance(name, str) and _NAMESPACE.fullmatch(name) is not None


def _entries(document: dict[str, Any], table: str, known: set[str]) -> list[tuple[str, dict[str, Any]]]:
    entries = document.get(table, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise AccessFileError(f"{table} must be tables: [[{table}]]")
    found = []
    for number, entry in enumerate(entries, 1):
        where = f"[[{table}]] number {number}"
        if unknown := sorted(set(entry) - known):
            raise AccessFileError(f"{where}: unknown field {unknown[0]}")
        found.append((where, entry))
    return found


def _text(entry: dict[str, Any], field: str, where: str) -> str:
    value = entry.get(field)
    if not isinstance(value, str) or not value:
        raise AccessFileError(f"{where}: {field} is required and must be text")
    return value


def _principal(entry: dict[str, Any], name: object, where: str) -> Principal:
    if not valid_name(name):
        raise AccessFileError(f"{where}: name must be 1 to 128 printable characters")
    namespace = entry.get("namespace", DEFAULT_NAMESPACE)
    if not valid_namespace(namespace):
        raise AccessFileError(f"{where}: namespace must be 1 to 64 of letters, digits and ._-")
    scopes = entry.get("scopes", [])
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise AccessFileError(f"{where}: scopes must be a list of texts")
    try:
        allowed = Scopes(scopes)
    except ValueError as error:
        raise AccessFileError(f"{where}: {error}") from None
    expires = entry.get("expires")
    if expires is not None and not isinstance(expires, datetime):
        raise AccessFileError(f"{where}: expires must be a date and time, as 2030-01-01T00:00:00Z")
    moment = None
    if expires is not None:
        moment = (expires if expires.tzinfo else expires.replace(tzinfo=UTC)).timestamp()
    return Principal(str(name), str(namespace), allowed, moment)
