"""Of turns that were lost twice in a row without a step, a node runs one at a time."""

from sessile.core.ids import SessionKey


class Suspects:
    """The right to run a suspect, and the sessions that wait for it.

    The right is taken before the claim, since only the claim tells who is suspect: of claims that
    are made at once, one may bring a suspect along.
    """

    def __init__(self) -> None:
        self._holder: SessionKey | None = None
        self._aside: dict[SessionKey, None] = {}

    def __len__(self) -> int:
        """How many wait."""
        return len(self._aside)

    def __contains__(self, key: SessionKey) -> bool:
        return key in self._aside

    def take(self, key: SessionKey) -> bool:
        """Whether a claim of this session may bring a suspect: then the right is its own, until
        `give_back`."""
        if self._holder is None:
            self._holder = key
        return self._holder == key

    def set_aside(self, key: SessionKey) -> None:
        """Its claim was refused, perhaps because it is suspect."""
        self._aside[key] = None

    def give_back(self, key: SessionKey) -> SessionKey | None:
        """The session no longer needs the right, if it had it; answers who is to try next."""
        if self._holder != key:
            return None
        self._holder = None
        return self.next()

    def next(self) -> SessionKey | None:
        """The one that has waited longest; it waits no more."""
        key = next(iter(self._aside), None)
        if key is not None:
            del self._aside[key]
        return key

    def forget(self, key: SessionKey) -> None:
        self._aside.pop(key, None)
