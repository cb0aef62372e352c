"""What an agent is given of its session, read from the log."""

from sessile.core.errors import LeaseLost
from sessile.core.ids import Seq, SessionKey
from sessile.core.transcript import History, is_void
from sessile.ports.store import Store


async def turn_history(
    store: Store, key: SessionKey, *, upto: Seq | None, entries_max: int
) -> History:
    """Of a turn that runs. Raises LeaseLost where not even what it answers is there: the session
    was deleted, and no agent is to be asked about nothing."""
    history = await read_history(store, key, upto=upto, entries_max=entries_max)
    if history.empty:
        raise LeaseLost()
    return history


async def read_history(
    store: Store, key: SessionKey, *, upto: Seq | None = None, entries_max: int
) -> History:
    """The newest entries up to `upto`, bounded as `History.bounded` does: the same as of a history
    that is carried from turn to turn."""
    before = None if upto is None else upto + 1
    newest_first = await store.read(
        key, before=before, history=True, newest_first=True, limit=entries_max
    )
    history = History(reversed(newest_first))
    if len(newest_first) < entries_max or history.summary is not None:
        return history
    summary = await store.summary(key, before=newest_first[-1].seq)
    while summary is not None and is_void(summary):
        summary = await store.summary(key, before=summary.seq)
    return history if summary is None else History((summary, *reversed(newest_first)))
