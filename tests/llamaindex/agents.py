"""Agents on a model that obeys: a user message is a JSON list of tool calls, and the answer tells their results.

What the model says follows from the messages alone, so any process may be asked. Each call of a tool is a line of the
file that TOOL_LOG names.
"""

import json
import os
from typing import Any

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from workflows import Context
from workflows.events import Event, HumanResponseEvent, InputRequiredEvent


class Obedient(FunctionCallingLLM):
    """Call the tools that the last user message lists, and then tell what they gave."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_function_calling_model=True, is_chat_model=True)

    def _reply(self, messages: Any) -> ChatMessage:
        last = max(index for index, each in enumerate(messages) if each.role.value == "user")
        results = [each.content for each in messages[last + 1 :] if each.role.value == "tool"]
        calls = [] if results else json.loads(messages[last].content)
        if not calls:
            return ChatMessage(role="assistant", content="; ".join(map(str, results)) or "nothing to do")
        wanted = [{"id": f"{last}-{at}", "name": name, "arguments": args} for at, (name, args) in enumerate(calls)]
        return ChatMessage(role="assistant", content="", additional_kwargs={"tool_calls": wanted})

    def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        return ChatResponse(message=self._reply(messages))

    async def achat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        return self.chat(messages)

    async def astream_chat(self, messages: Any, **kwargs: Any) -> Any:
        reply = self._reply(messages)

        async def words() -> Any:
            said = ""
            for word in (reply.content or "").split(" "):
                said = f"{said} {word}".strip()
                message = ChatMessage(role="assistant", content=said, additional_kwargs=reply.additional_kwargs)
                yield ChatResponse(message=message, delta=word, raw={"opaque": object()})

        return words()

    def _prepare_chat_with_tools(self, tools: Any, user_msg: Any = None, chat_history: Any = None, **kw: Any) -> Any:
        return {"messages": list(chat_history or [])}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        wanted = response.message.additional_kwargs.get("tool_calls", [])
        return [ToolSelection(tool_id=w["id"], tool_name=w["name"], tool_kwargs=w["arguments"]) for w in wanted]

    def complete(self, *args: Any, **kwargs: Any) -> CompletionResponse:
        raise NotImplementedError

    acomplete = stream_complete = astream_complete = stream_chat = complete  # type: ignore[assignment]


def note(line: str) -> None:
    """Write a line of the log of tools."""
    if path := os.environ.get("TOOL_LOG"):
        with open(path, "a") as log:
            log.write(line + "\n")


class Step(Event):
    """How far a tool is; no signature of a step names it."""

    number: int


class Machine:
    """What no serializer knows."""

    def __str__(self) -> str:
        return "a machine"


def multiply(a: int, b: int) -> int:
    """Multiply."""
    note(f"multiply {a} {b}")
    return a * b


async def approve(ctx: Context, what: str) -> str:
    """Do something once a person says yes."""
    ctx.write_event_to_stream(Step(number=1))
    answer = await ctx.wait_for_event(
        HumanResponseEvent,
        waiter_event=InputRequiredEvent(prefix=f"May I {what}?", what=what),
        requirements={"what": what},
    )
    note(f"approved {what}")
    return f"{what}: {answer.response}"


def make() -> Machine:
    """Return an object."""
    return Machine()


async def ask_helper(what: str) -> str:
    """Let another agent do it, which asks a person."""
    return str(await helper.run(user_msg=json.dumps([["approve", {"what": what}]])))


helper = FunctionAgent(name="helper", tools=[approve], llm=Obedient())
agent = FunctionAgent(name="agent", tools=[multiply, approve, make, ask_helper], llm=Obedient())
team = AgentWorkflow(
    agents=[
        FunctionAgent(
            name="front", description="Hands over", llm=Obedient(), can_handoff_to=["back"], tools=[multiply]
        ),
        FunctionAgent(name="back", description="Works", tools=[multiply, approve], llm=Obedient()),
    ],
    root_agent="front",
)
