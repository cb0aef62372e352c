"""A client in a process of its own: some writers, who send their messages to one session at once.

`python workspace_writer.py URL TOKEN SESSION NAME WRITERS MESSAGES`; prints the turns as JSON.
"""

import asyncio
import json
import sys

import httpx2


async def write(http: httpx2.AsyncClient, session_id: str, name: str, messages: int) -> list[str]:
    """One after another, each once the one before it is accepted; the last until it has ended."""
    turns: list[str] = []
    for number in range(messages):
        last = number == messages - 1
        reply = await http.post(
            f"/v1/sessions/{session_id}/turns",
            params={"wait": 60} if last else None,
            json={"input": {"type": "message", "text": f"{name} {number}"}},
        )
        if reply.status_code not in (200, 202):
            sys.exit(f"{reply.status_code}: {reply.text}")
        turns.append(reply.json()["turn_id"])
    return turns


async def main(
    url: str, token: str, session_id: str, name: str, writers: str, messages: str
) -> None:
    async with httpx2.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {token}"},
        timeout=90,
        trust_env=False,
        verify=False,
    ) as http:
        names = [f"{name}.{number}" for number in range(int(writers))]
        turns = await asyncio.gather(
            *(write(http, session_id, each, int(messages)) for each in names)
        )
    json.dump(dict(zip(names, turns, strict=True)), sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
