"""What a server's own front ends are told besides: entries in shapes of their own."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sessile.core.codec import timestamp, to_json
from sessile.core.events import Entry
from sessile.core.ids import SessionId
from sessile.pusher.frames import is_event_name

logger = logging.getLogger(__name__)

Projected = tuple[str, Mapping[str, Any]]
"""An event's name and its data, to which `seq` is added."""
Projection = Callable[[SessionId, Mapping[str, Any]], Iterable[Projected]]
"""From a session's id and an entry, as `GET …/events` shows it, to events. It is asked on each
node that has a reader, for each channel of the session, in the order of the log; it must not
wait, and what it makes depends on what it is given alone."""


class Projections:
    """Those of all assistants, and those of one."""

    def __init__(self) -> None:
        self._all: list[tuple[str | None, Projection]] = []

    def add(self, projection: Projection, *, assistant: str | None = None) -> None:
        """Ask it too, of all sessions or of those of one assistant."""
        self._all.append((assistant, projection))

    def of(self, session_id: SessionId, assistant: str, entry: Entry) -> list[Projected]:
        """What the entry is told as besides. A projection that fails is logged and passed over:
        what the log holds is told all the same."""
        wanted = [each for name, each in self._all if name in (None, assistant)]
        if not wanted:
            return []
        shown = {
            "seq": entry.seq,
            "kind": entry.kind,
            "turn_id": entry.turn_id,
            "at": timestamp(entry.at_ms),
            "body": json.loads(entry.body),
        }
        told: list[Projected] = []
        for projection in wanted:
            try:
                for name, data in projection(session_id, shown):
                    if not is_event_name(name):
                        raise ValueError(f"{name!r} is no name of an event")
                    to_json({**data})  # raises where it is no object, or no JSON
                    told.append((name, data))
            except Exception:
                about = {"session_id": session_id, "seq": entry.seq}
                logger.exception("a projection failed", extra=about)
        return told
