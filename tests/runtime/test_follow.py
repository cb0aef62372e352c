"""Whoever follows a session while its node drains is given what there is, and then the end."""

from tests.runtime.agents import echo
from tests.runtime.rig import ANN, House, virtual

from sessile.runtime.feed import Grown


@virtual
async def test_a_follower_of_a_node_that_drains_has_all_and_comes_back_for_more(
    house: House,
) -> None:
    node, other = await house.node(echo()), await house.node(echo())
    session = await house.open(node)
    following = node.feed.follow(ANN, session)
    first = await anext(following)
    turn = (await house.submit(other, session)).turn
    await house.ended(session, turn.turn_id)
    key = house.head(session).key
    await house.until(lambda: node.feed._tails[key].head == house.head(session).head)

    node.feed.drain()
    items = [first, *[item async for item in following]]
    late = [item async for item in node.feed.follow(ANN, session)]

    log = [entry.seq for entry in house.log(session)]
    for given in (items, late):
        assert all(isinstance(item, Grown) for item in given)
        assert [entry.seq for item in given for entry in item.entries] == log
    assert node.feed.readers == 0


@virtual
async def test_a_follower_who_leaves_is_forgotten(house: House) -> None:
    node = await house.node(echo())
    session = await house.open(node)
    following = node.feed.follow(ANN, session)
    await anext(following)
    assert len(node.feed._follows) == 1

    await following.aclose()  # type: ignore[attr-defined]

    assert node.feed._follows == set()
