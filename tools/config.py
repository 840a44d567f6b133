"""Write what follows from the settings: docs/configuration.md and the options of `stepwire serve`.

python tools/config.py          write them
python tools/config.py check    exit with 1 when one is not current
"""

from __future__ import annotations

import sys
from pathlib import Path

from stepwire.server.config import PREFIX, Row, rows

ROOT = Path(__file__).resolve().parent.parent

HEAD = f"""# Configuration

*Written by `make config` from `server/stepwire/server/config.py`; do not edit.*

A setting comes from, in this order: a flag of `stepwire serve`, the environment (`{PREFIX}` and its name), the TOML
file of `--config` (`{PREFIX}CONFIG`), the default. A value that is wrong stops the start with a message that names the
setting. Times are seconds or have a unit (`500ms`, `30s`, `5m`, `2h`, `30d`), sizes are bytes or have one (`512KiB`,
`16MiB`, `1GiB`).

| setting | flag | default | meaning |
| ------- | ---- | ------- | ------- |
"""

TAIL = """
In the TOML file the names are those of the first column:

```toml
address = "0.0.0.0:50051"
data = "/var/lib/stepwire"
tls_cert = "/etc/stepwire/tls.crt"
tls_key = "/etc/stepwire/tls.key"
api_keys = "/etc/stepwire/access.toml"
max_event_bytes = "256KiB"
retention_age = "30d"

[retention_workflows.orders]
age = "365d"
runs = 10_000
entries = 100_000
```

The access file that `api_keys` names is described in [SECURITY.md](../SECURITY.md#access); `stepwire keys new` makes
its entries. The access file, the JWKS file and the TLS files are read again when they change.
"""

OPTIONS_HEAD = '''"""The settings as options of serve. Written by `make config` from config.py; do not edit."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["OPTIONS", "ServeOption"]


class ServeOption(NamedTuple):
    """A setting as an option; `switch` options take no value."""

    name: str
    metavar: str
    switch: bool
    help: str


OPTIONS: Final = (
'''


def configuration() -> str:
    """Return docs/configuration.md."""
    lines = []
    for row in rows():
        flag = f"`{row.flag}`" if row.flag else ""
        default = f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.name}` | {flag} | {default} | {row.description} |\n")
    return HEAD + "".join(lines) + TAIL


def options() -> str:
    """Return the module of options."""
    body = "".join(_option(row) for row in rows() if row.flag)
    return f"{OPTIONS_HEAD}{body})\n"


def _option(row: Row) -> str:
    switch = "/" in row.flag
    text = row.description.replace("`", "")
    if row.default and not switch:
        text += f" Default: {row.default}."
    fields = [row.name, row.metavar, switch, text]
    inner = "".join(f"        {_literal(field)},\n" for field in fields)
    return f"    ServeOption(\n{inner}    ),\n"


def _literal(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


FILES = {
    ROOT / "docs" / "configuration.md": configuration,
    ROOT / "server" / "stepwire" / "cli" / "_options.py": options,
}


def main() -> int:
    """Write or check."""
    stale = [path for path, text in FILES.items() if not path.is_file() or path.read_text() != text()]
    if sys.argv[1:] == ["check"]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not current: run make config")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(FILES[path]())
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
