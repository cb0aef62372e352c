"""How a backend is spoken to: its requests, and where its replies say what.

A mapping is a YAML file, or a Python file with a name MAPPING of the same shape: see
`docs/verify.md`. What it does not have is not tested, and is not said to have passed.
"""

from collections.abc import Mapping as Map
from dataclasses import dataclass, field, replace
from typing import Any


class BadMapping(ValueError):
    """With the place in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """`call`: a method and a path, with its query: `GET /v1/sessions/{session}`. The body is
    `json`, or a `form` that is encoded as an HTML form is."""

    call: str
    headers: Map[str, str] = field(default_factory=dict[str, str])
    json: Any = None
    form: Map[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        method, _, path = self.call.partition(" ")
        if not (method.isupper() and path.startswith("/")):
            raise BadMapping(f"{self.call!r} is not a method and a path")
        if self.form and self.json is not None:
            raise BadMapping(f"{self.call!r} has a form and JSON; a request has one of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """`session`: where the id stands; several paths must all say the same. Without a request, the
    session is there once it is written to, by an id that the caller makes up."""

    request: Request | None = None
    session: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What an event of a stream says: paths into its data. `@event` and `@id` are what the event
    stream itself says. `started`, `ended`: the names that begin and end a turn, each with the
    state that it ends in. `text`: what an event of `texts` adds to the answer; `message`: the
    whole message that one of `messages` tells. `gap`: the names that say that something was lost.
    `call`: the id of a tool's call, with the names that begin and end one."""

    name: str = "@event"
    id: str | None = "@id"
    seq: str | None = None
    session: str | None = None
    turn: str | None = None
    text: str | None = None
    texts: tuple[str, ...] = ()
    message: str | None = None
    messages: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    ended: Map[str, str] = field(default_factory=dict[str, str])
    progress: Map[str, str] = field(default_factory=dict[str, str])
    progress_in: tuple[str, ...] = ()
    gap: tuple[str, ...] = ()
    call: str | None = None
    call_started: tuple[str, ...] = ()
    call_ended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A request whose reply has the principal's bearer token."""

    request: Request
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """Press a button that was not offered: what answers it must stay in the session."""

    request: Request
    session: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Post a text to a session. `reply`: where the answer stands in a reply that has it;
    `events`: the reply is an event stream that ends with the turn; `waits`: it comes when the turn
    has ended, without the answer. `opens`: a send that names no session gets one of its own.
    `exclusive`: each `{user}` has one active session, whoever asks. `creates`: a send to a session
    that is not there makes one of that name. `late`: the message is in a history once its turn has
    completed, and not where that failed."""

    request: Request
    session: tuple[str, ...] = ()
    turn: str | None = None
    reply: str | None = None
    events: Events | None = None
    waits: bool = False
    keyed: bool = False
    opens: bool = False
    creates: bool = False
    late: bool = False
    exclusive: bool = False

    @property
    def until_the_end(self) -> bool:
        return self.waits or self.reply is not None or self.events is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A way to read what was said, oldest first. `roles`: the backend's words for user and
    assistant, where they are others. `where`: only items with these values at these paths.
    `newest_first`: the list is turned round. `more`: where a reply says that there is more than it
    has; what it lacks is then missed by nobody."""

    request: Request
    items: str
    id: str | None = None
    role: str | None = None
    text: str = "text"
    turn: str | None = None
    roles: Map[str, str] = field(default_factory=dict[str, str])
    where: Map[str, str] = field(default_factory=dict[str, str])
    newest_first: bool = False
    more: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Ask how a turn stands. `states`: the backend's words by ours: queued, running, completed,
    failed, cancelled. `progress`: four numbers by name."""

    request: Request
    state: str
    states: Map[str, tuple[str, ...]]
    reply: str | None = None
    session: str | None = None
    progress: Map[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Follow a session. `resume_header`, `resume_query`: what takes the last id."""

    request: Request
    events: Events
    resume_header: str | None = None
    resume_query: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Where the ids of the caller's sessions stand."""

    request: Request
    sessions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """How a session is allowed the tool `probe_gated`, and not any more. `tools`: what tells which
    tools there are, be they allowed or not, with their `names`."""

    give: Request
    take: Request
    tools: Request | None = None
    names: str = "[*]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals:
    """What tells the `calls` of a session that wait for an approval, the last one last, or did;
    and how `{call}` is approved."""

    pending: Request
    calls: str
    approve: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Detect:
    """The backend is this one where the reply has these values at these paths."""

    request: Request
    has: Map[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A file of lines with a token, a tenant, a user and a role, as some servers leave for whoever
    develops on the same machine. Looked for where `sessile verify` is run."""

    file: str
    scheme: str = "Bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """`principals`: headers by principal: `p`, and `q` who must not see what p has; `{user}` is a
    name of their own. `sign_in`: how each gets a token. `busy`: the statuses of "not now";
    `busy_says`: what another refusal says at these paths that means the same. `slow_text`: what
    has a turn that takes a second or so; `tool_text`: one that calls a tool. `settle_seconds`: how
    long nothing may happen until a session is taken to rest, where the backend has no way to ask
    for its turns. `parallel_turns`: they may run at once. `probe`: what answers is a probe, which
    says what it is shown: see `with_probe`."""

    name: str
    about: str = ""
    detect: Detect | None = None
    tokens: Tokens | None = None
    principals: Map[str, Map[str, str]] = field(default_factory=dict[str, Any])
    sign_in: Map[str, SignIn] = field(default_factory=dict[str, SignIn])
    open: Open | None = None
    send: Send
    press: Press | None = None
    reads: Map[str, Read] = field(default_factory=dict[str, Read])
    turn: Turn | None = None
    stream: Stream | None = None
    cancel: Request | None = None
    close: Request | None = None
    delete: Request | None = None
    list: Listing | None = None
    busy: tuple[int, ...] = (409, 429, 503)
    busy_says: Map[str, str] = field(default_factory=dict[str, str])
    slow_text: str | None = None
    tool_text: str | None = None
    settle_seconds: float = 2.0
    parallel_turns: bool = False
    grants: Grants | None = None
    approvals: Approvals | None = None
    probe: bool = False

    @property
    def can(self) -> tuple[str, ...]:
        """What it has, in the words of a check's needs."""
        names = ["send", *(["read"] if self.reads else [])]
        for name in ("open", "turn", "stream", "press", "cancel", "close", "delete", "list"):
            if getattr(self, name) is not None:
                names.append(name)
        if len(self.reads) > 1:
            names.append("two reads")
        if self.send.keyed:
            names.append("keys")
        if self.send.creates:
            names.append("sends that create")
        if self.send.late:
            names.append("late messages")
        if self.send.exclusive:
            names.append("exclusive")
        if self.send.events is not None:
            names.append("replies that stream")
        streams = (self.send.events, None if self.stream is None else self.stream.events)
        if any(each is not None and each.ended and each.turn for each in streams):
            names.append("ends of turns")
        if self.stream is not None:
            if self.stream.resume_header or self.stream.resume_query:
                names.append("resume")
            names += [f"events.{name}" for name in ("seq", "session", "turn", "id", "call")
                      if getattr(self.stream.events, name) is not None]  # fmt: skip
            names += [f"events.{name}" for name in ("started", "ended", "texts", "progress")
                      if getattr(self.stream.events, name)]  # fmt: skip
        if self.turn is not None and self.turn.progress:
            names.append("progress")
        if self.slow_text is not None:
            names.append("slow turns")
        if self.parallel_turns:
            names.append("parallel turns")
        if self.probe:
            names += ["probe", *(each for each in ("grants", "approvals") if getattr(self, each))]
        return tuple(names)


def with_probe(target: Mapping) -> Mapping:
    """The same backend where what answers is a probe, and takes its commands."""
    return replace(target, probe=True, slow_text="probe: wait", tool_text="probe: call")
