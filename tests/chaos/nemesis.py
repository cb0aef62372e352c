"""What befalls the nodes and what they share: a plan made from a seed, and who carries it out."""

import asyncio
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from tests.chaos.nodes import LEASE_SECONDS, Cluster, Node, Restarted

LEFT_BEHIND_SECONDS_MAX = 20.0
CUTS = ("cut one", "cut one", "cut all", "lose replies", "stall")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """`place`: the number of a node, or of the next one that is there. `seconds`: how long it
    lasts."""

    at: float
    kind: str
    place: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """How many blows of each kind a minute has."""

    kills: int = 11
    pauses: int = 7
    cuts: int = 36
    database_restarts: int = 2
    bus_restarts: int = 0


def plan(seed: int, *, seconds: float, nodes: int, rates: Rates) -> tuple[Blow, ...]:
    """The same for the same arguments. Half of the database's restarts are kills."""
    chance = random.Random(seed)
    minutes = seconds / 60

    def times(rate: int) -> Iterable[float]:
        """Evenly spread, so that each minute has its share, and jittered."""
        count = round(rate * minutes)
        return (seconds * (number + chance.random()) / count for number in range(count))

    def place() -> int:
        return chance.randrange(nodes)

    blows = [
        *(
            Blow(at=at, kind="kill", place=place(), seconds=chance.uniform(0.1, 2.0))
            for at in times(rates.kills)
        ),
        *(
            Blow(
                at=at,
                kind="pause",
                place=place(),
                seconds=LEASE_SECONDS * chance.uniform(1.1, 2.2),
            )
            for at in times(rates.pauses)
        ),
        *(
            Blow(at=at, kind=chance.choice(CUTS), place=place(), seconds=chance.uniform(0.2, 2.6))
            for at in times(rates.cuts)
        ),
        *(
            Blow(at=at, kind=("restart database", "kill database")[number % 2])
            for number, at in enumerate(times(rates.database_restarts))
        ),
        *(
            Blow(at=at, kind=("restart bus", "kill bus")[number % 2], seconds=chance.uniform(0, 1))
            for number, at in enumerate(times(rates.bus_restarts))
        ),
    ]
    return tuple(sorted(blows, key=lambda blow: blow.at))


class Nemesis:
    """Carries out a plan; what it did is in the history, under the names of the blows."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._recorder = cluster.recorder
        self._shared = asyncio.Lock()
        self._felling = asyncio.Lock()

    async def run(self, blows: Iterable[Blow]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for blow in blows:
                self._recorder.put("plan", **asdict(blow))
                tasks.create_task(self._at(began + blow.at, blow))
        for node in self._cluster.nodes:
            if node.ended_by_itself():
                self._recorder.put("ended", place=node.name)

    async def _at(self, time: float, blow: Blow) -> None:
        await asyncio.sleep(time - asyncio.get_running_loop().time())
        match blow.kind:
            case "kill":
                async with self._felling:
                    node = await self._there(blow, besides=1)
                    self.kill(node)
                await asyncio.sleep(blow.seconds)
                await self.start(node)
            case "pause":
                async with self._felling:
                    node = await self._there(blow, besides=1)
                    self._recorder.put("pause", place=node.name, seconds=blow.seconds)
                    node.pause()
                await asyncio.sleep(blow.seconds)
                node.resume()
                self._recorder.put("resume", place=node.name)
            case "restart database" | "kill database":
                at_once = blow.kind.startswith("kill")
                await self._restart(self._cluster.database, blow, at_once=at_once)
            case "restart bus" | "kill bus":
                if self._cluster.bus is not None:
                    at_once = blow.kind.startswith("kill")
                    await self._restart(self._cluster.bus, blow, at_once=at_once)
            case _:
                await self._cut(await self._there(blow), blow)

    @property
    def _serving(self) -> list[Node]:
        return [each for each in self._cluster.nodes if each.node_id and not each.paused]

    async def _there(self, blow: Blow, *, besides: int = 0) -> Node:
        """The node of the place or the next, when one runs, and so many others; a plan does not
        know which do. Where nodes are slow to come back, blows are late."""
        # That a node serves is told in its log, which rings no bell.
        while len(self._serving) <= besides:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        nodes = self._cluster.nodes
        turned = (*nodes[blow.place :], *nodes[: blow.place])
        return next(node for node in turned if node in self._serving)

    def kill(self, node: Node) -> None:
        """With -9."""
        self._recorder.put("kill", place=node.name, node=node.node_id)
        if node.ended_by_itself():
            self._recorder.put("ended", place=node.name)
        node.kill()

    async def start(self, node: Node) -> None:
        """Again, with another id."""
        node.start()
        await node.ready()
        self._recorder.put("started", place=node.name, node=node.node_id)

    async def _cut(self, node: Node, blow: Blow) -> None:
        chance = random.Random(blow.at)
        for proxies in (self._cluster.proxies, self._cluster.bus_proxies):
            if (proxy := proxies.get(node)) is None:
                continue
            match blow.kind:
                case "cut one":
                    count = proxy.cut_one(chance)
                case "cut all":
                    count = proxy.cut()
                case "lose replies":
                    count = proxy.lose_replies()
                case _:
                    count = proxy.open
            self._recorder.put(blow.kind, place=node.name, connections=count, seconds=blow.seconds)
            if blow.kind == "stall":
                proxy.stall(up=True, down=True)
                await asyncio.sleep(blow.seconds)
                proxy.pass_all()

    async def _restart(self, server: Restarted, blow: Blow, *, at_once: bool) -> None:
        async with self._shared:
            self._recorder.put(blow.kind)
            await asyncio.to_thread(server.stop, at_once=at_once)
            await asyncio.sleep(blow.seconds)
            await self._up(server)
            self._recorder.put("restarted", kind=blow.kind)

    async def _up(self, server: Restarted) -> None:
        """Started, when what a killed one left behind has gone: PostgreSQL refuses to start as
        long as a process of the last one uses its memory."""
        loop = asyncio.get_running_loop()
        end = loop.time() + LEFT_BEHIND_SECONDS_MAX
        while True:
            try:
                return await asyncio.to_thread(server.start)
            except AssertionError:
                if loop.time() > end:
                    raise
            await asyncio.sleep(0.1)
