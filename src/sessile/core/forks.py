"""What a fork must find of the session that it copies."""

from sessile.core.commands import OpenSession, View
from sessile.core.errors import OriginMoved, SessionNotFound


def check_origin(view: View, command: OpenSession) -> None:
    """What a fork copies was read before it is written: of what was said since, something may have
    voided it. Raises SessionNotFound, OriginMoved."""
    origin = view.origin
    if origin is None or not command.principal.may_reach(origin.key, origin.user_id):
        raise SessionNotFound()
    if origin.head != command.origin_seen:
        raise OriginMoved(head=origin.head)
