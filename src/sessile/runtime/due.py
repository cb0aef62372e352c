"""Which sessions a node is to claim, in which order, and of which it may claim a suspect turn."""

from collections.abc import Callable, Sequence

from sessile.core.ids import SessionKey, TenantId
from sessile.runtime.slots import User

Keys = dict[SessionKey, int]

KEPT_MAX = 4096
"""Sessions that wait for a slot here: of any more, which all nodes are told of, the sweep knows."""
ASKED_MAX = 1024
"""Of these, how many the sweep may have to show, each second and to each node."""


class Due:
    """Sessions that wait for a slot; its length is their number. The tenants take turns, and of
    each the session is next that has waited longest.

    Those wait apart whose user holds as many slots as one may. And those wait aside that need the
    right to run a suspect: of turns that were lost twice in a row without a step, a node runs one
    at a time. The right is taken before the claim, since only the claim tells who is suspect: of
    claims that are made at once, one may bring a suspect along.
    """

    def __init__(self) -> None:
        self._sweeps = 0
        self._waiting: dict[TenantId, Keys] = {}
        """Whose turn it is comes first. Each session with the sweep behind which it was last told
        of; so too those apart, and aside."""
        self._count = 0
        self._apart: dict[SessionKey, tuple[User, int]] = {}
        self._aside: Keys = {}
        self._holder: SessionKey | None = None

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: SessionKey) -> bool:
        """Whether it waits, for whatever."""
        return self._waits(key) or key in self._apart or key in self._aside

    def add(self, key: SessionKey) -> None:
        """It was told to be due. It keeps its place, if it had one. Where there is no room, the
        tenant with most of them gives up its last."""
        self._aside.pop(key, None)
        if key in self._apart:
            self._apart[key] = (self._apart[key][0], self._sweeps)
            return
        if not self._waits(key):
            if self._count >= KEPT_MAX and not self._made_room(key.tenant_id):
                return
            self._count += 1
        self._waiting.setdefault(key.tenant_id, {})[key] = self._sweeps

    def pop(self, is_full: Callable[[TenantId], bool] = lambda _: False) -> SessionKey | None:
        """Who is next to be claimed, of a tenant that is not full; it waits no more."""
        tenant_id = self._next(is_full)
        if tenant_id is None:
            return None
        keys = self._waiting.pop(tenant_id)
        key = _pop_first(keys)
        if keys:
            self._waiting[tenant_id] = keys  # behind the others
        self._count -= 1
        return key

    def has_next(self, is_full: Callable[[TenantId], bool]) -> bool:
        return self._next(is_full) is not None

    def clear(self) -> None:
        """Nobody waits for a slot any more."""
        self._waiting.clear()
        self._apart.clear()
        self._count = 0

    # -- users

    def set_apart(self, key: SessionKey, user: User) -> None:
        """It is this user's, who holds as many slots as one may."""
        self._apart[key] = (user, self._sweeps)

    def waits_apart(self, user: User) -> bool:
        return any(whose == user for whose, _ in self._apart.values())

    def pop_apart(self, user: User) -> SessionKey | None:
        """The one of this user's that has waited longest; it waits apart no more."""
        key = next((key for key, (whose, _) in self._apart.items() if whose == user), None)
        if key is not None:
            del self._apart[key]
        return key

    # -- the sweep

    def ask(self, *, free: int) -> int:
        """A sweep begins: how many sessions it is to show, with so many slots `free`. Enough to
        look past those that are known, unless they are very many."""
        self._sweeps += 1
        known = min(self._count + len(self._apart), ASKED_MAX)
        return max(free, 1) + 2 * len(self._aside) + known

    def shown(self, due: Sequence[SessionKey], *, asked: int) -> None:
        """The sweep's answer, of each tenant the longest due first.

        If it is shorter than it might be, it is all that there is: what was told before the sweep
        and is not in it was run elsewhere. Else nothing is known of what is not in it, and what is
        in it comes first.
        """
        if len(due) < asked:
            there = frozenset(due)
            for keys in (*self._waiting.values(), self._aside):
                for key in [it for it, told in keys.items() if told < self._sweeps]:
                    if key not in there:
                        del keys[key]
            for key in [it for it, (_, told) in self._apart.items() if told < self._sweeps]:
                if key not in there:
                    del self._apart[key]
            self._waiting = {whose: keys for whose, keys in self._waiting.items() if keys}
            self._count = sum(map(len, self._waiting.values()))
        else:
            first: dict[TenantId, Keys] = {}
            for key in due:
                if self._waits(key):
                    told = self._waiting[key.tenant_id][key]
                    first.setdefault(key.tenant_id, {})[key] = told
            for tenant_id, keys in first.items():
                self._waiting[tenant_id] = keys | self._waiting[tenant_id]

    def _waits(self, key: SessionKey) -> bool:
        return key in self._waiting.get(key.tenant_id, ())

    def _next(self, is_full: Callable[[TenantId], bool]) -> TenantId | None:
        return next((each for each in self._waiting if not is_full(each)), None)

    def _made_room(self, tenant_id: TenantId) -> bool:
        most, keys = max(self._waiting.items(), key=lambda each: len(each[1]))
        if len(keys) <= len(self._waiting.get(tenant_id, ())) + 1:
            return False
        assert most != tenant_id
        keys.popitem()
        self._count -= 1
        return True

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


def _pop_first(keys: Keys) -> SessionKey | None:
    key = next(iter(keys), None)
    if key is not None:
        del keys[key]
    return key
