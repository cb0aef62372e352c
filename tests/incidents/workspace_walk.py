"""Many writers in one session, over HTTP alone, and what can go wrong with it on any backend."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2

CLIENTS, WRITERS, MESSAGES = 2, 10, 10
PATIENCE_SECONDS = 100.0

Wire = dict[str, Any]


async def written(urls: Sequence[str], token: str, session_id: str) -> dict[str, list[str]]:
    """Two processes of ten writers of ten messages, each to one of the nodes. Answers the turns of
    each writer."""
    clients = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, str(Path(__file__).with_name("workspace_writer.py"))),
            *(urls[number % len(urls)], token, session_id),
            *(f"client{number}", str(WRITERS), str(MESSAGES)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        for number in range(CLIENTS)
    ]
    turns: dict[str, list[str]] = {}
    async with asyncio.timeout(PATIENCE_SECONDS):
        for client in clients:
            said, _ = await client.communicate()
            assert client.returncode == 0, said.decode()
            turns |= json.loads(said)
    return turns


async def stored(http: httpx2.AsyncClient, session_id: str, *, token: str = "any") -> list[Wire]:
    """All messages, oldest first."""
    headers = {"Authorization": f"Bearer {token}"}
    messages: list[Wire] = []
    query: dict[str, Any] = {"limit": 200}
    while True:
        reply = await http.get(f"/v1/sessions/{session_id}/messages", headers=headers, params=query)
        assert reply.status_code == 200, reply.text
        page = reply.json()
        messages = page["items"] + messages
        if page["next"] is None:
            return messages
        query["before"] = page["next"]


def faults_of(messages: Sequence[Wire], turns: dict[str, list[str]]) -> list[str]:
    """What is wrong with a session in which all this was written."""
    sent = [f"{name} {number}" for name, ids in turns.items() for number in range(len(ids))]
    kept = [each["text"] for each in messages if each["role"] == "user"]
    count = Counter(kept)
    faults: list[str] = []
    if lost := [text for text in sent if not count[text]]:
        faults.append(f"{len(lost)} of {len(sent)} messages are lost")
    if twice := [text for text, times in count.items() if times > 1]:
        faults.append(f"{len(twice)} messages are stored twice")
    for name, ids in turns.items():
        mine = [text for text in kept if text.rpartition(" ")[0] == name]
        wanted = [f"{name} {number}" for number in range(len(ids)) if count[f"{name} {number}"]]
        if list(dict.fromkeys(mine)) != wanted:
            faults.append(f"the messages of {name} are out of order")
    answered = {each["turn_id"] for each in messages if each["role"] == "assistant"}
    asked = [turn for ids in turns.values() for turn in ids]
    if missing := [turn for turn in asked if turn not in answered]:
        faults.append(f"{len(missing)} of {len(asked)} messages have no reply")
    replies = [each["text"].partition(":")[0] for each in messages if each["role"] == "assistant"]
    if replies != [f"Reply {number}" for number in range(1, len(replies) + 1)]:
        faults.append("a turn did not see the replies before it")
    roles = [each["role"] for each in messages]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        faults.append("messages and replies do not alternate")
    return faults
