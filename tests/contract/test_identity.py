"""What belongs to the database itself: who it is, and whether it can be written."""

from tests.contract.desk import ACME, ANN, Desk

from sessile.core.ids import TenantId


async def test_a_probe_writes_nothing_that_anybody_reads(desk: Desk) -> None:
    key = await desk.open()
    await desk.submit(key)
    before = await desk.everything(key)

    await desk.store.probe()

    assert await desk.everything(key) == before
    assert [found.head.key for found in await desk.store.sessions(ACME, limit=10)] == [key]
    assert await desk.store.sessions(TenantId("probe"), limit=10) == ()
    assert ANN.tenant_id == ACME


async def test_a_database_stays_who_it_is(desk: Desk) -> None:
    before = await desk.store.identity()
    await desk.open()
    await desk.store.probe()

    assert await desk.store.identity() == before
    assert (before.epoch, len(before.secret)) == (0, 32)
    assert before.secret.hex() not in repr(before)
    assert repr(before.secret) not in repr(before)
