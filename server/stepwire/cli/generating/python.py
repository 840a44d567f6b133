"""Python, by datamodel-code-generator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from stepwire.cli.generating.shapes import Shapes
from stepwire.cli.generating.tools import first_of, run

__all__ = ["python"]

GENERATOR: Final = "datamodel-code-generator==0.89.0"
_OPEN: Final = {"additionalProperties": True}
_OPTIONS: Final = [
    *("--input-file-type", "jsonschema", "--input", "schema.json", "--output", "types.py"),
    *("--output-model-type", "pydantic_v2.BaseModel", "--formatters", "builtin", "--target-python-version", "3.11"),
    *(
        "--enum-field-as-literal",
        "all",
        "--use-schema-description",
        "--use-standard-collections",
        "--use-union-operator",
    ),
    *("--disable-timestamp", "--collapse-root-models", "--strict-nullable", "--output-datetime-class", "datetime"),
]


def python(shapes: Shapes, folder: Path, out: Path) -> str:
    """Return a module with pydantic classes for `Client(events=EVENTS)`, and a typed `start_run`."""
    # A newer server, or a dynamic field, may bring more than the class declares.
    open_ended = {
        name: {**schema, **_OPEN} if "properties" in schema else schema for name, schema in shapes.definitions.items()
    }
    (folder / "schema.json").write_text(json.dumps({**shapes.schema(), "$defs": open_ended}), "utf-8")
    command = first_of(
        ["datamodel-codegen", *_OPTIONS],
        ["uvx", "--from", GENERATOR, "datamodel-codegen", *_OPTIONS],
        ["pipx", "run", "--spec", GENERATOR, "datamodel-codegen", *_OPTIONS],
        missing=f"datamodel-codegen is not on the PATH: pip install '{GENERATOR}', or install uv or pipx",
    )
    run(command, folder)
    head, future, body = (folder / "types.py").read_text("utf-8").partition("from __future__ import annotations\n")
    if not future:
        body, head = head, ""
    events = "".join(f"\n    {kind}," for kind in sorted(set(shapes.events.values())))
    result = shapes.result or "Any"
    return (
        f'"""Types of the workflow {shapes.workflow}. Written by `stepwire generate`; do not edit."""\n\n'
        "from __future__ import annotations\n\n"
        "from typing import Any as _Any\n\n"
        "from stepwire.client import Client as _Client\n"
        "from stepwire.client import Run as _Run\n"
        f"{_without_root(body)}\n\n\n"
        f"EVENTS = ({events}\n)\n"
        '"""The classes of all events, for `Client(events=EVENTS)`."""\n\n\n'
        f"async def start_run(client: _Client, input: {shapes.input}, /, **options: _Any) -> _Run:\n"
        f'    """Start a run of {shapes.workflow}; `options` are those of `Client.start_run`."""\n'
        f"    return await client.start_run({shapes.workflow!r}, input, events=EVENTS, **options)\n\n\n"
        f"async def result(run: _Run, timeout: float | None = None) -> {result.replace('Any', '_Any')}:\n"
        '    """Wait for the end of the run and return its result."""\n'
        f"    return await run.result(timeout, as_={'None' if shapes.result is None else shapes.result})\n"
    )


def _without_root(body: str) -> str:
    """Return the classes without the one that the generator makes of the document itself."""
    found = [part for part in body.strip().split("\n\n\n") if not part.startswith("class Model(")]
    return "\n\n\n".join(found)
