"""Tools that every assistant has: to look at the session's own context and to fold it, for
sessions with the grant; and to ask another assistant."""

from dataclasses import dataclass

from sessile.core.context import TurnContext
from sessile.core.transcript import tokens_estimated
from sessile.kit.tools import FunctionTool
from sessile.ports.agent import ToolError

MANAGE_SESSIONS = "manage_sessions"


@dataclass(frozen=True)
class ContextStatus:
    """`tokens` is an estimate; `window_tokens` 0 where the assistant does not say."""

    messages: int
    tokens: int
    window_tokens: int
    last_summary: str | None


@dataclass(frozen=True)
class Folded:
    """What a summary stands for from the next turn on."""

    messages: int
    tokens: int
    summary_tokens: int


def context_tools(*, window_tokens: int) -> tuple[FunctionTool, FunctionTool]:
    """`context_status` and `context_summarize`, behind the grant."""

    async def context_status(turn: TurnContext) -> ContextStatus:
        """Tell how much of the conversation you are given: messages, tokens, the last summary."""
        messages = turn.history.messages
        summaries = [each.text for each in messages if each.role == "system"]
        return ContextStatus(
            messages=len(messages),
            tokens=tokens_estimated(messages),
            window_tokens=window_tokens,
            last_summary=summaries[-1] if summaries else None,
        )

    async def context_summarize(turn: TurnContext, summary: str) -> Folded:
        """Put a summary in place of all that was said before the user's last message. Nothing is
        deleted: users still see it all.

        Args:
            summary: what you will need to know of it, in your own words
        """
        if not summary.strip():
            raise ToolError("A summary says what was said.")
        before = [each for each in turn.history.messages if each.turn_id != turn.turn_id]
        await turn.summarize(summary)
        return Folded(
            messages=len(before),
            tokens=tokens_estimated(before),
            summary_tokens=len(summary) // 4 + 1,
        )

    return (
        FunctionTool(context_status, grant=MANAGE_SESSIONS, idempotent=True),
        FunctionTool(context_summarize, grant=MANAGE_SESSIONS),
    )


def delegation(assistant: str, description: str) -> FunctionTool:
    """A tool that has another assistant answer."""

    async def ask(turn: TurnContext, question: str) -> str:
        return await turn.ask(assistant, question)

    ask.__doc__ = f"""Ask the assistant {assistant}. {description}

    Args:
        question: all that it needs to know: it sees nothing else of this conversation
    """
    # Asked again after a loss, it is told of its calls what the log says of them.
    return FunctionTool(ask, name=f"ask.{assistant}", idempotent=True)
