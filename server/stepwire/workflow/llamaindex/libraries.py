"""What values of an adopted workflow may be made of, and what is done at load so that no run pays for it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

from stepwire.workflow.codec.libraries import add_library
from stepwire.workflow.llamaindex import installed

__all__ = ["is_memory", "message_type", "modules_of", "prepare"]

logger = logging.getLogger("stepwire.workflow")

_PACKAGES = ("llama_index", "workflows")
_DEPTH = 6
"""How deep to look into a workflow for its tools and agents."""


def prepare(workflow: Any) -> None:
    """Know the libraries' types, import what is slow, and warn of what a restart would lose."""
    for package in _PACKAGES:
        add_library(package)
    core = sys.modules.get("llama_index.core")
    if core is not None:
        _load_tokenizer()
    for part in _parts(workflow):
        if (told := lost_with_the_process(part)) is not None:
            logger.warning("workflow %s: %s", type(workflow).__name__, told)


def lost_with_the_process(value: object) -> str | None:
    """Return what to say of a memory whose messages do not outlive the process; None for anything else."""
    kind = type(value)
    if kind.__name__ != "Memory" or not kind.__module__.startswith("llama_index.core.memory"):
        return None
    uri = str(getattr(getattr(value, "sql_store", None), "async_database_uri", "") or "")
    if uri and ":memory:" not in uri:
        return None
    return (
        "its Memory keeps messages in RAM, and a restart loses them:"
        " give it a file, as in Memory.from_defaults(async_database_uri='sqlite+aiosqlite:///memory.db'),"
        " or use ChatMemoryBuffer, which lies in the state"
    )


def is_memory(value: object) -> bool:
    """Tell whether a value is a memory of LlamaIndex: its maker shares it with the agents that get it."""
    return any(
        base.__name__ == "BaseMemory" and base.__module__.startswith("llama_index.core.memory")
        for base in type(value).__mro__
    )


def message_type(cls: type) -> Any:
    """Return the class of the message that an agent starts with; None if the event class is no start of an agent.

    Their class makes messages of a history that is JSON, and not of `user_msg`.
    """
    if cls.__name__ != "AgentWorkflowStartEvent" or not cls.__module__.startswith("llama_index.core.agent"):
        return None
    return getattr(sys.modules.get("llama_index.core.base.llms.types"), "ChatMessage", None)


def modules_of(workflow: Any, home: str) -> tuple[str, ...]:
    """Return the names of the modules whose events and models may occur in runs: its own, and those of its tools."""
    found = {home: None, type(workflow).__module__: None}
    for part in _parts(workflow):
        for name in ("fn", "real_fn", "_real_fn", "_fn", "_async_fn"):
            function = getattr(part, name, None)
            if callable(function) and isinstance(module := getattr(function, "__module__", None), str):
                found[module] = None
        if installed.is_workflow(part):
            found[type(part).__module__] = None
    return tuple(name for name in found if name.partition(".")[0] not in _PACKAGES)


def _parts(workflow: Any) -> Iterator[Any]:
    """Give the objects that a workflow holds: its agents, their tools and memories."""
    seen: set[int] = set()
    pending: list[tuple[Any, int]] = [(workflow, 0)]
    while pending:
        value, depth = pending.pop()
        if id(value) in seen or depth > _DEPTH:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, dict):
            pending += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list | tuple | set):
            pending += [(item, depth + 1) for item in value]
        elif type(value).__module__.partition(".")[0] in _PACKAGES or installed.is_workflow(value):
            pending += [(item, depth + 1) for item in getattr(value, "__dict__", {}).values()]
            pending += [(item, depth + 1) for item in (getattr(value, "__pydantic_private__", None) or {}).values()]


def _load_tokenizer() -> None:
    """Load the tokenizer that memories are made with: the first one takes a second, and would hold up every run."""
    from llama_index.core.utils import get_tokenizer

    try:
        get_tokenizer()
    except Exception as error:  # noqa: BLE001 - it may want a file that is not to be had; memories will say so
        logger.warning("the tokenizer of llama-index cannot be loaded: %s", type(error).__name__)
