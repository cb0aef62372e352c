"""What a session may do: its grants and its approvals."""

from collections.abc import Collection

from sessile.core.commands import AnswerApproval, SetGrants
from sessile.core.context import Principal
from sessile.core.errors import InvalidInput, UnknownGrant
from sessile.core.ids import CallId, SessionId
from sessile.core.session import Turn
from sessile.ports.store import Found
from sessile.runtime.inputs import check_grant, session_key
from sessile.runtime.node import Node
from sessile.runtime.reads import Reads

GRANTING_ROLES = frozenset({"admin", "operator"})
GRANTS_MAX = 64


class Gates:
    """Each raises SessionNotFound where the caller may not reach the session."""

    def __init__(self, *, node: Node, reads: Reads) -> None:
        self._node = node
        self._reads = reads

    async def grant(
        self,
        principal: Principal,
        session_id: SessionId,
        grants: Collection[str],
        *,
        request_id: str = "",
    ) -> Found:
        """The session's grants are these from now on: what was taken stops the next call of a
        tool, and what was given holds from the next turn on. Operators and admins may set any, and
        the session's owner those that its assistant lets owners set.

        Raises AssistantNotHere, Forbidden, InvalidInput, SessionClosed, UnknownGrant.
        """
        if len(set(grants)) > GRANTS_MAX:
            raise InvalidInput(f"a session has at most {GRANTS_MAX} grants", field="grants")
        for each in grants:
            check_grant(each)
        found = await self._reads.found(principal, session_id)
        own = frozenset(self._node.agent_of(found.session).owner_grants)
        self._check_known(grants, held=found.session.grants)
        command = SetGrants(
            principal=principal,
            grants=tuple(sorted(set(grants))),
            changeable=None if principal.roles & GRANTING_ROLES else own,
            note=self._node.note(request_id),
        )
        key = session_key(principal, session_id)
        self._node.publish(await self._node.store.transact(key, command))
        return await self._reads.found(principal, session_id)

    def _check_known(self, grants: Collection[str], *, held: Collection[str]) -> None:
        """Of any assistant, since the session may be handed to it; or left from another time."""
        known = {
            grant
            for agent in self._node.agents.values()
            for grant in (*agent.owner_grants, *(tool.grant for tool in agent.tools))
            if grant is not None
        }
        if unknown := sorted({*grants} - known - {*held}):
            there_are = ", ".join(sorted(known)) or "none"
            raise UnknownGrant(
                f"no tool asks for {', '.join(unknown)}; known: {there_are}", unknown=unknown
            )

    async def answer(
        self,
        principal: Principal,
        session_id: SessionId,
        call_id: CallId,
        *,
        granted: bool,
        reason: str = "",
        request_id: str = "",
    ) -> Turn:
        """Approve or deny a call that waits; the last answer lets the turn go on. The same answer
        again changes nothing.

        Raises CallNotFound, ApprovalAnswered.
        """
        command = AnswerApproval(
            principal=principal,
            call_id=call_id,
            granted=granted,
            reason=reason,
            note=self._node.note(request_id),
        )
        key = session_key(principal, session_id)
        committed = await self._node.store.transact(key, command)
        self._node.publish(committed)
        assert committed.turn is not None
        return committed.turn
