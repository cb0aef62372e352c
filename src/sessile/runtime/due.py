"""Which sessions a node is to claim, in which order, and of which it may claim a suspect turn."""

from collections.abc import Sequence

from sessile.core.ids import SessionKey

KEPT_MAX = 4096
"""Sessions that wait for a slot here: of any more, which all nodes are told of, the sweep knows."""
ASKED_MAX = 1024
"""Of these, how many the sweep may have to show, each second and to each node."""


class Due:
    """Sessions that wait for a slot; its length is their number. And those that wait aside, for the
    right to run a suspect: of turns that were lost twice in a row without a step, a node runs one
    at a time.

    The right is taken before the claim, since only the claim tells who is suspect: of claims that
    are made at once, one may bring a suspect along.
    """

    def __init__(self) -> None:
        self._sweeps = 0
        self._waiting: dict[SessionKey, int] = {}
        """Each with the sweep behind which it was last told of; so too those aside."""
        self._aside: dict[SessionKey, int] = {}
        self._holder: SessionKey | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, key: SessionKey) -> bool:
        """Whether it waits, for the one or the other."""
        return key in self._waiting or key in self._aside

    def add(self, key: SessionKey) -> None:
        """It was told to be due. It keeps its place, if it had one."""
        self._aside.pop(key, None)
        if key in self._waiting or len(self._waiting) < KEPT_MAX:
            self._waiting[key] = self._sweeps

    def pop(self) -> SessionKey | None:
        """Who is next to be claimed; it waits no more."""
        return _pop_first(self._waiting)

    def clear(self) -> None:
        """Nobody waits for a slot any more."""
        self._waiting.clear()

    # -- the sweep

    def ask(self, *, free: int) -> int:
        """A sweep begins: how many sessions it is to show, with so many slots `free`. Enough to
        look past those that are known, unless they are very many."""
        self._sweeps += 1
        return max(free, 1) + 2 * len(self._aside) + min(len(self._waiting), ASKED_MAX)

    def shown(self, due: Sequence[SessionKey], *, asked: int) -> None:
        """The sweep's answer, the longest due first.

        If it is shorter than it might be, it is all that there is: what was told before the sweep
        and is not in it was run elsewhere. Else nothing is known of what is not in it, and what is
        in it comes first.
        """
        if len(due) < asked:
            there = frozenset(due)
            for keys in (self._waiting, self._aside):
                for key in [it for it, told in keys.items() if told < self._sweeps]:
                    if key not in there:
                        del keys[key]
        else:
            first = {key: self._waiting.pop(key) for key in due if key in self._waiting}
            self._waiting = first | self._waiting

    # -- suspects

    def take_right(self, key: SessionKey) -> bool:
        """Whether a claim of this session may bring a suspect: then the right is its own, until
        `give_back`."""
        if self._holder is None:
            self._holder = key
        return self._holder == key

    def set_aside(self, key: SessionKey) -> None:
        """Its claim was refused, perhaps because it is suspect."""
        self._aside[key] = self._sweeps

    def give_back(self, key: SessionKey) -> SessionKey | None:
        """The session no longer needs the right, if it had it; answers who is to try next."""
        if self._holder != key:
            return None
        self._holder = None
        return self.pop_aside()

    def pop_aside(self) -> SessionKey | None:
        """The one that has waited longest for the right; it waits no more."""
        return _pop_first(self._aside)


def _pop_first(keys: dict[SessionKey, int]) -> SessionKey | None:
    key = next(iter(keys), None)
    if key is not None:
        del keys[key]
    return key
