"""What a crew does, over HTTP alone, and what can go wrong with it on any backend."""

from dataclasses import dataclass, field
from typing import Any

import httpx2

from sessile.demo.sites import MENU, VIEW, Language, Office

GREETINGS: dict[Language, str] = {"en": "Hello", "fr": "Bonjour"}
PICKED = "Maple Tower"
TASK = "Pour the slab of level 4"

Wire = dict[str, Any]


@dataclass(frozen=True)
class Shaky(Office):
    """The office, of which the first asking for tasks fails; or each, for ever."""

    for_ever: bool = False
    asked: list[str] = field(default_factory=list[str])

    async def tasks(self, project: str) -> list[str]:
        self.asked.append(project)
        if self.for_ever or len(self.asked) == 1:
            raise ConnectionError("the office does not answer")
        return await super().tasks(project)


class Crew:
    """One sender, and all replies that it got."""

    def __init__(self, http: httpx2.AsyncClient, sender: str) -> None:
        self.sender = sender
        self.heard: list[Wire] = []
        self._http = http

    async def says(self, text: str) -> Wire:
        return await self._sent("/api/message", {"from": self.sender, "text": text})

    async def presses(self, button: Wire) -> Wire:
        given = {name: button[name] for name in ("button", "payload")}
        return await self._sent("/api/button", {"from": self.sender, **given})

    async def picks(self, label: str) -> Wire:
        """The newest button that says so."""
        offered = [each for each in self.heard[-1]["buttons"] if each["label"] == label]
        assert offered, f"nothing says {label}: {self.heard[-1]}"
        return await self.presses(offered[0])

    async def _sent(self, path: str, body: Wire) -> Wire:
        reply = await self._http.post(path, json=body)
        assert reply.status_code == 200, f"{reply.status_code}: {reply.text}"
        said: Wire = reply.json()
        self.heard.append(said)
        return said


async def walk(crew: Crew, *, language: Language = "en") -> list[str]:
    """Greet, view the sites, pick one. Answers what went wrong."""
    await crew.says(GREETINGS[language])
    await crew.picks(VIEW[language])
    last = await crew.picks(PICKED)
    faults: list[str] = []
    sessions = list(dict.fromkeys(each["sessionId"] for each in crew.heard))
    if len(sessions) != 1:
        faults.append(f"{len(sessions)} sessions in one walk: {', '.join(sessions)}")
    if last["text"] in MENU.values():
        faults.append("a picked site is answered with the greeting menu")
    elif TASK not in last["text"]:
        faults.append(f"a picked site is answered without its tasks: {last['text']!r}")
    return faults
