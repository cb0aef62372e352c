"""A bank's chatbot in its own wire format: log in, open a session, talk, read the history.

An orchestrator hands the session to the specialist that a message asks for, and a specialist to
another one. All of it is one session, whose id every reply repeats.
"""

import asyncio
import hmac
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, HTTPException, Query, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from sessile import (
    Assistant,
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
from sessile.http.sessions import IdempotencyKey
from sessile.wiring import dev_tokens

TENANT = TenantId("demo")
PASSWORDS = {"manager": "Password123!"}
REPLY_SECONDS_MAX = 30.0
"""How long a message waits for its reply; a reply that takes longer is in the history later."""
PAGE_MESSAGES = 200
STEP_SECONDS = 0.2
ASSESSED = ("income", "debts", "security", "history")
LOAN_EUR_MAX = 50_000


# -- the assistants


@dataclass(frozen=True, slots=True)
class Desk:
    """A specialist: what it is asked for, and what it says where it is asked for nothing else."""

    name: str
    phrases: tuple[str, ...]
    says: str

    @property
    def assistant(self) -> str:
        return f"banking.{self.name}"


ACCOUNTS = Desk(
    "accounts",
    ("* account *", "* accounts *", "* balance *"),
    "This is the accounts desk: which account is it about?",
)
CARDS = Desk(
    "cards",
    ("* card *", "* cards *"),
    "This is the cards desk: which card is to be blocked?",
)
LOANS = Desk(
    "loans",
    ("* loan *", "* loans *", "* mortgage *"),
    "This is the loans desk: how much is it about, in EUR?",
)
DESKS = (ACCOUNTS, CARDS, LOANS)
GREETING = "Hello. I can help with accounts, cards and loans: what is it about?"


def assistants(*, step_seconds: float = STEP_SECONDS) -> tuple[Assistant, ...]:
    """The orchestrator, which opens each session, and its specialists. `step_seconds`: how long
    each step of a loan's assessment takes."""
    front = _saying(Assistant("banking"), GREETING)
    accounts, cards, loans = (_saying(Assistant(desk.assistant), desk.says) for desk in DESKS)
    _declare_accounts(accounts)
    _declare_cards(cards)
    _declare_loans(loans, step_seconds)
    for each in (front, accounts, cards, loans):
        for desk in DESKS:
            if desk.assistant != each.name:
                each.intent(desk.name, phrases=desk.phrases)(_hand_to(desk))
    return (front, accounts, cards, loans)


def _saying(assistant: Assistant, text: str) -> Assistant:
    @assistant.agent
    async def say(_turn: TurnContext) -> str:
        return text

    return assistant


def _hand_to(desk: Desk) -> Callable[[TurnContext, Intent], Awaitable[None]]:
    async def hand_over(turn: TurnContext, _intent: Intent) -> None:
        await turn.hand_off(desk.assistant, reason=f"It is about {desk.name}.")

    return hand_over


def _declare_accounts(accounts: Assistant) -> None:
    @accounts.tool("accounts.balance", idempotent=True)
    async def balance(_turn: TurnContext, account: int) -> dict[str, int]:
        """What is on an account, in cents."""
        if account < 1000:
            raise ToolError(f"There is no account {account}.")
        return {"account": account, "cents": account * 7919 % 1_000_000}

    @accounts.intent(ACCOUNTS.name, phrases=ACCOUNTS.phrases)
    async def tell(turn: TurnContext, intent: Intent) -> str:
        before = turn.history.tool_outputs("accounts.balance")
        account = _number(intent.text) or (before[-1]["account"] if before else None)
        if account is None:
            return ACCOUNTS.says
        found = await turn.call("accounts.balance", account=account)
        if found.status != "completed":
            return f"I cannot tell: {found.reason}"
        return f"There are {found.value['cents'] / 100:.2f} EUR on account {account}."


def _declare_cards(cards: Assistant) -> None:
    @cards.tool("cards.block", idempotent=True)
    async def block(_turn: TurnContext, card: int) -> dict[str, Any]:
        """Block a card."""
        return {"card": card, "blocked": True}

    @cards.intent(CARDS.name, phrases=CARDS.phrases)
    async def blocked(turn: TurnContext, intent: Intent) -> str:
        card = _number(intent.text)
        if card is None:
            return CARDS.says
        done = await turn.call("cards.block", card=card)
        if done.status != "completed":
            return f"The card {card} is not blocked: {done.reason}"
        return f"The card {card} is blocked."


def _declare_loans(loans: Assistant, step_seconds: float) -> None:
    @loans.tool("loans.assess", idempotent=True)
    async def assess(turn: TurnContext, amount: int) -> dict[str, Any]:
        """Assess a loan, which takes a while."""
        for done, what in enumerate(ASSESSED, start=1):
            await asyncio.sleep(step_seconds)
            await turn.progress(current_iteration=done, note=f"Checked the {what}.")
        return {"amount": amount, "granted": amount <= LOAN_EUR_MAX}

    @loans.intent(LOANS.name, phrases=LOANS.phrases)
    async def assessed(turn: TurnContext, intent: Intent) -> str:
        amount = _number(intent.text)
        if amount is None:
            return LOANS.says
        await turn.emit("Let me see. ")
        result = await turn.call("loans.assess", amount=amount)
        if result.status != "completed":
            return f"I cannot tell: {result.reason}"
        answer = "can be granted" if result.value["granted"] else "is more than I may grant"
        return f"A loan of {amount} EUR {answer}."


def _number(text: str) -> int | None:
    found = re.search(r"[0-9]{1,9}", text)
    return int(found[0]) if found else None


# -- the wire format


class Logins:
    """Tokens that are signed, and so outlive the server that gave them; each is of one user.

    The secret is the development tokens of the data directory: these too are for this machine's
    developer alone, and a server that others can reach has none.
    """

    def __init__(self, server: Server) -> None:
        self._secret = cache(
            lambda: "".join(login.token for login in dev_tokens(server.settings).logins).encode()
        )

    def token(self, user: str, password: str) -> str:
        """Raises HTTPException where the password is not the user's."""
        known = PASSWORDS.get(user, "").encode()
        if not known or not hmac.compare_digest(known, password.encode("utf-8", "replace")):
            raise unauthorized("There is no such user, or the password is another.")
        return self._signed(user)

    async def caller(
        self,
        given: Annotated[
            HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))
        ],
    ) -> Principal:
        """Whoever the token names. Raises HTTPException."""
        if given is None:
            raise unauthorized("The header Authorization is missing: Bearer and a token.")
        for user in PASSWORDS:
            if hmac.compare_digest(self._signed(user).encode(), given.credentials.encode()):
                return Principal(tenant_id=TENANT, user_id=UserId(user))
        raise unauthorized("The token is not one of this server's.")

    def _signed(self, user: str) -> str:
        return hmac.digest(self._secret(), f"banking:{user}".encode(), "sha256").hex()


def unauthorized(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})


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
        user_id: Annotated[str | None, Body(alias="userId")] = None,
        metadata: Annotated[dict[str, Any] | None, Body()] = None,
        idempotency_key: IdempotencyKey = None,
    ) -> dict[str, Any]:
        customer = who.user_id if user_id is None else user_id
        opened = await server.open(
            who,
            assistant="banking",
            metadata={**(metadata or {}), "userId": customer},
            idempotency_key=idempotency_key,
        )
        return _opened(opened.found.session, customer)

    @routes.post("/chat/message")
    async def say(
        who: Annotated[Principal, caller],
        content: Annotated[str, Body(embed=True)],
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
        page = await server.reads.messages(
            who, SessionId(session_id), before=before, limit=PAGE_MESSAGES
        )
        older = page.items[0].seq if page.more else None
        return {"sessionId": session_id, "messages": _spoken(page.items), "before": older}

    return routes


def _named(given: list[str] | None) -> SessionId:
    """The one place that says which session a message is for."""
    if not given or not given[0]:
        raise HTTPException(400, "The header X-Session-ID is missing: it names the session.")
    if len(set(given)) > 1:
        raise HTTPException(400, "The header X-Session-ID stands twice, with two sessions.")
    return SessionId(given[0])


def _opened(session: Session, user_id: str) -> dict[str, Any]:
    session_id, at = session.key.session_id, _timestamp(session.created_at_ms)
    named = {"sessionId": session_id, "userId": user_id, "createdAt": at}
    chat = {**named, "metadata": session.metadata}
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
