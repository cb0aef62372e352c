"""A bank's chatbot in its own wire format: log in, open a session, talk, read the history.

An orchestrator hands the session to the specialist that a message asks for, and a specialist to
another one. All of it is one session, whose id every reply repeats.
"""

import asyncio
import fcntl
import hmac
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, HTTPException, Query, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sessile import (
    Assistant,
    IdempotencyKey,
    Intent,
    Message,
    Principal,
    Server,
    Session,
    SessionId,
    TenantId,
    ToolError,
    Turn,
    TurnContext,
    UserId,
)

TENANT = TenantId("demo")
PASSWORDS = {"manager": "Password123!"}
SECRET_BYTES = 32
REPLY_SECONDS_MAX = 30.0
"""How long a message waits for its reply; a reply that takes longer is in the history later."""
PAGE_MESSAGES = 200
STEP_SECONDS = 0.2
ASSESSED = ("income", "debts", "security", "history")
LOAN_EUR_MAX = 50_000


# -- the assistants


@dataclass(frozen=True, slots=True)
class Desk:
    """A specialist: what it is asked for, the tool that answers, and what it says where it lacks
    the number that all of it is about."""

    name: str
    phrases: tuple[str, ...]
    tool: str
    says: str

    @property
    def assistant(self) -> str:
        return f"banking.{self.name}"


ACCOUNTS = Desk(
    "accounts",
    ("* account *", "* accounts *", "* balance *"),
    "accounts.balance",
    "This is the accounts desk: which account is it about?",
)
CARDS = Desk(
    "cards",
    ("* card *", "* cards *"),
    "cards.block",
    "This is the cards desk: which card is to be blocked?",
)
LOANS = Desk(
    "loans",
    ("* loan *", "* loans *", "* mortgage *"),
    "loans.assess",
    "This is the loans desk: how much is it about, in EUR?",
)
_NUMBER = re.compile(r"(?<![0-9])[0-9]{1,15}(?![0-9])")
DESKS = (ACCOUNTS, CARDS, LOANS)
GREETING = "Hello. I can help with accounts, cards and loans: what is it about?"


def assistants(*, step_seconds: float = STEP_SECONDS) -> tuple[Assistant, ...]:
    """The orchestrator, which opens each session, and its specialists. `step_seconds`: how long
    each step of a loan's assessment takes."""
    front = _saying(Assistant("banking"), GREETING)
    accounts, cards, loans = (_saying(Assistant(desk.assistant), desk.says) for desk in DESKS)
    _declare_tools(accounts, cards, loans, step_seconds)
    for each in (front, accounts, cards, loans):
        for desk in DESKS:
            answer = _answered_by(desk) if desk.assistant == each.name else _handed_to(desk)
            each.intent(desk.name, phrases=desk.phrases)(answer)
    return (front, accounts, cards, loans)


def _saying(assistant: Assistant, text: str) -> Assistant:
    @assistant.agent
    async def say(_turn: TurnContext) -> str:
        return text

    return assistant


def _handed_to(desk: Desk) -> Callable[[TurnContext, Intent], Awaitable[str | None]]:
    async def hand_over(turn: TurnContext, _intent: Intent) -> None:
        await turn.hand_off(desk.assistant, reason=f"It is about {desk.name}.")

    return hand_over


def _answered_by(desk: Desk) -> Callable[[TurnContext, Intent], Awaitable[str | None]]:
    async def answer(turn: TurnContext, intent: Intent) -> str:
        """About the number that the text names; where it names none, about the last one. A part of
        a longer number would be another account."""
        named = _NUMBER.search(intent.text)
        before = turn.history.tool_outputs(desk.tool)
        if named is None and not before:
            return desk.says
        number = before[-1]["number"] if named is None else int(named[0])
        result = await turn.call(desk.tool, number=number)
        told: str = result.value["told"] if result.status == "completed" else str(result.reason)
        return told

    return answer


def _declare_tools(
    accounts: Assistant, cards: Assistant, loans: Assistant, step_seconds: float
) -> None:
    @accounts.tool(ACCOUNTS.tool, idempotent=True)
    async def balance(_turn: TurnContext, number: int) -> dict[str, Any]:
        """What is on an account."""
        if number < 1000:
            raise ToolError(f"There is no account {number}.")
        cents = number * 7919 % 1_000_000
        return {"number": number, "told": f"There are {cents / 100:.2f} EUR on account {number}."}

    @cards.tool(CARDS.tool, idempotent=True)
    async def block(_turn: TurnContext, number: int) -> dict[str, Any]:
        """Block a card."""
        return {"number": number, "told": f"The card {number} is blocked."}

    @loans.tool(LOANS.tool, idempotent=True)
    async def assess(turn: TurnContext, number: int) -> dict[str, Any]:
        """Assess a loan of so many EUR, which takes a while."""
        await turn.emit("Let me see. ")
        for done, what in enumerate(ASSESSED, start=1):
            await asyncio.sleep(step_seconds)
            await turn.progress(current_iteration=done, note=f"Checked the {what}.")
        answer = "can be granted" if number <= LOAN_EUR_MAX else "is more than I may grant"
        return {"number": number, "told": f"A loan of {number} EUR {answer}."}


# -- the wire format

Said = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Bearer = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


class Logins:
    """Tokens that are signed, and so outlive the server that gave them; each is of one user.

    The secret is a file of the data directory, made when it is first needed.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def token(self, user: str, password: str) -> str:
        """Raises HTTPException where the password is not the user's."""
        known = PASSWORDS.get(user, "").encode()
        if not known or not hmac.compare_digest(known, password.encode("utf-8", "replace")):
            raise unauthorized("There is no such user, or the password is another.")
        return self._signed(user)

    async def caller(self, given: Bearer) -> Principal:
        """Whoever the token names. Raises HTTPException."""
        if given is None:
            raise unauthorized(
                "The header Authorization is missing: Bearer and the token of POST /api/auth/login."
            )
        for user in PASSWORDS:
            if hmac.compare_digest(self._signed(user).encode(), given.credentials.encode()):
                return Principal(tenant_id=TENANT, user_id=UserId(user))
        raise unauthorized("The token is not one of this server's: POST /api/auth/login gives one.")

    @cached_property
    def _secret(self) -> bytes:
        path = self._server.settings.data_dir / "banking-secret"
        try:
            return secret_of(path)
        except OSError as error:
            raise HTTPException(
                507, f"There can be no tokens: {error.strerror}: {path.name} in the data directory."
            ) from error

    def _signed(self, user: str) -> str:
        return hmac.digest(self._secret, f"banking:{user}".encode(), "sha256").hex()


def secret_of(path: Path) -> bytes:
    """The secret in the file, made where there is none yet. Nodes of one directory that need it at
    once wait for each other, so that they all have the same."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
        secret = file.read()
        if len(secret) != SECRET_BYTES:
            secret = secrets.token_bytes(SECRET_BYTES)
            file.seek(0)
            file.truncate()
            file.write(secret)
        return secret


def unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})


class NewSession(BaseModel):
    """For which customer; whoever asks, if none is named."""

    model_config = ConfigDict(extra="forbid")  # a customer that is misspelt is not another one

    user_id: Annotated[Said | None, Field(alias="userId")] = None
    metadata: dict[str, Any] | None = None


def router(server: Server) -> APIRouter:
    """The routes, for `server.mount` of a server that this machine alone can reach."""
    routes = APIRouter(prefix="/api", tags=["banking"])
    logins = Logins(server)
    caller = Depends(logins.caller)

    @routes.post("/auth/login")
    async def log_in(
        username: Annotated[str, Body()], password: Annotated[str, Body()]
    ) -> dict[str, Any]:
        return {"token": logins.token(username, password), "user": {"username": username}}

    @routes.post("/sessions", status_code=201)
    async def open_session(
        who: Annotated[Principal, caller],
        body: NewSession | None = None,
        idempotency_key: IdempotencyKey = None,
    ) -> dict[str, Any]:
        given = NewSession() if body is None else body
        customer = {"userId": given.user_id or who.user_id}
        opened = await server.open(
            who,
            assistant="banking",
            metadata={**(given.metadata or {}), **customer},
            idempotency_key=idempotency_key,
        )
        return _opened(opened.found.session)

    @routes.post("/chat/message")
    async def say(
        who: Annotated[Principal, caller],
        content: Annotated[Said, Body(embed=True)],
        response: Response,
        x_session_id: Annotated[list[str] | None, Header(alias="X-Session-ID")] = None,
        idempotency_key: IdempotencyKey = None,
    ) -> dict[str, Any]:
        submitted = await server.submit(
            who,
            _named(x_session_id),
            content,
            idempotency_key=idempotency_key,
            wait_seconds=REPLY_SECONDS_MAX,
        )
        response.status_code = 200 if submitted.turn.ended else 202
        return _replied(submitted.turn)

    @routes.get("/sessions/{session_id}/history")
    async def history(
        who: Annotated[Principal, caller],
        session_id: str,
        before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    ) -> dict[str, Any]:
        of = SessionId(session_id)
        page = await server.reads.messages(who, of, before=before, limit=PAGE_MESSAGES)
        older = page.items[0].seq if page.more else None
        return {"sessionId": session_id, "messages": _spoken(page.items), "before": older}

    return routes


def _named(given: list[str] | None) -> SessionId:
    """The one place that says which session a message is for."""
    named = set(given or ()) - {""}
    if len(named) != 1:
        fault = "names two sessions" if named else "is missing: it names the session"
        raise HTTPException(400, f"The header X-Session-ID {fault}.")
    return SessionId(*named)


def _opened(session: Session) -> dict[str, Any]:
    session_id, at = session.key.session_id, _timestamp(session.created_at_ms)
    metadata = session.metadata
    named = {"sessionId": session_id, "userId": metadata["userId"], "createdAt": at}
    chat = {**named, "metadata": metadata}
    return {"sessionId": session_id, "chatSession": chat, "session": named, "timestamp": at}


def _replied(turn: Turn) -> dict[str, Any]:
    """Raises HTTPException where the turn has ended without a reply."""
    if turn.ended and turn.status != "completed":
        why = (turn.error or {}).get("message") or "no reason is known"
        raise HTTPException(502, f"There is no reply, its turn is {turn.status}: {why}")
    return {
        "sessionId": turn.session_id,
        "turnId": turn.turn_id,
        "status": turn.status,
        "reply": turn.output,
        "timestamp": _timestamp(turn.ended_at_ms or turn.created_at_ms),
    }


def _spoken(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """What people read: what tools answered is not among it."""
    return [
        {
            "messageId": message.message_id,
            "turnId": message.turn_id,
            "role": message.role,
            "content": message.text,
            "timestamp": _timestamp(message.at_ms),
        }
        for message in messages
        if message.role in ("user", "assistant") and message.text
    ]


def _timestamp(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
