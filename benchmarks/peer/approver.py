"""An agent whose model needs no memory: on SQLite their server forgets what an agent remembers between two steps."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent

AGENTS = Path(__file__).resolve().parents[2] / "examples" / "agents.py"
_spec = importlib.util.spec_from_file_location("bench_team", AGENTS)
example = importlib.util.module_from_spec(_spec)
sys.modules["bench_team"] = example
_spec.loader.exec_module(example)

team = example.team


class Refunding(example.Scripted):
    """Refund, and say so."""

    def _next(self, messages: Sequence[Any]) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
        if any(each.role.value == "tool" for each in messages):
            return "It is done.", []
        return "", [("refund", {"order": "A-17"})]


approver = FunctionAgent(tools=[example.refund], llm=Refunding(part="refunds"))
