"""Run the conformance table with every client whose toolchain is here: `make conformance`."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.foreign import foreign, told
from benchmarks.harness import Bench, Row
from rich.console import Console
from rich.table import Table
from tests.serving import ROOT
from tests.system.conformance import servers, table
from tests.system.conformance.clients import Client, ClientError, ToolchainMissingError, clients
from tests.system.conformance.docs import write_matrix


@dataclass
class Column:
    """What a client gave."""

    client: Client
    skipped: str = ""
    problem: str = ""
    version: str = ""
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)


def main() -> None:
    """Build, run, print the matrix; exit with 1 for a red cell."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.conformance", description=__doc__)
    parser.add_argument("--only", nargs="*", metavar="CLIENT", help="only these clients, as Go; Python always runs")
    parser.add_argument("--scenario", default="", metavar="TEXT", help="only scenarios whose name holds this")
    parser.add_argument("--bench", action="store_true", help="also compare the streams with raw gRPC ones")
    parser.add_argument("--write-docs", action="store_true", help="put the matrix into docs/clients.md")
    parser.add_argument("--build", metavar="FOLDER", help="only build the clients in this folder, clients or examples")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)

    chosen = [client for client in clients() if options.only is None or client.name in ("Python", *options.only)]
    subprocess.run([sys.executable, "tools/protos.py", "deps"], cwd=ROOT, check=True)
    if options.build:
        chosen = [client for client in chosen if client.folder.parent == ROOT / options.build]
    columns = [_prepared(client, console) for client in chosen]
    if options.build:
        _explain([column for column in columns if column.problem], [], console)
        sys.exit(any(column.problem for column in columns))
    scenarios = [scenario for scenario in table.scenarios() if options.scenario in scenario["name"]]
    with tempfile.TemporaryDirectory(prefix="stepwire-conformance-") as directory:
        ready = [column for column in columns if not column.skipped and not column.problem]
        with servers.serving(Path(directory)) as serving:
            for column in ready:
                console.print(f"running {column.client.name}")
                _run(column, serving, scenarios, Path(directory))
    _compare(columns)
    console.print(matrix(columns, scenarios))
    _explain(columns, scenarios, console)
    figures = _bench(columns, console) if options.bench else []
    if options.write_docs:
        write_matrix(
            datetime.now(UTC).date(), columns, [scenario["name"] for scenario in scenarios], list(map(told, figures))
        )
        console.print("wrote docs/clients.md")
    red = any(column.problem or any(not line["ok"] for line in column.lines.values()) for column in columns)
    slow = any(not figure.met for figure in figures)
    sys.exit(1 if red or slow else 0)


def _prepared(client: Client, console: Console) -> Column:
    column = Column(client)
    console.print(f"building {client.name}" if client.build_commands else f"using {client.name}")
    try:
        client.build()
        column.version = client.version()
    except ToolchainMissingError as error:
        column.skipped = str(error)
        console.print(f"skipping {client.name}: {column.skipped}")
    except ClientError as error:
        column.problem = str(error)
    return column


def _run(column: Column, serving: servers.Serving, scenarios: list[dict[str, Any]], directory: Path) -> None:
    # It begins run ids, so "c++" will not do.
    prefix = re.sub(r"\W+", "-", column.client.name.lower().replace("+", "p"))
    fitting = (table.over_http(scenario, column.client.over) for scenario in scenarios)
    scenarios = [scenario for scenario in fitting if scenario is not None]
    document = {**table.document(serving, prefix), "scenarios": scenarios}
    path = directory / f"{prefix}.json"
    path.write_text(json.dumps(document, ensure_ascii=False), "utf-8")
    try:
        lines = column.client.run(path)
    except ClientError as error:
        column.problem = str(error)
        return
    column.lines = {line["scenario"]: line for line in lines}
    for scenario in scenarios:
        missing = {"scenario": scenario["name"], "ok": False, "detail": "no line came", "code": "", "reason": ""}
        column.lines.setdefault(scenario["name"], missing)


def _compare(columns: list[Column]) -> None:
    """Have every client see the code and reason that the reference driver saw."""
    reference = columns[0].lines
    for column in columns[1:]:
        for name, line in column.lines.items():
            seen, wanted = [(of.get("code"), of.get("reason")) for of in (line, reference.get(name, {}))]
            if line["ok"] and seen != wanted:
                line["ok"], line["detail"] = False, f"saw {seen}, Python {wanted}"


def matrix(columns: list[Column], scenarios: list[dict[str, Any]]) -> Table:
    """Return the matrix scenario by language, with the code and reason that all saw."""
    grid = Table("scenario", *(column.client.name for column in columns), "last error", row_styles=("", "dim"))
    for scenario in scenarios:
        name = scenario["name"]
        grid.add_row(name, *(_cell(column, name) for column in columns), seen(columns, name))
    return grid


def seen(columns: list[Column], name: str) -> str:
    """Return the code and reason that the scenario met last."""
    line = next((column.lines[name] for column in columns if name in column.lines), {"code": "", "reason": ""})
    return " ".join(filter(None, (line["code"], line["reason"])))


def _cell(column: Column, name: str) -> str:
    if column.skipped:
        return "[yellow]skipped"
    if name not in column.lines:
        return "[red]no run" if column.problem else "-"
    return "[green]ok" if column.lines[name]["ok"] else "[red]FAILED"


def _explain(columns: list[Column], scenarios: list[dict[str, Any]], console: Console) -> None:
    for column in columns:
        name = column.client.name
        if column.skipped:
            console.print(f"[yellow]{name} skipped: {column.skipped}")
        elif column.problem:
            console.print(f"[red]{name} failed:", end=" ")
            console.print(column.problem, markup=False)
        else:
            good = sum(line["ok"] for line in column.lines.values())
            console.print(f"{name}: {good} of {len(column.lines)} ({column.version})")
            for line in column.lines.values():
                if not line["ok"]:
                    console.print(f"  {line['scenario']}: {line['detail']}", markup=False)


def _bench(columns: list[Column], console: Console) -> list[Row]:
    able = [column.client for column in columns if column.client.bench and not column.skipped and not column.problem]
    figures: list[Row] = []
    if able:
        with tempfile.TemporaryDirectory(prefix="stepwire-bench-") as directory:
            figures = asyncio.run(_measured(Bench(Path(directory), repeats=21), able))
        for figure in figures:
            console.print(told(figure))
    return figures


async def _measured(bench: Bench, able: list[Client]) -> list[Row]:
    return [figure async for figure in foreign(bench, able)]


if __name__ == "__main__":
    main()
