"""Two agents of LlamaIndex, served as they are: one hands over, the other has tools, and one tool asks a person.

stepwire serve examples/agents.py:team

There is no import of Stepwire. Without an API key a scripted model speaks, so that the example runs offline; with
`AGENTS_MODEL=gpt-4.1-mini`, `OPENAI_API_KEY` and the package llama-index-llms-openai a real one does.
"""

import os
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import LLM, ToolSelection
from workflows import Context
from workflows.events import HumanResponseEvent, InputRequiredEvent

ORDERS = {"A-17": 120.0, "B-4": 15.5}


def look_up(order: str) -> str:
    """Tell what an order cost."""
    return f"{order} cost {ORDERS[order]:.2f}" if order in ORDERS else f"there is no order {order}"


async def refund(ctx: Context, order: str) -> str:
    """Refund an order, once a person has agreed. The run waits for that on the disk, days if need be."""
    answer = await ctx.wait_for_event(
        HumanResponseEvent,
        waiter_event=InputRequiredEvent(text=f"Refund {order}?", order=order),
        requirements={"order": order},
        timeout=None,
    )
    return f"{order} is refunded" if answer.approved else f"{order} is not refunded"


class Scripted(FunctionCallingLLM):
    """Play one of the two agents: what it says follows from the messages alone, as with a real model."""

    part: str

    @property
    def metadata(self) -> LLMMetadata:
        """Say that it calls functions."""
        return LLMMetadata(is_function_calling_model=True, is_chat_model=True, model_name="scripted")

    def _next(self, messages: Sequence[ChatMessage]) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
        """Return what it says, and the tools that it calls."""
        asked = next(each.content or "" for each in reversed(messages) if each.role.value == "user")
        last = max(index for index, each in enumerate(messages) if each.role.value == "user")
        results = [each.content or "" for each in messages[last:] if each.role.value == "tool"]
        order = re.search(r"[A-Z]-\d+", asked)
        if order is None:
            return "Which order is it about?", []
        if self.part == "desk":
            return "", [("handoff", {"to_agent": "refunds", "reason": "it is about a refund"})]
        if not any("cost" in each or "no order" in each for each in results):
            return "", [("look_up", {"order": order[0]})]
        if "no order" in results[-1] or "refunded" in results[-1]:
            return f"{results[-1]}.", []
        return "", [("refund", {"order": order[0]})]

    def _message(self, messages: Sequence[ChatMessage]) -> ChatMessage:
        text, calls = self._next(messages)
        named = [{"id": f"{len(messages)}-{name}", "name": name, "arguments": given} for name, given in calls]
        return ChatMessage(role="assistant", content=text, additional_kwargs={"tool_calls": named} if named else {})

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer."""
        return ChatResponse(message=self._message(messages))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer."""
        return self.chat(messages)

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncIterator[ChatResponse]:
        """Answer word by word."""
        message = self._message(messages)

        async def words() -> AsyncIterator[ChatResponse]:
            said = ""
            for word in re.findall(r"\S+\s*", message.content or "") or [""]:
                said += word
                whole = ChatMessage(role="assistant", content=said, additional_kwargs=message.additional_kwargs)
                yield ChatResponse(message=whole, delta=word)

        return words()

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """Return the calls in an answer."""
        calls = response.message.additional_kwargs.get("tool_calls", [])
        return [ToolSelection(tool_id=c["id"], tool_name=c["name"], tool_kwargs=c["arguments"]) for c in calls]

    def _prepare_chat_with_tools(self, tools: Any, *args: Any, chat_history: Any = None, **kwargs: Any) -> Any:
        return {"messages": list(chat_history or [])}

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Refuse: an agent chats."""
        raise NotImplementedError

    acomplete = stream_complete = astream_complete = stream_chat = complete  # type: ignore[assignment]


def model(part: str) -> LLM:
    """Return the model that plays a part."""
    if name := os.environ.get("AGENTS_MODEL"):
        from llama_index.llms.openai import OpenAI

        return OpenAI(model=name)
    return Scripted(part=part)


team = AgentWorkflow(
    agents=[
        FunctionAgent(
            name="desk",
            description="Finds out what it is about",
            system_prompt="Find out what the customer wants. Hand refunds over to `refunds`.",
            can_handoff_to=["refunds"],
            llm=model("desk"),
        ),
        FunctionAgent(
            name="refunds",
            description="Refunds orders",
            system_prompt="Look the order up, refund it, and tell the customer in one sentence.",
            tools=[look_up, refund],
            llm=model("refunds"),
        ),
    ],
    root_agent="desk",
)
