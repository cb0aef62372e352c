"""The slots of a node: how many are free, and who holds the others."""

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from sessile.core.context import Principal
from sessile.core.ids import TenantId, UserId

T = TypeVar("T")
User = tuple[TenantId, UserId]


def user_of(principal: Principal) -> User:
    return (principal.tenant_id, principal.user_id)


class Slots:
    """`tenant_max`, `user_max`: how many one may hold; 0 is seven eighths of them for a tenant, and
    for a user as many as its tenant."""

    def __init__(
        self,
        count: int,
        *,
        tenant_max: Callable[[TenantId], int],
        user_max: Callable[[TenantId], int],
    ) -> None:
        self.count = count
        self.free = count
        self._shut = 0
        self._tenant_max = tenant_max
        self._user_max = user_max
        self._tenants = Counter[TenantId]()
        self._users = Counter[User]()

    def take(self, tenant_id: TenantId) -> None:
        self.free -= 1
        self._tenants[tenant_id] += 1

    def give_back(self, tenant_id: TenantId) -> None:
        self.free += 1
        _less(self._tenants, tenant_id)

    @property
    def held(self) -> int:
        return self.count - self.free

    @property
    def room(self) -> int:
        """How many more turns may begin; below 0 while some of those that run are to end first."""
        return self.free - self._shut

    def late(self) -> None:
        """The leases of those that run were not renewed in time. What made them late is asked half
        as much next: nodes that take each other's turns over, and lose them, all day, end none."""
        self._shut = self.count - max(1, self.held // 2)

    def in_time(self) -> None:
        """An eighth of them more, each time."""
        self._shut = max(0, self._shut - max(1, self.count // 8))

    def is_full(self, tenant_id: TenantId, *, but: TenantId | None = None) -> bool:
        """Whether the tenant holds as many as it may; one less where it is `but`, whose slot is
        about to be given away."""
        most = self._tenant_max(tenant_id) or self.count - self.count // 8
        return most <= self._tenants[tenant_id] - (tenant_id == but)

    def watches_users(self, tenant_id: TenantId) -> bool:
        return self._user_max(tenant_id) > 0

    def user_is_full(self, user: User) -> bool:
        return 0 < self._user_max(user[0]) <= self._users[user]

    def take_for(self, user: User) -> None:
        """A slot that was taken is this user's."""
        self._users[user] += 1

    def give_back_for(self, user: User) -> None:
        _less(self._users, user)


def _less(held: Counter[T], who: T) -> None:
    held[who] -= 1
    if not held[who]:
        del held[who]
