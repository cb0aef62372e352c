"""An assistant, declared: its name, its tools, and what drives its turns."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar, overload

from sessile.core.context import TurnContext
from sessile.core.events import JsonObject
from sessile.core.transcript import History
from sessile.kit.captured import refuse_captured
from sessile.kit.context_tools import context_tools, delegation
from sessile.kit.intents import PhrasesFirst
from sessile.kit.pipeline import Pipeline
from sessile.kit.stages import Stages
from sessile.kit.tools import FunctionTool
from sessile.ports.agent import NAME, Agent, AgentEvent, AgentLoop, Tool, Tools
from sessile.ports.intents import Classifier, IntentSpec

F = TypeVar("F", bound=Callable[..., Any])


class Assistant:
    """What a user declares once, and all sessions share.

    `model` is a name (`demo`, `openai:gpt-5-mini`) or a model object of pydantic-ai; None is the
    rule-based demo model. `agent` is brought along in place of a model: an agent of pydantic-ai,
    or an async function or generator of `turn`, of `turn, history` or of `turn, history, tools`.
    `tools_allowed`: names or patterns such as `debug.*`. `owner_grants`: what a session's owner
    may grant to it; all else only operators and admins. `classifier` tells the intents apart.
    `window_tokens`: how much its model can be given; 0 where that is not known.
    """

    def __init__(
        self,
        name: str,
        *,
        model: Any = None,
        instructions: str = "",
        description: str = "",
        tools_allowed: Iterable[str] = ("*",),
        exclusive: bool = False,
        owner_grants: Iterable[str] = (),
        classifier: Classifier | None = None,
        window_tokens: int = 0,
        agent: Any = None,
    ) -> None:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no assistant name: it has the form {NAME.pattern}")
        if isinstance(tools_allowed, str) or isinstance(owner_grants, str):
            raise TypeError(f"{name}: tools_allowed and owner_grants are lists, not one string")
        self.name = name
        self.model = model
        self.instructions = instructions
        self.description = description
        self.tools_allowed = tuple(tools_allowed)
        self.exclusive = exclusive
        self.owner_grants = tuple(owner_grants)
        self.stages = Stages(PhrasesFirst() if classifier is None else classifier)
        self.brought: Any = None
        """The agent that was brought along, if one was."""
        self._tools: dict[str, Tool] = {}
        self.window_tokens = window_tokens
        if agent is not None:
            self._bring(agent)

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(self._tools.values())

    @overload
    def tool(self, function: F, /) -> F: ...

    @overload
    def tool(
        self,
        name: str | None = None,
        /,
        *,
        idempotent: bool = False,
        grant: str | None = None,
        approval: bool = False,
        timeout_seconds: float | None = None,
    ) -> Callable[[F], F]: ...

    def tool(
        self,
        name: Any = None,
        /,
        *,
        idempotent: bool = False,
        grant: str | None = None,
        approval: bool = False,
        timeout_seconds: float | None = None,
    ) -> Any:
        """Declare a tool: `@assistant.tool`, or `@assistant.tool("orders.lookup", …)`.

        Its function is async or, if it blocks, plain, and takes the turn first; the model fills in
        the other parameters, as their types and the docstring's `Args:` describe them.
        `idempotent` means: safe to run twice, even at the same time, with the same call id.
        `grant`: only sessions that were granted this may use it. `approval`: each call waits until
        a person approves it.
        """
        if callable(name):
            self.add(FunctionTool(name))
            return name

        def declared(function: F) -> F:
            self.add(
                FunctionTool(
                    function,
                    name=name,
                    idempotent=idempotent,
                    grant=grant,
                    approval=approval,
                    timeout_seconds=timeout_seconds,
                )
            )
            return function

        return declared

    def add(self, tool: Tool) -> None:
        """Add a tool that was made elsewhere. Raises CapturedContext where it holds a turn's."""
        if not isinstance(tool, FunctionTool):  # which has looked at its function itself
            refuse_captured(tool.call_blocking if tool.blocking else tool.invoke)
        clash = next((name for name in self._tools if _plain(name) == _plain(tool.name)), None)
        if clash is not None:
            # Providers take no dots: debug.info and debug_info would be one tool to a model.
            raise ValueError(f"{self.name} has a tool {clash!r} already: {tool.name!r}")
        self._tools[tool.name] = tool

    def button(self, name: str, *, label: str | None = None) -> Callable[[F], F]:
        """Declare what a press of the button `name` does: `async def (turn, payload)`.

        It answers with a `Reply`, a text, or None, which hands the press on to the direct handlers,
        the intents and the agent, in the same turn; so does a failure. The payload has the form of
        its annotation, else it is a dict. `label`: what a press without a text reads as.
        """

        def declared(function: F) -> F:
            self.stages.press(name, function, label=label)
            return function

        return declared

    def stale(self, function: F) -> F:
        """Declare what answers a press of a button that its message does not offer, or that this
        assistant does not know any more: `async def (turn)`. It answers as a button's does. Where
        none is declared, the first is told so in English, and the second refused as invalid."""
        self.stages.stale_handler(function)
        return function

    def direct(self, function: F) -> F:
        """Declare a handler that is asked before any intent or agent: `async def (turn)`. It
        answers as a button's does."""
        self.stages.direct_handler(function)
        return function

    def intent(
        self,
        name: str,
        *,
        examples: Iterable[str] = (),
        phrases: Iterable[str] = (),
        description: str = "",
    ) -> Callable[[F], F]:
        """Declare what answers texts like these: `async def (turn, intent)`. It answers as a
        button's does; a text that is like none goes to the agent."""
        spec = IntentSpec(
            name=name, description=description, examples=tuple(examples), phrases=tuple(phrases)
        )

        def declared(function: F) -> F:
            self.stages.intent(spec, function)
            return function

        return declared

    def delegate(self, to: "Assistant", *, description: str = "") -> None:
        """Offer another assistant as a tool, `ask.<name>`: it answers one question, by its own
        tools, and sees nothing else of the session."""
        self.add(delegation(to.name, description or to.description))

    def agent(self, function: F) -> F:
        """Declare the function that answers, in place of a model: it is async and returns its text,
        or yields texts and the `Button`s that it offers under them."""
        self._bring(function)
        return function

    def driven_by(self, loop: AgentLoop) -> Agent:
        """This assistant as the runtime runs it."""
        return _Driven(self, loop)

    def _bring(self, agent: Any) -> None:
        if self.brought is not None:
            raise ValueError(f"{self.name} has an agent already")
        if self.model is not None or self.instructions:
            raise ValueError(f"{self.name}: an agent brings its own model and instructions")
        if callable(agent):
            refuse_captured(agent)
        self.brought = agent

    def __repr__(self) -> str:
        return f"Assistant({self.name!r})"


class _Driven:
    """An assistant and what drives it. Later tools of the assistant are its tools too."""

    def __init__(self, assistant: Assistant, loop: AgentLoop) -> None:
        self._assistant = assistant
        self._loop = Pipeline(assistant.stages, loop)
        self._context_tools = context_tools(window_tokens=assistant.window_tokens)

    @property
    def name(self) -> str:
        return self._assistant.name

    @property
    def description(self) -> str:
        return self._assistant.description

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those of its own in place of what every assistant has."""
        own = {tool.name for tool in self._assistant.tools}
        return (*self._assistant.tools, *(t for t in self._context_tools if t.name not in own))

    @property
    def tools_allowed(self) -> tuple[str, ...]:
        return self._assistant.tools_allowed

    @property
    def exclusive(self) -> bool:
        return self._assistant.exclusive

    @property
    def owner_grants(self) -> tuple[str, ...]:
        return self._assistant.owner_grants

    def pressed(self, button: str, payload: JsonObject) -> str:
        return self._assistant.stages.pressed(button, payload)

    @property
    def reads_history(self) -> bool:
        return self._loop.reads_history

    @property
    def restarts(self) -> bool:
        return self._loop.restarts

    def run(self, turn: TurnContext, history: History, tools: Tools) -> AsyncIterator[AgentEvent]:
        return self._loop.run(turn, history, tools)


def _plain(name: str) -> str:
    return name.replace(".", "_")
