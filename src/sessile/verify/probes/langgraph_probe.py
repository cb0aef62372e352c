"""A probe for `sessile verify --probe`, as a graph of LangGraph (and so of Aegra): name it in
`langgraph.json` as the mapping does. What it does is in the table of docs/verify.md."""

import asyncio
import json
import re
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt

NONCE = re.compile("vq[0-9a-f]{32}")
COMMAND = re.compile("probe: ([a-z]+)")
CALLS = {"call": "probe_look", "break": "probe_break", "ask": "probe_ask"}


def given(config: RunnableConfig) -> dict[str, Any]:
    within = config["configurable"]
    return {
        "session": within.get("thread_id"),
        "turn": str(within.get("run_id") or config.get("run_id")),
        "principal": within.get("langgraph_auth_user_id"),
    }


@tool
def probe_look(config: RunnableConfig) -> str:
    """Say what it was given."""
    return json.dumps(given(config))


@tool
def probe_break() -> str:
    """Fail."""
    raise RuntimeError("it was to fail")


@tool
def probe_ask(config: RunnableConfig) -> str:
    """Wait for an approval."""
    interrupt("may it?")
    return json.dumps(given(config))


TOOLS = [probe_look, probe_break, probe_ask]


async def answer(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
    messages = state["messages"]
    place = max(n for n, each in enumerate(messages) if isinstance(each, HumanMessage))
    text = str(messages[place].text)
    command = (COMMAND.findall(text) or [""])[0]
    results = [each for each in messages[place:] if isinstance(each, ToolMessage)]
    if not command or command == "wait":
        await asyncio.sleep(1 if command else 0)
        return {"messages": [AIMessage(text)]}
    if command == "fail":
        raise RuntimeError("it was to fail")
    if command in CALLS and not results:
        call = {"name": CALLS[command], "args": {}, "id": f"call-{NONCE.findall(text)[0]}"}
        return {"messages": [AIMessage("", tool_calls=[call])]}
    told = {"probe": command, "agent": given(config), **shown(messages, text)}
    if results:
        failed = results[-1].status == "error"
        told["refused" if failed else "tool"] = (
            results[-1].text if failed else json.loads(results[-1].text)
        )
    return {"messages": [AIMessage(json.dumps(told))]}


def shown(messages: list[BaseMessage], text: str) -> dict[str, Any]:
    calls: dict[str, int] = {}
    for each in messages:
        for call in getattr(each, "tool_calls", ()):
            calls.setdefault(call["id"], 0)
        if isinstance(each, ToolMessage):
            calls[each.tool_call_id] = calls.get(each.tool_call_id, 0) + 1
    words = NONCE.findall(" ".join(str(each.text) for each in messages))
    return {
        "nonce": (NONCE.findall(text) or [""])[0], "offered": [each.name for each in TOOLS],
        "nonces": list(dict.fromkeys(words)), "calls": calls,
    }  # fmt: skip


graph = (
    StateGraph(MessagesState)
    .add_node("answer", answer)
    .add_node("tools", ToolNode(TOOLS))
    .add_edge(START, "answer")
    .add_conditional_edges("answer", tools_condition)
    .add_edge("tools", "answer")
    .compile()
)
