"""What a probe answers: an agent in place of the backend's own, which says what it is shown."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sessile.verify.history import Op

NONCE = re.compile(r"vq[0-9a-f]{32}")
BEGINS = '{"probe":'
WORD = re.compile(r"\brun-([0-9a-f]{8})-([0-9]{1,9})\b")
GIVEN = ("session", "turn", "principal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`nonce`: of the message that it answers. `agent`, `tool`: the session, turn and principal
    that each was given, as far as it was; empty where there is none, or no tool ran. `refused`:
    what it was told in place of a tool's answer. `offered`: the tools that it may call. `nonces`:
    of all messages that it is shown. `calls`: those among them, with how many outcomes each has.
    `op`: what had it in its reply."""

    op: Op
    command: str
    nonce: str
    agent: Mapping[str, str]
    tool: Mapping[str, str]
    refused: str
    offered: tuple[str, ...]
    nonces: tuple[str, ...]
    calls: Mapping[str, int]


def words_of(op: Op) -> Iterator[tuple[str, int]]:
    """What an event tells of the words by which a probe takes its time: the run of the probe that
    said it, and its place among that run's words, which rises."""
    if op.said["is"] == "text":
        for run, place in WORD.findall(op.said.get("text", "")):
            yield run, int(place)


def answers_of(op: Op) -> Iterator[Answer]:
    """All that stand in a reply or in the messages that were read."""
    said = [op.said.get("reply") or "", *(each["text"] for each in op.said.get("items", ()))]
    for raw in answers_in(*said):
        yield Answer(op=op, **raw)


def answers_in(*texts: str) -> Iterator[dict[str, Any]]:
    """The fields of each answer but `op`. What has another form is none."""
    for text in texts:
        at = text.find(BEGINS)
        while at >= 0:
            try:
                raw, end = json.JSONDecoder().raw_decode(text, at)
            except (ValueError, RecursionError):
                raw, end = None, at + 1
            if (read := _read(raw)) is not None:
                yield read
            at = text.find(BEGINS, end)


def _read(raw: Any) -> dict[str, Any] | None:
    try:
        nonce = raw["nonce"]
        if NONCE.fullmatch(nonce) is None:
            return None
        calls: Mapping[str, Any] = raw.get("calls") or {}
        return {
            "command": str(raw["probe"]), "nonce": nonce, "refused": str(raw.get("refused") or ""),
            "agent": _given(raw.get("agent") or {}), "tool": _given(raw.get("tool") or {}),
            "offered": tuple(map(str, raw.get("offered") or ())),
            "nonces": tuple(map(str, raw.get("nonces") or ())),
            "calls": {str(name): int(count) for name, count in calls.items()},
        }  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _given(raw: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(raw[name]) for name in GIVEN if raw.get(name) is not None}
