"""Nothing executes what a payload names: few modules could, and none of the service is among them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import stepwire.server.app  # everything that a server loads

SOURCES = Path(stepwire.server.app.__file__).parents[1]

DANGEROUS_MODULES = {
    "pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "importlib", "imp", "runpy", "code", "codeop",
    "subprocess", "pty", "ctypes", "yaml", "jsonpickle", "multiprocessing", "pkgutil", "xml",
}  # fmt: skip
DANGEROUS_CALLS = {"eval", "exec", "compile", "__import__", "execfile", "input", "breakpoint"}
DANGEROUS_NAMES = {
    "JsonPickleSerializer",
    "JsonSerializer",
    "PickleSerializer",
    "QualifiedNames",
    "import_module",
    "popen",
    "spawnv",
    "system",
}

ALLOWED = {
    # The library's own serializers, for use in process; the service has RegistrySerializer.
    "workflow/state/serializers.py": {
        "pickle",
        "JsonPickleSerializer",
        "JsonSerializer",
        "PickleSerializer",
        "QualifiedNames",
    },
    "workflow/context/context.py": {"JsonSerializer"},
    "workflow/context/dict_form.py": {"QualifiedNames"},
    "workflow/checkpointer.py": {"JsonSerializer"},
    "workflow/__init__.py": {"JsonPickleSerializer", "JsonSerializer", "PickleSerializer"},
    "workflow/context/__init__.py": {"JsonPickleSerializer", "JsonSerializer", "PickleSerializer"},
    "workflow/context/serializers.py": {"JsonPickleSerializer", "JsonSerializer", "PickleSerializer"},
    # Versions of installed packages, by importlib.metadata.
    "server/doctor/environment.py": {"importlib"},
    "server/telemetry/observing.py": {"importlib"},
    # The console's files, by importlib.resources, whose folder is fixed.
    "server/web/console_files.py": {"importlib"},
    # The version of the installed llama-index-workflows, by importlib.metadata.
    "workflow/llamaindex/versions.py": {"importlib"},
    # Names of 1.x payloads, in process.
    "workflow/codec/names.py": {"importlib", "import_module"},
}
"""Modules that may, besides the command line, which loads what the operator names."""

OPERATORS = ("cli/", "server/workflow_loading.py")


def uses(tree: ast.AST) -> Iterator[str]:
    """Give what a module uses that could execute something: imports, calls by name, and names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name for alias in node.names if (name := alias.name.partition(".")[0]) in DANGEROUS_MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (name := (node.module or "").partition(".")[0]) in DANGEROUS_MODULES:
                yield name
            yield from (alias.name for alias in node.names if alias.name in DANGEROUS_NAMES)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in DANGEROUS_CALLS:
            yield node.func.id
        elif isinstance(node, ast.Attribute) and node.attr in DANGEROUS_NAMES:
            yield node.attr
        elif isinstance(node, ast.Name) and node.id in DANGEROUS_NAMES:
            yield node.id


def test_who_could_execute_what_data_names():
    found = {}
    for path in sorted(SOURCES.rglob("*.py")):
        name = path.relative_to(SOURCES).as_posix()
        if not name.startswith(OPERATORS) and (used := set(uses(ast.parse(path.read_text())))):
            found[name] = used
    assert found == ALLOWED


def test_the_service_reads_attributes_by_names_of_its_own_only():
    # getattr(…, name) where the name is no constant, in what stands between the wire and the engine.
    found = []
    for part in ("server/rpc", "server/runs", "server/store", "server/auth"):
        for path in sorted((SOURCES / part).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id in {"getattr", "setattr", "delattr", "vars", "globals", "locals"}
                    and not (len(node.args) > 1 and isinstance(node.args[1], ast.Constant))
                ):
                    found.append(f"{path.relative_to(SOURCES).as_posix()}: {ast.unparse(node)}")
    assert found == [
        # The fields of a request that callers in this package name.
        "server/rpc/convert/times.py: getattr(request, field)",
        # The fields of a request that the audit log names, as its descriptor has them.
        "server/rpc/gate/audit.py: getattr(request, 'name' if RULES[method].workflow else 'workflow', '')",
        "server/rpc/gate/audit.py: getattr(request, source)",
        "server/rpc/gate/audit.py: getattr(request, name)",
        # The names of the statuses.
        "server/runs/fitness.py: vars(Status)",
        # The cause and the context of an error.
        "server/runs/hosting/redact.py: getattr(error, name)",
        "server/runs/hosting/redact.py: setattr(shown, name, value.with_traceback(frames))",
        # The fields of a schedule that an author declares, by the annotations of its class.
        "server/runs/scheduling/declared.py: getattr(declared, name)",
    ]
