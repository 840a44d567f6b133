"""Fail when modules import each other in a circle; TYPE_CHECKING and imports inside functions count.

    python tools/circles.py

An import may be left out of the count below, with its reason.
"""

from __future__ import annotations

import sys
from graphlib import CycleError, TopologicalSorter

import grimp

LEFT_OUT: set[tuple[str, str]] = set()


def main() -> int:
    """Print a circle of imports and return 1; return 0 if there is no circle."""
    graph = grimp.build_graph("stepwire", exclude_type_checking_imports=False)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    for importer, imported in sorted(LEFT_OUT):
        if imported not in imports.get(importer, ()):
            print(f"{importer} does not import {imported} any more: take it out of LEFT_OUT")
        else:
            imports[importer] = imports[importer] - {imported}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        print("modules import each other: " + " → ".join(reversed(error.args[1])))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
