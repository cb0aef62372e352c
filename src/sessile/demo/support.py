"""A support assistant of several companies: actions, and what a front end is shown of them as they
happen.

Companies are tenants. The actions are made once and shared by all sessions and both assistants;
each call is given the turn that asks. It speaks the public API alone: `/v1`, and Pusher channels,
on which `shown` says what an entry of the log is.
"""

import asyncio
import json
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sessile import Assistant, SessionId, ToolError, ToolResult, TurnContext

logger = logging.getLogger(__name__)

STEP_SECONDS = 0.2
STEPS = 10
ORDERS = range(1, 1000)
READING = ("debug.*", "orders.lookup")
"""What the assistant may use that changes nothing."""

SHOWN_AS = {
    "tool.started": "started",
    "tool.completed": "completed",
    "tool.failed": "failed",
    "tool.interrupted": "failed",
    "tool.refused": "failed",
}
HELP = (
    'I run actions: "show debug info", "look up order 7", "refund order 7", "run the slow report",'
    ' "try the failing tool", or "run" and the name of one.'
)
_ASKED = (
    (re.compile(r"\brun ([\w-]+(?:\.[\w-]+)+)", re.IGNORECASE), r"\1"),
    (re.compile(r"\b(?:debug|session) info\b", re.IGNORECASE), "debug.getSessionInfo"),
    (re.compile(r"\brefund\b", re.IGNORECASE), "orders.refund"),
    (re.compile(r"\borders?\b", re.IGNORECASE), "orders.lookup"),
    (re.compile(r"\bslow (?:report|task)\b", re.IGNORECASE), "reports.slow"),
    (re.compile(r"\bfail(?:s|ing)? tool\b", re.IGNORECASE), "debug.fail"),
)
"""What asks for which action; the first that fits counts."""
_NUMBER = re.compile(r"(?<!\d)\d{1,15}(?!\d)")
"""A whole one: a part of a longer number would be another order."""
NUMBERED = ("orders.lookup", "orders.refund")
WHICH = 'Which order? Say its number: "look up order 7", "refund order 7".'


@dataclass(frozen=True, slots=True)
class Order:
    """An order of a shop that there is not."""

    number: int
    status: str
    items: int
    total: float


@dataclass(frozen=True, slots=True)
class Refund:
    """What was given back."""

    number: int
    total: float


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """Where a call came from."""

    session_id: str
    turn_id: str
    company: str
    user_id: str
    assistant: str
    attempt: int


def assistants(*, step_seconds: float = STEP_SECONDS) -> tuple[Assistant, ...]:
    """The company's assistant, and one that may look and not touch: its actions are the same, and
    those that it may use are fewer. `step_seconds`: as in `declare_actions`."""
    support = Assistant("support", description="Answers for the shop: runs actions and shows them.")
    reader = Assistant(
        "support.reader",
        description="Answers for the shop, and changes nothing.",
        tools_allowed=READING,
    )
    declare_actions(support, step_seconds=step_seconds)
    for action in support.tools:
        reader.add(action)
    for each in (support, reader):
        each.agent(answer)
    return (support, reader)


def declare_actions(assistant: Assistant, *, step_seconds: float = STEP_SECONDS) -> None:
    """What the shop's assistants can do. `step_seconds`: the pause in each of the slow report's
    steps."""

    @assistant.tool("orders.lookup", idempotent=True)
    async def lookup(turn: TurnContext, number: int) -> Order:
        """Look up an order of the demo shop.

        Args:
            number: the order's number, from 1 to 999
        """
        return _order(number)

    @assistant.tool("orders.refund", approval=True)
    async def refund(turn: TurnContext, number: int) -> Refund:
        """Give back what an order has cost, once a person has approved it.

        Args:
            number: the order's number, from 1 to 999
        """
        return Refund(number, _order(number).total)

    @assistant.tool("reports.slow", idempotent=True)
    async def slow(turn: TurnContext) -> str:
        """Write a report, which takes a while and says how far it is."""
        for step in range(1, STEPS + 1):
            await asyncio.sleep(step_seconds)
            await turn.progress(note=f"Step {step} of {STEPS}")
        return f"The slow report is done, in {STEPS} steps."

    @assistant.tool("debug.fail")
    async def fail(turn: TurnContext) -> None:
        """A tool that always fails."""
        raise ToolError("This tool always fails, as it was asked to.")

    @assistant.tool("debug.getSessionInfo", idempotent=True)
    async def session_info(turn: TurnContext) -> SessionInfo:
        """Tell which session, turn, company and user this call belongs to."""
        return SessionInfo(
            session_id=turn.session_id,
            turn_id=turn.turn_id,
            company=turn.tenant_id,
            user_id=turn.user_id,
            assistant=turn.assistant,
            attempt=turn.attempt,
        )


def _order(number: int) -> Order:
    if number not in ORDERS:
        raise ToolError(f"There is no order {number}.")
    status = ("delivered", "shipped", "being packed")[number % 3]
    return Order(number, status, items=number % 5 + 1, total=round(number * 7.9, 2))


async def answer(turn: TurnContext) -> str:
    """Run the action that the text asks for, and say what came of it."""
    text = turn.input["text"]
    action = next((found.expand(to) for asked, to in _ASKED if (found := asked.search(text))), None)
    if action is None:
        return HELP
    number = _NUMBER.search(text) if action.startswith("orders.") else None
    if number is None and action in NUMBERED:
        return WHICH
    ids = {
        "tenant_id": turn.tenant_id,
        "session_id": turn.session_id,
        "turn_id": turn.turn_id,
    }
    logger.info("an action is asked for", extra=ids)
    result = await turn.call(action, **({"number": int(number[0])} if number else {}))
    logger.info("an action has ended", extra={**ids, "call_id": result.call_id})
    return _said(result)


def _said(result: ToolResult) -> str:
    if result.status != "completed":
        return f"{result.name} was {result.status}: {result.reason or 'no reason was given.'}"
    if isinstance(result.value, str):
        return result.value
    return f"{result.name}: {json.dumps(result.value)}"


def shown(
    session_id: SessionId, entry: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What the front end is shown of an entry of this session: an event's name and its data. An
    action has one `messageId` from its start to its end."""
    if (status := SHOWN_AS.get(entry["kind"])) is not None:
        body = entry["body"]
        ids = {"session_id": session_id, "turn_id": entry["turn_id"], "call_id": body["call_id"]}
        logger.info("an action is shown", extra=ids)
        yield (
            "action",
            {
                "sessionId": session_id,
                "messageId": body["message_id"],
                "turnId": entry["turn_id"],
                "action": body["name"],
                "status": status,
                "result": body.get("result"),
                "reason": body.get("reason", body.get("error")),
            },
        )
