"""An agent whose model needs no memory: on SQLite their server forgets what an agent remembers between two steps."""

from collections.abc import Sequence
from typing import Any

from examples import agents
from llama_index.core.agent.workflow import FunctionAgent

team = agents.team


class Refunding(agents.Scripted):
    """Refund, and say so."""

    def _next(self, messages: Sequence[Any]) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
        if any(each.role.value == "tool" for each in messages):
            return "It is done.", []
        return "", [("refund", {"order": "A-17"})]


approver = FunctionAgent(tools=[agents.refund], llm=Refunding(part="refunds"))
