"""One chat: the session that it is in, what was said there, and what one can ask for."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from sessile.cli.client import Client, Followed, JsonObject, Refused, Reset
from sessile.cli.client import Entry as LogEntry
from sessile.cli.view import Block, View, blocks_of

HISTORY_MESSAGES = 20
GREETING_MESSAGES = 6
SESSIONS_SHOWN = 20
APPROVAL_ENTRIES = 500
"""How far back a call is looked for that waits, where one comes to a session that waits."""
ANSWERS = {"y": True, "yes": True, "n": False, "no": False}

HELP = """\
/new [ASSISTANT]  begin a new session
/sessions         list your sessions
/open SESSION     go on in another session
/history          what was said last
/cancel           stop the turn that runs
/approve          let the call that waits be made; or say y
/deny [REASON]    have it refused; or say n
/steer TEXT       say it to the turn that runs, at its next step
/interrupt TEXT   stop what runs and waits, and say this
/quit             leave; a turn that runs goes on
What you say while a turn runs waits in the queue. Begin with // to say a text with a slash.
Alt-Enter begins a new line. Ctrl-C stops the turn that runs, and leaves where none does."""


class Talk:
    """Methods raise what `Client` raises. A session is opened when something is said first."""

    def __init__(self, client: Client, assistant: str | None) -> None:
        self._client = client
        self.assistant = assistant
        self.session_id: str | None = None
        self.view = View()
        self.entered = asyncio.Event()
        """Set while there is a session to follow."""

    async def enter(self, session_id: str) -> None:
        """Go on in this session; what was said last are the view's blocks."""
        client = self._client
        session = await client.session(session_id)
        running_turn_id = session["running_turn_id"]
        snapshot = {
            "session": session,
            "running_turn": await client.turn(session_id, running_turn_id)
            if running_turn_id
            else None,
            "queued_turns": await client.queued(session_id),
            "messages": await client.messages(session_id, limit=GREETING_MESSAGES),
        }
        approvals: list[LogEntry] = []
        if session["blocked_by"]:
            after = max(0, session["head"] - APPROVAL_ENTRIES)
            entries = client.entries(session_id, after=after)
            approvals = [
                entry
                async for entry in entries
                if entry.kind.startswith("approval.") and entry.turn_id == running_turn_id
            ]
        self.view.begin(snapshot, approvals)
        self._in(session)

    def leave(self, assistant: str | None) -> None:
        """The next thing said begins a new session."""
        self.session_id, self.assistant = None, assistant
        self.entered.clear()
        self.view.begin_new()

    async def say(self, text: str, *, when_busy: str = "enqueue") -> JsonObject:
        """Answers the turn's record."""
        if self.session_id is None:
            session = await self._client.open(self.assistant)
            if session["head"] > 1:
                # Of an exclusive assistant: there was one already.
                await self.enter(session["session_id"])
            else:
                self._in(session)
        assert self.session_id is not None
        return await self._client.submit(self.session_id, text, when_busy=when_busy)

    async def cancel(self) -> bool:
        """Whether there was a turn to cancel."""
        running = self.view.running
        if self.session_id is None or running is None:
            return False
        try:
            await self._client.cancel(self.session_id, running.turn_id)
        except Refused as refused:
            if refused.code != "turn_ended":
                raise
        return True

    async def answer(self, *, granted: bool, reason: str = "") -> bool:
        """Whether there was a call that waited for one."""
        card = self.view.waiting
        if self.session_id is None or card is None:
            return False
        try:
            await self._client.answer(self.session_id, card.call_id, granted=granted, reason=reason)
        except Refused as refused:
            if refused.code != "approval_answered":
                raise
        card.status = "started"
        return True

    async def history(self) -> list[Block]:
        if self.session_id is None:
            return []
        said = await self._client.messages(self.session_id, limit=HISTORY_MESSAGES)
        return [block for message in said for block in blocks_of(message)]

    async def sessions(self) -> list[JsonObject]:
        return await self._client.sessions(limit=SESSIONS_SHOWN)

    async def follow(self) -> AsyncGenerator[Followed, None]:
        """What comes; when it is told, the view has it."""
        session_id = self.session_id
        assert session_id is not None
        async with aclosing(self._client.follow(session_id, after=self.view.cursor)) as coming:
            async for followed in coming:
                if self.session_id != session_id:
                    return
                match followed:
                    case LogEntry():
                        self.view.apply(followed)
                    case Reset(snapshot):
                        self.view.begin(snapshot)
                    case _:
                        pass
                yield followed

    def _in(self, session: JsonObject) -> None:
        self.session_id, self.assistant = session["session_id"], session["assistant"]
        self.entered.set()
