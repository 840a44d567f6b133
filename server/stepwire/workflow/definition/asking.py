"""Find the questions that steps ask by `wait_for_event`, from their source: no signature tells of them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from stepwire.workflow.events import Event

__all__ = ["Asked", "asked_in"]


class Asked(NamedTuple):
    """A wait in a step: the type of the answer, and that of the question that is written, if one is."""

    answer: type[Event]
    question: type[Event] | None


def asked_in(function: Callable[..., Any]) -> list[Asked]:
    """Return the waits in the source of a step, and of the methods of its class that it calls.

    Only what can be read is found: types that are named where the wait is made, not computed ones.
    """
    found: dict[Asked, None] = {}
    seen: set[FunctionType] = set()
    todo: list[Any] = [function]
    while todo:
        bound = todo.pop()
        plain = inspect.unwrap(getattr(bound, "__func__", bound))
        if not isinstance(plain, FunctionType) or plain in seen:
            continue
        seen.add(plain)
        tree = _tree_of(plain)
        if tree is None:
            continue
        names = _names_of(plain)
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            if not isinstance(call.func, ast.Attribute):
                continue
            if call.func.attr == "wait_for_event":
                if (asked := _asked(call, tree, names)) is not None:
                    found[asked] = None
            elif isinstance(call.func.value, ast.Name) and call.func.value.id == "self":
                owner = getattr(function, "__self__", None)
                method = None if owner is None else getattr(type(owner), call.func.attr, None)
                if isinstance(method, FunctionType):
                    todo.append(method.__get__(owner))
    return list(found)


def _tree_of(function: FunctionType) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):  # compiled, or made at run time
        return None


def _names_of(function: FunctionType) -> Mapping[str, Any]:
    """Return what the names in a function stand for: those of its module, and of what encloses it."""
    enclosed: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            enclosed[name] = cell.cell_contents
        except ValueError:  # not bound yet
            continue
    return {**function.__globals__, **enclosed}


def _asked(call: ast.Call, tree: ast.AST, names: Mapping[str, Any]) -> Asked | None:
    given = dict(zip(("event_type", "waiter_event"), call.args, strict=False))
    given |= {word.arg: word.value for word in call.keywords if word.arg is not None}
    answer = _type_of(given.get("event_type"), names)
    if answer is None:
        return None
    return Asked(answer, _made_by(given.get("waiter_event"), tree, names))


def _made_by(node: ast.expr | None, tree: ast.AST, names: Mapping[str, Any]) -> type[Event] | None:
    """Return the type of an event that is made where it is given, or in an assignment to the name that is given."""
    if isinstance(node, ast.Call):
        return _type_of(node.func, names)
    if isinstance(node, ast.Name):
        for value in _assigned(node.id, tree):
            if isinstance(value, ast.Call) and (found := _type_of(value.func, names)) is not None:
                return found
    return None


def _assigned(name: str, tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(isinstance(it, ast.Name) and it.id == name for it in node.targets):
            yield node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            yield from [] if node.value is None else [node.value]


def _type_of(node: ast.expr | None, names: Mapping[str, Any]) -> type[Event] | None:
    """Return the class of events that a name, or an attribute of a module, stands for."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = names.get(node.value.id)
        found = getattr(module, node.attr, None) if isinstance(module, ModuleType) else None
    elif isinstance(node, ast.Name):
        found = names.get(node.id)
    else:
        return None
    return found if isinstance(found, type) and issubclass(found, Event) else None
