"""Sign what one replica asks of another for a caller, with the key that all replicas share.

The signature says that the call has passed the gate of a replica: its caller was charged there, and it must not be
passed on again. It also names the identities of the caller's TLS certificate, which ended at that replica.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from stepwire.server.runs.errors import WrongReplicaError

__all__ = ["HEADER", "TO", "Hop", "HopSigner"]

HEADER: Final = "stepwire-hop"
TO: Final = "stepwire-to"
"""The metadata that name the replica for which a call is, by its id: another one may answer at its address."""
SECONDS: Final = 30.0
"""How long a signature is valid: longer than clocks of replicas differ, too short to be found and used."""


_SAME_SECONDS: Final = 1.0
"""How long a header is used again."""
_KEPT: Final = 4096
"""Headers to remember."""


class Hop(NamedTuple):
    """A call that another replica passes on.

    Attributes:
        identities: The names in the caller's TLS certificate.
    """

    identities: tuple[str, ...] = ()


class HopSigner:
    """Sign and verify the header of a hop with HMAC-SHA256."""

    def __init__(
        self,
        key: bytes,
        clock: Callable[[], float] = time.time,
        me: Callable[[], int] = lambda: 0,
        accepted: Iterable[bytes] = (),
    ) -> None:
        """Make a signer.

        Args:
            key: The key.
            clock: Returns seconds since the epoch.
            me: Returns the id of this replica; 0 while it has none.
            accepted: Further keys with which other replicas may have signed, while the key is changed.
        """
        self._me = me
        self._signed: dict[tuple[str, tuple[str, ...]], tuple[float, str]] = {}
        self._verified: dict[tuple[str, str], tuple[float, Hop]] = {}
        """What was signed and verified a moment ago: the same header serves for all calls of a second."""
        self._key, *self._accepted = [hashlib.sha256(b"stepwire hop" + each).digest() for each in (key, *accepted)]
        self._clock = clock

    def sign(self, method: str, identities: Sequence[str] = ()) -> tuple[str, str]:
        """Return the header of a call of a method."""
        now, what = self._clock(), (method, tuple(identities))
        at, header = self._signed.get(what, (0.0, ""))
        if abs(now - at) > _SAME_SECONDS:
            text = json.dumps([round(now, 3), method, list(identities)], separators=(",", ":")).encode()
            header = f"{base64.urlsafe_b64encode(text).decode()}.{_digest(self._key, text)}"
            if len(self._signed) >= _KEPT:
                self._signed.clear()
            self._signed[what] = now, header
        return HEADER, header

    def sign_to(self, replica: int, method: str, identities: Sequence[str] = ()) -> list[tuple[str, str]]:
        """Return the metadata of a call of a method that is for a replica; 0 for whichever answers."""
        signed = [self.sign(method, identities)]
        return [*signed, (TO, str(replica))] if replica else signed

    def check_addressee(self, metadata: Iterable[tuple[str, str | bytes]], *, signed: bool = True) -> None:
        """Raise WrongReplicaError if a call that is passed on is not for this replica, or not signed with its key.

        Without a valid signature, which `signed` tells, it must not be taken for a call of the replica that passes it
        on: that one's certificate identifies no caller.
        """
        me = self._me()
        for name, value in metadata:
            if name == TO and me and (not signed or value != str(me)):
                raise WrongReplicaError(me)

    def verify(self, metadata: Iterable[tuple[str, str | bytes]], method: str) -> Hop | None:
        """Return what the header of a call says; None if there is none, or none that is valid for the method now."""
        for name, value in metadata:
            if name == HEADER and isinstance(value, str):
                at, hop = self._verified.get((value, method), (0.0, None))
                return hop if hop is not None and self._valid(at) else self._read(value, method)
        return None

    def _read(self, value: str, method: str) -> Hop | None:
        encoded, _, digest = value.partition(".")
        try:
            text = base64.urlsafe_b64decode(encoded)
            signed = (_digest(key, text) for key in (self._key, *self._accepted))
            if not any(hmac.compare_digest(digest.encode(), each.encode()) for each in signed):
                return None
            at, signed_method, identities = json.loads(text)
        except (ValueError, TypeError):
            return None
        if signed_method != method or not self._valid(at):
            return None
        hop = Hop(tuple(identities))
        if len(self._verified) >= _KEPT:
            self._verified.clear()
        self._verified[value, method] = at, hop
        return hop

    def _valid(self, at: float) -> bool:
        return abs(self._clock() - at) <= SECONDS


def _digest(key: bytes, text: bytes) -> str:
    return hmac.digest(key, text, "sha256").hex()
