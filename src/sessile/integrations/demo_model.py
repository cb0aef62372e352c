"""The demo model: fixed rules in place of a language model, and it says so.

It needs no network and no weights. What it answers depends on nothing but the history and the
tools that it is given, so that it shows what a session remembers: a name told here is known here
and in no other session.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

WORD_SECONDS = 0.03
WORDS_MAX = 2_000

WHO = (
    "I am Sessile's demo assistant. There is no language model behind me: I follow a few fixed"
    " rules, and know only what was said in this session."
)
HELP = (
    'Try "my name is Ana", "what is my name?", "how many messages?", "look up order 7",'
    ' "compare orders 1 and 2", "refund order 7", "run the slow report", "try the failing tool",'
    ' "show debug info" or "write 200 words".'
)
WORDS = (
    "a session is one log and each turn adds to it what was asked what was said and what was done"
    " so that any reader who comes back finds all of it once and in order"
).split()


class Call(NamedTuple):
    """A tool call that a rule asks for."""

    tool: str
    arguments: dict[str, Any]


class Said(NamedTuple):
    """What happened since the last reply: the user's texts, and the calls that were made."""

    texts: list[str]
    calls: list[Call]
    results: list[ToolReturnPart]


def demo_model(*, word_seconds: float = WORD_SECONDS) -> FunctionModel:
    """The model, streaming a word at a time. `word_seconds`: the pause after each; 0 for none."""

    async def stream(
        messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | DeltaToolCalls]:
        answer = reply(messages, frozenset(tool.name for tool in info.function_tools))
        if isinstance(answer, list):
            for index, call in enumerate(answer):
                arguments = json.dumps(call.arguments)
                # As with some providers, the ids are the same in each response.
                called = DeltaToolCall(call.tool, arguments, tool_call_id=f"demo_{index}")
                yield {index: called}
            return
        for word in re.findall(r"\s*\S+", answer):
            yield word
            if word_seconds:
                await asyncio.sleep(word_seconds)

    return FunctionModel(stream_function=stream, model_name="sessile-demo")


def reply(messages: Sequence[ModelMessage], tools: frozenset[str]) -> str | list[Call]:
    """The text that answers the user, or the calls that must be made first."""
    asked = _texts(messages)
    said = _since_reply(messages)
    wanted = [_calls(text, tools) for text in said.texts]
    if missing := [call for calls in wanted for call in calls if call not in said.calls]:
        return missing
    outcomes = list(zip(said.calls, said.results, strict=False))
    answers: list[str] = []
    for text, calls in zip(said.texts, wanted, strict=True):
        if calls:
            answers.append(_told([each for each in outcomes if each[0] in calls]))
        else:
            answers.append(_answer(text, asked, tools))
    return " ".join(answers) or HELP


def _texts(messages: Sequence[ModelMessage]) -> list[str]:
    return [
        part.content
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, UserPromptPart) and isinstance(part.content, str)
    ]


def _since_reply(messages: Sequence[ModelMessage]) -> Said:
    said = Said([], [], [])
    for message in reversed(messages):
        if isinstance(message, ModelResponse):
            if not message.tool_calls:
                break
            said.calls[:0] = [_made(call) for call in message.tool_calls]
        else:
            results = [part for part in message.parts if isinstance(part, ToolReturnPart)]
            said.results[:0] = results
            said.texts[:0] = _texts([message])
    return said


def _made(call: ToolCallPart) -> Call:
    return Call(call.tool_name, call.args_as_dict())


def _calls(text: str, tools: frozenset[str]) -> list[Call]:
    lowered = text.lower()
    calls: list[Call] = []
    asked = re.search(r"\bask (\w+) (?:to|about|for) (.+)", lowered, re.DOTALL)
    if asked and f"ask_{asked[1]}" in tools:
        calls = [Call(f"ask_{asked[1]}", {"question": asked[2]})]
    elif to := re.search(r"\bhand me (?:over )?to ([\w.-]*\w)", lowered):
        calls = [Call("session_hand_off", {"assistant": to[1]})]
    elif (numbers := _orders(lowered)) and re.search(r"\brefund\b", lowered):
        calls = [Call("orders_refund", {"number": number}) for number in numbers]
    elif numbers:
        calls = [Call("orders_lookup", {"number": number}) for number in numbers]
    elif re.search(r"\bslow (report|task)\b", lowered):
        calls = [Call("reports_slow", {})]
    elif re.search(r"\bfail(s|ing)? tool\b|\btool that fails\b", lowered):
        calls = [Call("debug_fail", {})]
    elif re.search(r"\bdebug info|\bsession info", lowered):
        calls = [Call("debug_getSessionInfo", {})]
    return [call for call in calls if call.tool in tools]


def _orders(lowered: str) -> list[int]:
    match = re.search(r"\borders?\b\D{0,12}(\d{1,9})((?:\D{1,7}\d{1,9})*)", lowered)
    if match is None:
        return []
    return list(dict.fromkeys(int(number) for number in re.findall(r"\d+", match[0])))[:8]


def _told(outcomes: list[tuple[Call, ToolReturnPart]]) -> str:
    """What came of the calls."""
    sentences: list[str] = []
    for call, result in outcomes:
        content: Any = result.content
        if result.outcome != "success":
            sentences.append(f"The tool {call.tool} did not succeed: {content}")
        elif call.tool == "orders_lookup" and isinstance(content, dict):
            sentences.append(
                f"Order {content['number']} is {content['status']}:"
                f" {content['items']} items, {content['total']} EUR."
            )
        elif call.tool == "orders_refund" and isinstance(content, dict):
            sentences.append(f"Order {content['number']} is refunded: {content['total']} EUR.")
        elif isinstance(content, str):
            sentences.append(content)
        else:
            sentences.append(f"{call.tool}: {json.dumps(content)}")
    return " ".join(sentences)


def _answer(text: str, asked: list[str], tools: frozenset[str]) -> str:
    lowered = text.lower()
    if re.search(r"\bwhat('s| is| was) my name\b|\bwho am i\b", lowered):
        name = _name(asked)
        return (
            f"Your name is {name}." if name else "You have not told me your name in this session."
        )
    if name := _name([text]):
        return f"Nice to meet you, {name}."
    if re.search(r"\bhow many messages\b", lowered):
        count = len(asked)
        return f"You have sent {count} message{'s' * (count != 1)} in this session."
    if match := re.search(r"\bwrite (?:me )?(\d{1,9}) words\b", lowered):
        return _words(min(int(match[1]), WORDS_MAX))
    if re.search(
        r"\bwho are you\b|\bwhat are you\b|\bare you (an? )?(ai|bot|human|llm)\b", lowered
    ):
        return WHO
    if re.match(r"\W*(hello|hi|hey|bonjour|good (morning|evening|day))\b", lowered):
        return f"Hello! {WHO} {HELP}" if len(asked) == 1 else "Hello again!"
    if _orders(lowered):
        what = "refund" if re.search(r"\brefund\b", lowered) else "look up"
        return f"I cannot {what} orders here: that tool is not offered in this session."
    if re.search(r"\bhelp\b|\bwhat can you do\b", lowered):
        return HELP
    said = f'You said: "{text.strip()[:200]}".'
    return f"{said} {WHO} {HELP}" if len(asked) == 1 else f'{said} Ask for "help" to see my rules.'


def _name(texts: list[str]) -> str | None:
    for text in reversed(texts):
        if match := re.search(r"\bmy name is ([^\W\d_][\w'-]{0,40})", text, re.IGNORECASE):
            return match[1]
    return None


def _words(count: int) -> str:
    return " ".join(
        WORDS[place % len(WORDS)] + ("." if place % len(WORDS) == len(WORDS) - 1 else "")
        for place in range(count)
    )
