"""The server, put together: settings and assistants in."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from sessile.adapters.cursor_file import open_cursors
from sessile.adapters.dev_tokens import DevTokens, check_host, load_or_create
from sessile.adapters.pusher_app import load_or_create as load_or_create_app
from sessile.adapters.system import SystemClock, Uuid7Ids, new_node_id, new_socket_id
from sessile.core.commands import Runner
from sessile.core.context import Principal
from sessile.core.events import JsonObject, WhenBusy
from sessile.core.ids import SessionId, TenantId, TurnId
from sessile.core.session import Turn
from sessile.core.transcript import Message
from sessile.kit.assistant import Assistant
from sessile.ports.agent import Agent
from sessile.ports.auth import Authenticator
from sessile.ports.clock import Clock, IdSource
from sessile.ports.notifier import Notifier
from sessile.ports.store import Store
from sessile.pusher.hub import Hub
from sessile.pusher.projections import Projection, Projections
from sessile.pusher.relay import Client, PusherRelay
from sessile.pusher.signing import AppKeys
from sessile.runtime.announce import Announcer
from sessile.runtime.answers import Opened, Submitted
from sessile.runtime.feed import Feed, FeedItem
from sessile.runtime.gates import Gates
from sessile.runtime.house import EraseCredentials, Housekeeper
from sessile.runtime.keeping import Keeping
from sessile.runtime.limits import Limits
from sessile.runtime.node import Node
from sessile.runtime.outages import WatchedStore
from sessile.runtime.places import Places
from sessile.runtime.reads import Reads
from sessile.runtime.sessions import Sessions
from sessile.runtime.telemetry import Telemetry
from sessile.runtime.threads import Threads
from sessile.runtime.workers import Workers
from sessile.settings import Settings
from sessile.wiring.agents import runnable
from sessile.wiring.identity import new_identity, open_sign_in
from sessile.wiring.stores import open_notifier, open_store
from sessile.wiring.webhooks import open_desk

if TYPE_CHECKING:
    from sessile.http.app import App


class Server:
    """Sessile inside a Python program, and what the HTTP surface stands on.

    `async with Server(assistant, …) as server:` opens the store, takes up what an earlier process
    left, and on leaving drains: turns that run may end, the rest are handed back. Open, it has its
    `sessions` and `reads`: all that a caller may do, and read.
    """

    def __init__(
        self,
        *assistants: Assistant,
        settings: Settings | None = None,
        store: Callable[[Settings, Clock], AbstractAsyncContextManager[Store]] | None = None,
        clock: Clock | None = None,
        ids: IdSource | None = None,
    ) -> None:
        self.settings = Settings() if settings is None else settings
        self.telemetry = Telemetry()
        self._agents = {assistant.name: runnable(assistant) for assistant in assistants}
        if not assistants or len(self._agents) != len(assistants):
            raise ValueError("a server has assistants, each with a name of its own")
        self._default = assistants[0].name
        self._clock = SystemClock() if clock is None else clock
        self._ids = Uuid7Ids(now_ms=self._clock.now_ms) if ids is None else ids
        self._open_store = open_store if store is None else store
        self._is_own = store is None
        self.identity = new_identity(self._clock)
        self._stack = AsyncExitStack()
        self._routers: list[Any] = []
        self._projections = Projections()
        self._relays: list[tuple[Client, frozenset[TenantId]]] = []
        self._credentials: list[EraseCredentials] = []
        self.node_id = new_node_id()
        """As in `turn.started`, in the ids of requests and in this process's log."""

    @property
    def assistants(self) -> tuple[Agent, ...]:
        return tuple(self._agents.values())

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(self._open_store(self.settings, self._clock))
            identity = await store.identity()
            self.epoch = identity.epoch
            foreign = self.telemetry.hints_foreign.inc
            notifier = await stack.enter_async_context(
                open_notifier(self.settings, self.node_id, identity, count_foreign=foreign)
            )
            announcer = Announcer(notifier=notifier, telemetry=self.telemetry)
            stack.callback(announcer.close)
            threads = Threads(threads_max=self.settings.tool_threads_max)
            stack.callback(threads.close)
            self.limits = self._limits(store)
            node = Node(
                store=WatchedStore(store),
                limits=self.limits,
                clock=self._clock,
                ids=self._ids,
                settings=self.settings,
                agents=self._agents,
                telemetry=self.telemetry,
                threads=threads,
                runner=self._runner(),
                publish=announcer.publish,
            )
            self.feed = Feed(
                store=store,
                notifier=notifier,
                settings=self.settings,
                telemetry=self.telemetry,
            )
            stack.callback(self.feed.close)
            self.places = Places(self.settings)
            self.reads = Reads(node=node)
            self._keep(node, notifier)
            self.workers = Workers(node=node, notifier=notifier, feed=self.feed)
            self.gates = Gates(node=node, reads=self.reads)
            self.sessions = Sessions(
                node=node,
                workers=self.workers,
                announcer=announcer,
                notifier=notifier,
                reads=self.reads,
                default_assistant=self._default,
            )
            self.sign_in = await stack.enter_async_context(
                open_sign_in(self.identity, identity, self.settings, self._clock, kept=self._is_own)
            )
            self.erases(self.sign_in.remove_user)
            await stack.enter_async_context(self.workers)
            await stack.enter_async_context(self.house)
            await self._open_channels(stack, notifier)
            self._stack = stack.pop_all()
        return self

    def _runner(self) -> Runner:
        return Runner(
            node=self.node_id,
            lease_ms=int(self.settings.lease_ttl_seconds * 1000),
            assistants=frozenset(self._agents),
        )

    def _limits(self, store: Store) -> Limits:
        return Limits(
            store=store, clock=self._clock, settings=self.settings, telemetry=self.telemetry
        )

    def _keep(self, node: Node, notifier: Notifier) -> None:
        self.house = Housekeeper(
            node=node, keeping=lambda: self.keeping, credentials=self._credentials
        )
        self.keeping = Keeping(
            node=node, reads=self.reads, notifier=notifier, erase=self.house.ring
        )

    async def _open_channels(self, stack: AsyncExitStack, notifier: Notifier) -> None:
        self.hub = await stack.enter_async_context(
            Hub(
                feed=self.feed,
                reads=self.reads,
                clock=self._clock,
                settings=self.settings,
                telemetry=self.telemetry,
                projections=self._projections,
                places=self.places,
            )
        )
        for client, tenants in self._relays:
            cursors = await stack.enter_async_context(
                open_cursors(self.settings.data_dir / "pusher-relay.db")
            )
            relay = PusherRelay(
                client=client,
                tenants=tenants,
                cursors=cursors,
                epoch=self.epoch,
                reads=self.reads,
                notifier=notifier,
                projections=self._projections,
            )
            await stack.enter_async_context(relay)
        self.webhooks = await stack.enter_async_context(
            open_desk(
                self.settings,
                kept=self._is_own,
                node=self.node_id,
                epoch=self.epoch,
                reads=self.reads,
                notifier=notifier,
                clock=self._clock,
            )
        )

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    # -- the library's face

    async def open(
        self,
        principal: Principal,
        *,
        assistant: str | None = None,
        title: str | None = None,
        metadata: JsonObject | None = None,
        idempotency_key: str | None = None,
    ) -> Opened:
        """As `runtime.sessions.Sessions.open`."""
        return await self.sessions.open(
            principal,
            assistant=assistant,
            title=title,
            metadata=metadata,
            idempotency_key=idempotency_key,
        )

    async def submit(
        self,
        principal: Principal,
        session_id: SessionId,
        said: str | JsonObject,
        *,
        when_busy: WhenBusy = "enqueue",
        idempotency_key: str | None = None,
        wait_seconds: float = 0,
    ) -> Submitted:
        """As `runtime.sessions.Sessions.submit`. A text is `{type: message, text: …}`."""
        return await self.sessions.submit(
            principal,
            session_id,
            {"type": "message", "text": said} if isinstance(said, str) else said,
            when_busy=when_busy,
            idempotency_key=idempotency_key,
            wait_seconds=wait_seconds,
        )

    def follow(
        self, principal: Principal, session_id: SessionId, *, after: int = 0
    ) -> AsyncIterator[FeedItem]:
        """The session's log from the cursor on, as it grows; until Ended, or this node drains.

        `after` is of the present `epoch`: who keeps cursors over restarts keeps that beside them.
        """
        return self.feed.follow(principal, session_id, after=after)

    async def history(
        self, principal: Principal, session_id: SessionId, *, limit: int = 100
    ) -> tuple[Message, ...]:
        """The newest messages, oldest first."""
        return (await self.reads.messages(principal, session_id, limit=limit)).items

    async def cancel(self, principal: Principal, session_id: SessionId, turn_id: TurnId) -> Turn:
        """Withdraw a queued turn, or stop a running one."""
        return await self.sessions.cancel(principal, session_id, turn_id)

    def app(self, authenticator: Authenticator | None = None) -> "App":
        """The HTTP surface, an ASGI application. The server must be open while it is served.

        Without an authenticator, whom the settings and the database let in, and while this machine
        alone can reach the server, development tokens: see `dev_tokens`.
        """
        from sessile.console.surface import Console  # noqa: PLC0415
        from sessile.http.app import create_app  # noqa: PLC0415
        from sessile.pusher.surface import Pusher  # noqa: PLC0415

        if authenticator is None and self.settings.local and self.settings.role != "turns":
            self.identity.let_in(dev_tokens(self.settings))
        known = self.identity if authenticator is None else authenticator
        node = self.node_id.rpartition("_")[2]
        if self.settings.role == "turns":
            return create_app(self, known, node=node)
        pusher = Pusher(
            self,
            keys=pusher_keys(self.settings),
            authenticator=known,
            clock=self._clock,
            new_socket_id=new_socket_id,
        )
        console = (Console(),) if self.settings.console else ()
        return create_app(self, known, node=node, surfaces=(pusher, *console))

    def project(self, projection: Projection, *, assistant: str | None = None) -> Projection:
        """Tell the channels of sessions, or of one assistant's, entries in another shape besides.

        `projection(session_id, entry)` answers names and data of events for an entry, which is as
        in `GET …/events`. They follow the entry's own event, and `seq` is added to their data.
        """
        self._projections.add(projection, assistant=assistant)
        return projection

    def relay(self, client: Client, *, tenants: Iterable[str]) -> None:
        """Publish the sessions of these tenants to a hosted service too, from when the server is
        opened: as `pusher.relay.PusherRelay`. `client` is a `pusher.Pusher` of that service.

        Raises ValueError for a tenant that is relayed already: its cursor is one service's.
        """
        wanted = frozenset(map(TenantId, tenants))
        for _, relayed in self._relays:
            if twice := wanted & relayed:
                raise ValueError(f"relayed already: {', '.join(sorted(twice))}")
        self._relays.append((client, wanted))

    def erases(self, credentials: EraseCredentials) -> None:
        """Call this too for each user that is erased, before the user's sessions go: it removes
        what you keep of the user. It may be called again."""
        self._credentials.append(credentials)

    def mount(self, router: Any) -> None:
        """Add a FastAPI router of your own to the HTTP surface, before it is served.

        Its routes may take a `Caller`, who has shown a token, and an `IdempotencyKey`. What they
        raise, a SessileError or an HTTPException, is told as a problem document.
        """
        self._routers.append(router)

    @property
    def routers(self) -> Iterable[Any]:
        return tuple(self._routers)


def pusher_keys(settings: Settings) -> AppKeys:
    """The Pusher app's key and secret: of the settings, else of a file in the data directory."""
    key, secret = load_or_create_app(
        settings.data_dir / "pusher-app", key=settings.pusher_key, secret=settings.pusher_secret
    )
    return AppKeys(key=key, secret=secret)


def dev_tokens(settings: Settings) -> DevTokens:
    """The logins of this machine's developer. Raises ValueError where others could reach it."""
    check_host(settings.host)
    return load_or_create(settings.data_dir / "dev-tokens", settings.dev_token)
