"""Sign snapshots, so that a server accepts only those that a holder of its key gave out."""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

from stepwire.server.runs.errors import InvalidError
from stepwire.v1 import types_pb2 as pb

_KEY_BYTES = 32

KEY_FILE = "snapshot.key"
"""The name of the key's file in a data directory."""


def key_of_file(path: Path) -> bytes:
    """Return the key in a file: its 32 bytes, or a digest of a longer text. ValueError if it is shorter; OSError."""
    data = path.read_bytes()
    if len(data) == _KEY_BYTES:
        return data
    data = data.strip()
    if len(data) < _KEY_BYTES:
        raise ValueError(f"{path} does not hold a key of at least {_KEY_BYTES} bytes")
    return hashlib.sha256(b"stepwire key file" + data).digest()


class Signer:
    """Sign and verify snapshots with HMAC-SHA256 over their deterministic serialization."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.key_id = hashlib.sha256(b"stepwire snapshot key" + key).hexdigest()[:16]

    @classmethod
    def of_file(cls, path: Path) -> Signer:
        """Return the signer with the key in a file, of at least 32 bytes. ValueError if it is shorter; OSError."""
        return cls(key_of_file(path))

    @classmethod
    def of_directory(cls, directory: Path) -> Signer:
        """Return the signer of a data directory. The first use makes its key, readable by the owner only."""
        path = directory / KEY_FILE
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            key = os.urandom(_KEY_BYTES)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
        if len(key) != _KEY_BYTES:
            raise ValueError(f"{path} does not hold a key of {_KEY_BYTES} bytes")
        return cls(key)

    @classmethod
    def ephemeral(cls) -> Signer:
        """Return a signer whose key lasts as long as the process."""
        return cls(os.urandom(_KEY_BYTES))

    def sign(self, snapshot: pb.ContextSnapshot) -> pb.ContextSnapshot:
        """Set the signature of a snapshot, and return the snapshot."""
        snapshot.key_id = self.key_id
        snapshot.signature = self._digest(snapshot)
        return snapshot

    def verify(self, snapshot: pb.ContextSnapshot) -> None:
        """Raise InvalidError (INVALID_SNAPSHOT) unless this key signed exactly this snapshot."""
        if snapshot.key_id != self.key_id:
            raise InvalidError(
                "INVALID_SNAPSHOT",
                "The snapshot was not signed with this server's key: serve with the key of the one that it comes from"
                " (--snapshot-key)",
            )
        if not hmac.compare_digest(snapshot.signature, self._digest(snapshot)):
            raise InvalidError("INVALID_SNAPSHOT", "The snapshot was altered: its signature does not fit")

    def _digest(self, snapshot: pb.ContextSnapshot) -> bytes:
        bare = pb.ContextSnapshot()
        bare.CopyFrom(snapshot)
        bare.DiscardUnknownFields()
        bare.ClearField("signature")
        bare.ClearField("key_id")
        return hmac.digest(self._key, bare.SerializeToString(deterministic=True), "sha256")
