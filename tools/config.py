"""Write docs/configuration.md from the settings.

python tools/config.py          write it
python tools/config.py check    exit with 1 when it is not current
"""

from __future__ import annotations

import sys
from pathlib import Path

from stepwire.server.config_errors import PREFIX
from stepwire.server.config_table import rows

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "configuration.md"

HEAD = f"""# Configuration

*Written by `make config` from `server/stepwire/server/config.py`; do not edit.*

A setting comes from, in this order: a flag of `stepwire serve`, the environment (`{PREFIX}` and its name), the TOML
file of `--config` (`{PREFIX}CONFIG`), the default. A wrong value stops the start with a message that names the setting.
Times are seconds or have a unit (`500ms`, `30s`, `5m`, `2h`, `30d`). Sizes are bytes or have a unit (`512KiB`, `16MiB`,
`1GiB`).

| setting | flag | default | meaning |
| ------- | ---- | ------- | ------- |
"""

TAIL = """
The TOML file uses the names of the first column:

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

[SECURITY.md](../SECURITY.md#access) describes the access file that `api_keys` names; `stepwire keys new` makes its
entries. The server reads the access file, the JWKS file and the TLS files again when they change.
"""


def configuration() -> str:
    """Return docs/configuration.md."""
    lines = []
    for row in rows():
        flag = f"`{row.flag}`" if row.flag else ""
        default = f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.name}` | {flag} | {default} | {row.description} |\n")
    return HEAD + "".join(lines) + TAIL


def main() -> int:
    """Write or check."""
    text = configuration()
    if PAGE.is_file() and PAGE.read_text() == text:
        return 0
    if sys.argv[1:] == ["check"]:
        print(f"{PAGE.relative_to(ROOT)} is not current: run make config")
        return 1
    PAGE.write_text(text)
    print(f"wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
