"""LangGraph's echo: a graph of one node, which answers the same text."""

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph


async def _echo(state: MessagesState) -> MessagesState:
    return {"messages": [AIMessage(state["messages"][-1].content)]}


graph = StateGraph(MessagesState).add_node("echo", _echo).add_edge(START, "echo").compile()
