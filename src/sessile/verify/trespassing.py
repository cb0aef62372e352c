"""Parts of the workload in which somebody asks for what is another's."""

from sessile.verify.steps import Steps


async def tenants(do: Steps) -> None:
    """Another principal tries all that it might do to a session."""
    who, other = do.who("tenants"), do.who("tenants", "other", do.other)
    session = await do.open(who)
    if session is None:
        return
    first = await do.post(who, session)
    await do.settle(who, [first])
    turn = str(first.said.get("turn"))
    await do.read_all(other, session, settled=False)
    await do.post(other, session)
    if "stream" in do.can:
        async with do.backend.follow(other, session) as followed:
            await do.until(followed, lambda _: True, 0.5)
    if "list" in do.can:
        await do.backend.list(other)
    if do.target.turn is not None:
        await do.backend.turn(other, session, turn)
    for what in ("cancel", "close", "delete"):
        if what in do.can:
            await do.backend.simple(other, what, session, turn)
    await do.settle(who, [await do.post(who, session)])
    await do.read_all(who, session)


async def oracle(do: Steps) -> None:
    """The same is asked for a session of another's and for one that nobody has."""
    who = do.who("oracle", "owner")
    session = await do.open(who)
    if session is None:
        return
    sent = await do.post(who, session)
    await do.settle(who, [sent])
    turn = str(sent.said.get("turn"))
    absent, no_turn = do.made_up(session), do.made_up(turn)
    for what in ("read", "turn", "send", "cancel", "stream", "close", "delete"):
        other = do.who("oracle", what, do.other)
        for asked in (session, absent):
            if what == "read":
                await do.backend.read(other, asked, next(iter(do.target.reads)))
            elif what == "send":
                await do.post(other, asked)
            elif what == "turn" and "turn" in do.can:
                await do.backend.turn(other, asked, turn if asked == session else no_turn)
            elif what == "stream" and "stream" in do.can:
                async with do.backend.follow(other, asked) as followed:
                    await do.until(followed, lambda _: True, 0.3)
            elif what in do.can and what != "turn":
                await do.backend.simple(other, what, asked, no_turn)
