"""Whether those who were let into the channels of sessions may still be there."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from sessile.core.context import Principal
from sessile.core.errors import NotFound, SessileError
from sessile.core.ids import SessionKey
from sessile.ports.clock import Clock
from sessile.pusher import frames
from sessile.pusher.admission import Admission
from sessile.pusher.frames import Fault
from sessile.pusher.socket import Socket
from sessile.pusher.switchboard import Outcome, Switchboard
from sessile.runtime.reads import Reads

logger = logging.getLogger(__name__)

AT_ONCE = 50
"""Sockets that are asked about at the same time: a slow authenticator holds up its own alone."""
ENDS: Mapping[str, tuple[int, str]] = {
    "closed": (410, "The session is closed."),
    "gone": (404, "There is no such session."),
}

_Reached = dict[tuple[SessionKey, Principal], bool]


class Checks:
    """Ends what may not go on: a subscription, or the connection where its token has ended."""

    def __init__(
        self,
        *,
        reads: Reads,
        clock: Clock,
        seconds: float,
        switchboard: Switchboard,
        perform: Callable[[Sequence[Outcome]], None],
    ) -> None:
        self._reads = reads
        self._clock = clock
        self._seconds = seconds
        self._switchboard = switchboard
        self._perform = perform

    async def make(self, sockets: Iterable[Socket]) -> None:
        """Ask about all of them once; no answer in time is none."""
        reached: _Reached = {}
        left = iter(sockets)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._check_each(left, reached))

    async def _check_each(self, sockets: Iterator[Socket], reached: _Reached) -> None:
        for socket in sockets:
            channels = self._switchboard.registry.channels_of(socket.socket_id)
            for channel in socket.admitted.keys() - channels:
                del socket.admitted[channel]
            for channel, admission in tuple(socket.admitted.items()):
                # The client may have left meanwhile, and come again: then it was let in anew.
                if socket.cut_at is None and socket.admitted.get(channel) is admission:
                    await self._check(socket.socket_id, channel, admission, reached)

    async def _check(
        self, socket_id: str, channel: str, admission: Admission, reached: _Reached
    ) -> None:
        who = (admission.key, admission.principal)
        try:
            async with asyncio.timeout(self._seconds):
                known = await admission.known()
            if not known:
                # The whole connection: a new one has another id, for which nothing was signed.
                self._close(socket_id, frames.UNAUTHORIZED)
                return
            if who not in reached:
                reached[who] = await self._reaches(*who)
        except SessileError:
            return  # the database does not answer now; it is asked again
        except Exception:
            logger.exception("access could not be checked", extra={"channel": channel})
            self._close(socket_id, frames.UNREADABLE)
            return
        if not reached[who]:
            status, message = ENDS["gone"]
            put_out = self._switchboard.expel(
                channel, status=status, message=message, only=(socket_id,)
            )
            self._perform(put_out)
        elif self._clock.now_ms() >= admission.until_ms:
            self._close(socket_id, frames.AUTHORIZE_AGAIN)

    async def _reaches(self, key: SessionKey, principal: Principal) -> bool:
        try:
            await self._reads.found(principal, key.session_id)
        except NotFound:
            return False
        return True

    def _close(self, socket_id: str, fault: Fault) -> None:
        self._perform(self._switchboard.close(socket_id, fault))
