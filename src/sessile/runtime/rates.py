"""How many requests came in the last minute: a sliding window, in memory, of this node alone."""

from math import ceil

WINDOW_MS = 60_000


class Rates:
    """Two counts for each key: of this minute, and of the one before it, which counts for less the
    more of this one is over. Nothing is kept of a key that was silent for two minutes."""

    def __init__(self) -> None:
        self._minute = 0
        self._counts: dict[object, int] = {}
        self._before: dict[object, int] = {}

    def wait(self, key: object, *, most: int, now_ms: int) -> int:
        """In how many seconds there is room for a request, where there were `most` of them; 0 where
        there is now."""
        passed_ms = self._turn(now_ms)
        count, before = self._counts.get(key, 0), self._before.get(key, 0)
        left_ms = WINDOW_MS - passed_ms
        if count + before * left_ms / WINDOW_MS <= most - 1:
            return 0
        if count <= most - 1:
            wait_ms = left_ms - (most - 1 - count) * WINDOW_MS / before
        else:
            wait_ms = left_ms + WINDOW_MS * (1 - (most - 1) / count)
        return max(1, ceil(wait_ms / 1000))

    def count(self, *keys: object, now_ms: int) -> None:
        """One request more. It is asked of all that count it first: what one of them refuses leaves
        nothing with the others, or who is refused could fill them with names."""
        self._turn(now_ms)
        for key in keys:
            self._counts[key] = self._counts.get(key, 0) + 1

    def _turn(self, now_ms: int) -> int:
        """To the minute of this time; answers how much of it has passed."""
        minute, passed_ms = divmod(now_ms, WINDOW_MS)
        if minute != self._minute:
            self._before = self._counts if minute == self._minute + 1 else {}
            self._minute, self._counts = minute, {}
        return passed_ms
