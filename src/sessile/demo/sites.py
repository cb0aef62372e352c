"""A construction crew's message bot: greet, view the sites, pick one, see its tasks.

It speaks English and French, and its own wire format, which knows no session id: a sender's
active session is found or opened once, and named in every reply.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sessile import (
    Assistant,
    Button,
    Intent,
    Opened,
    Principal,
    Reply,
    Server,
    SessileError,
    SessionId,
    Submitted,
    TenantId,
    ToolError,
    TurnContext,
    UserId,
)

TENANT = TenantId("demo")
WAIT_SECONDS = 30.0
TRIES = 3
"""A session may be closed between being found and being written to; so often another is opened."""
MESSAGES_LOOKED_AT = 50
"""How far back a pressed button may have been offered, to be shown by its label."""

Language = Literal["en", "fr"]

WORDS: dict[Language, frozenset[str]] = {
    "en": frozenset("hello hi hey good morning view show my site sites tasks".split()),
    "fr": frozenset("bonjour salut bonsoir voir mes chantier chantiers".split()),
}
MENU = {
    "en": "Hello! Which of your sites do you work on today?",
    "fr": "Bonjour ! Sur quel chantier travaillez-vous aujourd'hui ?",
}
VIEW = {"en": "View sites", "fr": "Voir les chantiers"}
SITES = {"en": "Your sites:", "fr": "Vos chantiers :"}
TASKS = {"en": "Tasks at {site}:", "fr": "Tâches de {site} :"}
NO_TASKS = {"en": "Nothing is left to do at {site}.", "fr": "Plus rien à faire à {site}."}
BACK = {"en": "Other sites", "fr": "Autres chantiers"}
UNKNOWN = {
    "en": 'I do not know what to do with that. Say "view sites" to see yours.',
    "fr": "Je ne sais pas quoi en faire. Dites « voir les chantiers » pour voir les vôtres.",
}
LATE = {
    "en": "This button is no longer in use. Your sites are here:",
    "fr": "Ce bouton n'est plus d'actualité. Vos chantiers sont ici :",
}
UNREACHABLE = {
    "en": "I cannot reach the site office right now. Please try again in a minute.",
    "fr": "Le bureau de chantier ne répond pas. Réessayez dans une minute.",
}


class Project(BaseModel):
    """A building site."""

    id: str
    name: str


@dataclass(frozen=True)
class Office:
    """What the company's own system knows. A real one would be asked over a network."""

    sites: tuple[Project, ...] = (
        Project(id="p1", name="Maple Tower"),
        Project(id="p2", name="Les Tilleuls"),
        Project(id="p3", name="Harbour Bridge"),
    )
    todo: tuple[tuple[str, str], ...] = (
        ("p1", "Pour the slab of level 4"),
        ("p1", "Fix the east scaffold"),
        ("p2", "Poser les fenêtres du rez-de-chaussée"),
    )

    async def projects(self) -> list[Project]:
        return list(self.sites)

    async def tasks(self, project: str) -> list[str]:
        return [task for of, task in self.todo if of == project]


class Pick(BaseModel):
    """Which site was picked."""

    project: str


def assistants(office: Office | None = None) -> tuple[Assistant, ...]:
    """The bot. Each sender has one active session with it."""
    sites = Assistant(
        "sites", description="Shows a crew its building sites and their tasks.", exclusive=True
    )
    _declare_tools(sites, Office() if office is None else office)

    @sites.button("view_sites", label=VIEW["en"])
    async def view_sites(turn: TurnContext, payload: dict[str, Any]) -> Reply:
        return await _sites(turn)

    @sites.button("pick_site", label="Pick site")
    async def pick_site(turn: TurnContext, payload: Pick) -> Reply | None:
        picked = [each for each in _listed(turn) if each.id == payload.project]
        return await _tasks(turn, picked[0]) if picked else None

    @sites.direct
    async def by_name(turn: TurnContext) -> Reply | None:
        """A site's name, typed."""
        text = turn.input["text"].casefold()
        named = [each for each in _listed(turn) if each.name.casefold() in text]
        typed = turn.input["type"] == "message" and len(named) == 1
        return await _tasks(turn, named[0]) if typed else None

    @sites.intent(
        "view_sites",
        phrases=("view sites", "view my sites", "voir les chantiers", "voir mes chantiers"),
        examples=("which sites do I have?", "show me my projects", "quels sont mes chantiers ?"),
    )
    async def wants_sites(turn: TurnContext, intent: Intent) -> Reply:
        return await _sites(turn)

    @sites.intent("greet", phrases=("hello *", "hi *", "good morning *", "bonjour *", "salut *"))
    async def greet(turn: TurnContext, intent: Intent) -> Reply:
        language = _language(turn)
        return Reply(MENU[language], (Button("view_sites", VIEW[language]),))

    @sites.stale
    async def late(turn: TurnContext) -> Reply:
        language = _language(turn)
        return Reply(LATE[language], (Button("view_sites", VIEW[language]),))

    sites.agent(answer)
    return (sites,)


async def answer(turn: TurnContext) -> AsyncIterator[str | Button]:
    """What no stage has answered: a pick is tried once more."""
    language = _language(turn)
    view = Button("view_sites", VIEW[language])
    payload = turn.input.get("payload", {})
    picked = [each for each in _listed(turn) if each.id == payload.get("project")]
    if not picked:
        failed = turn.input.get("button") == view.button
        yield (UNREACHABLE if failed else UNKNOWN)[language]
        yield view
        return
    found = await turn.call("list_tasks", project=picked[0].id)
    if found.status != "completed":
        yield UNREACHABLE[language]
        yield _pick(picked[0])
        return
    yield _shown(language, picked[0], found.value)
    yield Button("view_sites", BACK[language])


def _declare_tools(sites: Assistant, office: Office) -> None:
    @sites.tool("list_projects", idempotent=True)
    async def list_projects(turn: TurnContext) -> list[Project]:
        """List the sites of the one who asks."""
        return await office.projects()

    @sites.tool("list_tasks", idempotent=True)
    async def list_tasks(turn: TurnContext, project: str) -> list[str]:
        """List what is to be done at a site.

        Args:
            project: the site's id
        """
        return await office.tasks(project)


def _listed(turn: TurnContext) -> list[Project]:
    """The sites as this session was shown them last."""
    outputs = turn.history.tool_outputs("list_projects")
    return [Project.model_validate(each) for each in outputs[-1]] if outputs else []


async def _sites(turn: TurnContext) -> Reply:
    found = await turn.call("list_projects")
    if found.status != "completed":
        raise ToolError(found.reason or "The sites cannot be listed.")
    projects = [Project.model_validate(each) for each in found.value]
    buttons = tuple(map(_pick, projects))
    return Reply(SITES[_language(turn)], buttons, reason=f"{len(projects)} sites")


def _pick(site: Project) -> Button:
    return Button("pick_site", site.name, {"project": site.id})


async def _tasks(turn: TurnContext, site: Project) -> Reply:
    found = await turn.call("list_tasks", project=site.id)
    if found.status != "completed":
        raise ToolError(found.reason or "The tasks cannot be listed.")
    language = _language(turn)
    return Reply(
        _shown(language, site, found.value),
        (Button("view_sites", BACK[language]),),
        reason="the output of list_projects was found in this session",
    )


def _shown(language: Language, site: Project, tasks: list[str]) -> str:
    head = (TASKS if tasks else NO_TASKS)[language].format(site=site.name)
    return "\n".join((head, *(f"- {task}" for task in tasks)))


def _language(turn: TurnContext) -> Language:
    """The one that was written last."""
    for message in reversed(turn.history.messages):
        said = set(re.findall(r"\w+", message.text.casefold()))
        for language, words in WORDS.items():
            if message.role == "user" and said & words:
                return language
    return "en"


# -- the wire

Sender = Annotated[str, Field(alias="from", pattern=r"^[+\w.@-]{1,64}$")]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sender: Sender
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Press(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sender: Sender
    button: str
    payload: dict[str, Any] = {}


class Said(BaseModel):
    """The bot's answer. `reused`: the session was there before; `text` is empty and the status
    202 where the bot has not answered yet."""

    sessionId: str  # noqa: N815  the wire's own names
    turnId: str  # noqa: N815
    reused: bool
    status: str
    text: str
    buttons: list[dict[str, Any]]


def router(server: Server) -> APIRouter:
    """`POST /api/message {from, text}` and `POST /api/button {from, button, payload}`."""
    routes = APIRouter()

    @routes.post("/api/message")
    async def message(body: Message, reply: Response) -> Said:
        return await said(body.sender, {"type": "message", "text": body.text}, reply)

    @routes.post("/api/button")
    async def button(body: Press, reply: Response) -> Said:
        pressed = {"type": "button", "button": body.button, "payload": body.payload}
        return await said(body.sender, pressed, reply)

    async def said(sender: str, given: dict[str, Any], reply: Response) -> Said:
        # Who writes here has shown no token, and is therefore nobody who could log in.
        principal = Principal(tenant_id=TENANT, user_id=UserId(f"sites:{sender}"))
        opened, submitted = await accepted(server, principal, given)
        session_id = opened.found.head.key.session_id
        turn = submitted.turn
        if not turn.ended:
            reply.status_code = 202
        messages = await server.history(principal, session_id)
        return Said(
            sessionId=session_id,
            turnId=turn.turn_id,
            reused=not opened.created,
            status=turn.status,
            text=turn.output or "",
            buttons=[
                {name: part[name] for name in ("button", "label", "payload")}
                for each in messages
                for part in each.parts
                if each.turn_id == turn.turn_id and part["type"] == "button"
            ],
        )

    return routes


async def accepted(
    server: Server, principal: Principal, given: dict[str, Any]
) -> tuple[Opened, Submitted]:
    """Where the session is closed before the message is in it, the next one has it."""
    for left in reversed(range(TRIES)):
        opened = await server.open(principal, assistant="sites")
        session_id = opened.found.head.key.session_id
        said = dict(given)
        if said["type"] == "button" and (
            label := await offered(server, principal, session_id, said)
        ):
            said["text"] = label
        said["metadata"] = {"session": "opened" if opened.created else "reused"}
        try:
            submitted = await server.submit(principal, session_id, said, wait_seconds=WAIT_SECONDS)
        except SessileError as error:
            if error.code != "session_closed" or not left:
                raise
        else:
            return opened, submitted
    raise AssertionError("the last try returns or raises")


async def offered(
    server: Server, principal: Principal, session_id: SessionId, pressed: dict[str, Any]
) -> str | None:
    """What the pressed button said: so the history reads as the sender saw it."""
    newest = await server.history(principal, session_id, limit=MESSAGES_LOOKED_AT)
    labels = [
        str(part["label"])
        for each in newest
        for part in each.parts
        if part["type"] == "button"
        and (part["button"], part["payload"]) == (pressed["button"], pressed["payload"])
    ]
    return labels[-1] if labels else None
