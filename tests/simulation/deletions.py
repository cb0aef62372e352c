"""What must hold of deletions: nothing of a session that was deleted is there, or comes back."""

from collections.abc import Collection, Iterator, Mapping

from tests.simulation.checker import Seen

from sessile.adapters.memory import MemoryStore
from sessile.adapters.memory.rows import Kept
from sessile.core.ids import SessionKey


def faults_of_deletions(
    keys: Collection[SessionKey],
    store: MemoryStore,
    buried: Mapping[SessionKey, Kept],
    seen: Seen,
) -> Iterator[str]:
    """`keys`: of all sessions that clients opened. `buried`: those that the store has deleted."""
    for key in keys:
        here = f"{key.session_id}: "
        if key not in buried:
            if key in seen.deleted:
                yield f"{here}somebody was told that it is not there, and it was not deleted"
            elif key not in store._kept:
                yield f"{here}it is not there, and was not deleted"
            continue
        if key not in seen.deleting:
            yield f"{here}it was deleted, and nobody asked for that"
        for fault in _left(store, key):
            yield f"{here}it was deleted, and {fault}"


def _left(store: MemoryStore, key: SessionKey) -> Iterator[str]:
    if key in store._kept:
        yield f"it is there, with {len(store._kept[key].log)} entries"
    if key in store._due_at_ms:
        yield "it is due"
    if key in store._holders.values():
        yield "it holds its exclusive key"
    if key in store.records._forks:
        yield "it is still a fork"
    for (tenant_id, _, scope, name), answer in store._remembered.items():
        if tenant_id == key.tenant_id and key.session_id in (scope, answer.session_id):
            yield f"the answer to the key {name!r} of it is left"
    noted = [
        record
        for record in store.records._audit.values()
        if record.action == "session.deleted" and record.subject == key.session_id
    ]
    if len(noted) != 1:
        yield f"{len(noted)} audit records say so"
