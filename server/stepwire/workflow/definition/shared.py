"""Find steps that assign to `self`: all runs of a workflow object share it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["assigned_to_self", "steps_that_share"]


def steps_that_share(steps: Mapping[str, Callable[..., Any]]) -> dict[str, list[str]]:
    """Return the attributes of `self` that steps assign to, by the name of the step; other steps are left out."""
    found = {name: assigned_to_self(function) for name, function in steps.items()}
    return {name: attributes for name, attributes in found.items() if attributes}


def assigned_to_self(function: Callable[..., Any]) -> list[str]:
    """Return the attributes of `self` that a method assigns to, sorted; none if its source is not to be had."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # made by exec, or not a function of Python's
        return []
    found = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    definition = next(found, None)
    parameters = [] if definition is None else [*definition.args.posonlyargs, *definition.args.args]
    if definition is None or not parameters or parameters[0].arg not in ("self", "cls"):
        return []
    stored = (node for node in ast.walk(definition) if isinstance(node, ast.Attribute))
    owner = parameters[0].arg
    return sorted(
        {
            node.attr
            for node in stored
            if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == owner
        }
    )
