"""What the store's answer to a claim or a submit comes to: a turn to be run here, or not."""

from sessile.core.ids import Fence, SessionKey
from sessile.ports.store import Committed
from sessile.runtime.announce import runnable
from sessile.runtime.journal import patiently
from sessile.runtime.node import Node

STARTS_KEPT_MAX = 4096
"""Starts that a node remembers having run: more than answers of the store can be on their way."""


class Starts:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._begun: dict[SessionKey, Fence] = {}

    def stranger(self, claimed: Committed) -> str | None:
        """The assistant that a turn waits for, where this node does not have it."""
        if claimed.session is None or not runnable(claimed):
            return None
        name = claimed.session.assistant
        return None if name in self._node.runner.assistants else name

    def are_ours(self, committed: Committed) -> bool:
        """Whether this node holds the session's lease, and is to run its turn."""
        return (
            committed.head is not None
            and committed.head.running_turn_id is not None
            and committed.lease.owner == self._node.runner.node
        )

    def is_first(self, committed: Committed) -> bool:
        """Of one start the node may learn twice: by its own answer, and by one that was asked for
        because another was lost. Only the first is run."""
        head = committed.head
        if head is None or not self.are_ours(committed):
            return False
        if self._begun.get(head.key, 0) >= head.fence:
            return False
        self._begun.pop(head.key, None)
        self._begun[head.key] = head.fence
        if len(self._begun) > STARTS_KEPT_MAX:
            del self._begun[next(iter(self._begun))]
        return True

    async def whole(self, committed: Committed) -> Committed | None:
        """The start that this commit made, as `Attempt` wants it; None where it is over."""
        head = committed.head
        assert head is not None
        assert head.running_turn_id is not None
        turn = committed.turns.get(head.running_turn_id)
        session = committed.session
        if turn is None or session is None:
            store, key, turn_id = self._node.store, head.key, head.running_turn_id
            found = await patiently(lambda: store.find(key, turn_id))
            if found is None or found.head.fence != head.fence or found.turn is None:
                return None
            head, turn, session = found.head, found.turn, found.session
        return Committed(
            head=head,
            lease=committed.lease,
            session_id=committed.session_id,
            entries=tuple(e for e in committed.entries if e.turn_id == turn.turn_id),
            turns=committed.turns,
            turn=turn,
            session=session,
        )
