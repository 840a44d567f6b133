"""TypeScript, by json-schema-to-typescript."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from stepwire.cli.generating.shapes import Shapes
from stepwire.cli.generating.tools import first_of, run

__all__ = ["typescript"]

GENERATOR: Final = "json-schema-to-typescript@15.0.4"
_REFERENCED: Final = re.compile(r" \* This interface was referenced by [^\n]*\n \* via the `definition` \"[^\"]*\"\.\n")
_ROOT: Final = "StepwireRoot"
_EMPTY_COMMENT: Final = re.compile(r"/\*\*\n(?: \*\s*\n)* \*/\n")


def typescript(shapes: Shapes, folder: Path, out: Path) -> str:
    """Return a module with the types, and a typed `startRun` for the client `@stepwire/client`."""
    schema = {"title": _ROOT, **_known(shapes.schema())}
    (folder / "schema.json").write_text(json.dumps(schema), "utf-8")
    command = first_of(
        ["npx", "--yes", GENERATOR, "--unreachableDefinitions", "--no-bannerComment", "--input", "schema.json"],
        missing="npx is not on the PATH, which runs the generator: install Node.js",
    )
    text = run(command, folder)
    text = text.replace(f"export interface {_ROOT} {{\n  [k: string]: unknown;\n}}\n", "")
    text = _EMPTY_COMMENT.sub("", _REFERENCED.sub("", text).replace("\n *\n */", "\n */"))
    title, result, state = shapes.title, shapes.result or "unknown", shapes.state or "{ [key: string]: any }"
    events = "".join(f'\n  | Typed<"{name}", {kind}>' for name, kind in shapes.events.items())
    return (
        f"// Types of the workflow {shapes.workflow}. Written by `stepwire generate`; do not edit.\n\n"
        'import type { Client, Run, StartOptions, Typed } from "@stepwire/client";\n\n'
        f"{text.strip()}\n\n"
        f"/** An event of a run of {shapes.workflow}: `type` says which. */\n"
        f"export type {title}Events ={events};\n\n"
        f"/** A run of {shapes.workflow}. */\n"
        f"export type {title}Run = Run<{title}Events, {result}, {state}>;\n\n"
        f"/** Start a run of {shapes.workflow}. */\n"
        f"export async function startRun(client: Client, input: {shapes.input}, options?: StartOptions): "
        f"Promise<{title}Run> {{\n"
        f"  return await client.start<{title}Events, {result}, {state}>("
        f"{json.dumps(shapes.workflow)}, input, options);\n}}\n"
    )


def _known(node: Any) -> Any:
    """Return a schema in what the generator knows.

    A tuple has `items` with a list, as before draft 2020-12. A schema that allows anything would become an object. A
    reference with anything beside it, such as a default, would become a type of its own with a number in its name.
    """
    if isinstance(node, list):
        return [_known(item) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("$ref"), str):
        return {"$ref": node["$ref"]}
    found = {key: _known(value) for key, value in node.items()}
    if isinstance(found.get("prefixItems"), list):
        found["items"] = found.pop("prefixItems")
    for name, each in found.get("properties", {}).items():
        found["properties"][name] = _any(each)
    for key in ("items", "additionalProperties"):
        if key in found:
            found[key] = _any(found[key])
    return found


def _any(schema: Any) -> Any:
    anything = isinstance(schema, dict) and not schema.keys() - {"default", "description"}
    return {**schema, "tsType": "unknown"} if anything else schema
