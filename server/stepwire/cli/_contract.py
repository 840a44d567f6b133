"""The protos of the contract with everything that they import."""

from __future__ import annotations

import importlib.metadata
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

__all__ = ["contract_files"]

_STATUS = "google/rpc/status.proto"


def contract_files() -> dict[str, bytes]:
    """Return the content of each file by its path, such as stepwire/v1/types.proto.

    Raises:
        FileNotFoundError: The installation lacks them.
    """
    packed = files("stepwire.cli") / "contract"
    found = {f"google/{name}": data for name, data in _below(packed / "google").items()}
    # In a wheel they are beside this module, in a checkout in its protos/.
    own = packed / "stepwire"
    if not own.is_dir():
        own = Path(__file__).resolve().parents[3] / "protos" / "stepwire"
    found |= {f"stepwire/{name}": data for name, data in _below(own).items()}
    found[_STATUS] = _status()
    return dict(sorted(found.items()))


def _below(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for item in folder.iterdir():
        name = f"{prefix}{item.name}"
        if item.is_dir():
            found |= _below(item, f"{name}/")
        elif name.endswith(".proto"):
            found[name] = item.read_bytes()
    return found


def _status() -> bytes:
    for file in importlib.metadata.files("googleapis-common-protos") or ():
        if file.as_posix() == _STATUS:
            return Path(str(file.locate())).read_bytes()
    raise FileNotFoundError(2, "googleapis-common-protos has no such file", _STATUS)
