"""What goes over the wire, for OpenAPI and its generated clients. `wire` writes it."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
Metadata = Annotated[dict[str, Any], Field(description="Free JSON; at most 16 KiB by default.")]
At = Annotated[
    str,
    Field(
        description="RFC 3339 in UTC, with milliseconds.",
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        examples=["2026-11-21T08:30:00.000Z"],
    ),
]
SessionIdText = Annotated[str, Field(examples=["ses_019aa4f0c1d07b3e8f6a5d4c3b2a1908"])]
TurnIdText = Annotated[str, Field(examples=["trn_019aa4f0c1d17c02a1b2c3d4e5f60718"])]
MessageIdText = Annotated[str, Field(examples=["msg_019aa4f0c1d27d13b4a5968778695a4b"])]


class Input(BaseModel):
    """Unknown fields are refused: a typing error is told, not passed over."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Output(BaseModel):
    """Every field is always there; a client ignores the ones that it does not know."""

    model_config = ConfigDict(extra="forbid")


class MessageInput(Input):
    """What is said to the assistant: by a user, or as a task for it."""

    type: Literal["message", "task"]
    text: str
    metadata: Metadata | None = None

    def given(self) -> dict[str, Any]:
        """As the log keeps it."""
        given: dict[str, Any] = {"type": self.type, "text": self.text}
        if self.metadata is not None:
            given["metadata"] = self.metadata
        return given


class ButtonInput(Input):
    """A press of a button. `message_id`: the message that offered it; a press that it does not
    offer, by name and payload, or of one that is not in the assistant's history any more, is told
    so. Without one, a press is taken as it is."""

    type: Literal["button"]
    button: Annotated[str, Field(max_length=64)]
    payload: dict[str, Any] = Field(
        default_factory=dict, description="As it was offered, where a message is named."
    )
    text: str | None = Field(None, description="What it said; None: the button's label.")
    message_id: MessageIdText | None = None
    metadata: Metadata | None = None

    def given(self) -> dict[str, Any]:
        """As the log keeps it, but for a text that is not known yet."""
        return self.model_dump(exclude_none=True)


AnyInput = Annotated[MessageInput | ButtonInput, Field(discriminator="type")]


class Grants(Input):
    """All that the session is granted from now on."""

    grants: list[str]


class Denial(Input):
    """The assistant is told the reason."""

    reason: Annotated[str, Field(max_length=1_000)] = ""


class SessionOpen(Input):
    assistant: str | None = Field(None, description="None: the server's first.")
    title: str | None = None
    metadata: Metadata | None = None


class SessionUpdate(Input):
    """Only what is given changes. `metadata` is merged by name; null removes a name."""

    title: str | None = None
    metadata: Metadata | None = None


class ForkRequest(Input):
    """`turn_id`: the last turn that the new session remembers; it must have ended."""

    turn_id: TurnIdText
    title: str | None = None


class TurnSubmit(Input):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"input": {"type": "message", "text": "Hello"}}]}
    )

    input: AnyInput
    when_busy: Literal["enqueue", "reject", "interrupt", "steer"] = "enqueue"


class TurnOpen(TurnSubmit):
    """Opens a session, and then is the same as `TurnSubmit`."""

    assistant: str | None = Field(None, description="None: the server's first.")
    title: str | None = None
    metadata: Metadata | None = None


class TurnEdit(Input):
    input: AnyInput


class Redact(Input):
    """`reason`: a code of yours, as `personal_data`; no text, for it stays."""

    reason: Annotated[str, Field(max_length=40, pattern=r"^[a-z0-9_.-]*$")] = ""


class Nothing(Input):
    """No body, or an empty object."""


class Blocked(Output):
    """An approval is waited for; inputs queue behind it."""

    turn_id: TurnIdText
    expires_at: At


class Session(Output):
    session_id: SessionIdText
    user_id: str
    assistant: str
    status: Literal["active", "closed"]
    title: str | None
    metadata: Metadata
    grants: list[str]
    head: int = Field(description="The last entry's seq.")
    queued: int = Field(description="Turns that wait.")
    running_turn_id: TurnIdText | None
    blocked_by: Blocked | None
    created_at: At
    updated_at: At


class TurnError(Output):
    code: str
    message: str
    retry: bool = Field(description="The same input may succeed later.")


class Turn(Output):
    turn_id: TurnIdText
    session_id: SessionIdText
    status: Literal[
        "queued", "running", "awaiting", "completed", "failed", "cancelled", "interrupted"
    ]
    position: int
    attempt: int
    input: dict[str, Any]
    output: str | None
    error: TurnError | None
    current_iteration: int
    total_iterations: int
    tokens_used: int
    total_tokens: int
    created_at: At
    started_at: At | None
    ended_at: At | None


class SubmittedTurn(Turn):
    """`seq`: read the events behind it, and you see all that the turn does."""

    seq: int


class Message(Output):
    message_id: MessageIdText
    turn_id: TurnIdText | None
    seq: int
    role: Literal["user", "assistant", "tool", "system"]
    parts: list[dict[str, Any]]
    text: str
    state: Literal["complete", "partial"]
    at: At


class Entry(Output):
    """One fact of the session's log. The kinds are listed in the documentation; new ones may
    come, so ignore those that you do not know."""

    seq: int
    kind: str = Field(examples=["turn.completed"])
    turn_id: TurnIdText | None
    at: At
    body: dict[str, Any]


class Assistant(Output):
    """`is_default`: a session that names no assistant gets this one."""

    name: str
    description: str
    is_default: bool


class ToolVerdict(Output):
    tool: str
    status: Literal["allowed", "needs_grant", "needs_approval", "denied"]
    reason: str
    grant: str | None = Field(description="What the tool needs, had or not; null: nothing.")


class Context(Output):
    """What the assistant would be given now."""

    assistant: str
    messages: int
    characters: int
    tokens_estimated: int
    history_entries_max: int
    last_summary_seq: int | None


class RedactedIn(Output):
    session_id: SessionIdText
    seq: int = Field(description="Of the entry that says so.")


class Redaction(Output):
    """`sessions`: where something was voided; none, where nothing was left."""

    message_id: MessageIdText
    sessions: list[RedactedIn]


class Erasure(Output):
    """`sessions`: so many are gone so far."""

    user_id: str
    status: Literal["running", "done"]
    sessions: int
    asked_at: At
    done_at: At | None


class AuditRecord(Output):
    """Who did what to what. No message's text is in it."""

    audit_id: str
    at: At
    actor: str
    action: str = Field(examples=["session.deleted"])
    subject: str
    request_id: str
    details: dict[str, Any]


class Snapshot(Output):
    """Data of the `reset` event: forget what you have, and go on from this state."""

    session: Session
    running_turn: Turn | None
    queued_turns: list[Turn]
    messages: list[Message]


class Page(Output, Generic[Item]):
    """`next`: the cursor of the page behind this one; null where there is none now."""

    items: list[Item]
    next: int | None


class TurnPage(Page[Turn]):
    """`next` is a position: pass it as `after`."""


class MessagePage(Page[Message]):
    """Oldest first. `next` is a seq: pass it as `before` for the messages before these."""


class EntryPage(Output):
    """`next`: pass it as `after`. At null, the last item's seq is the cursor."""

    items: list[Entry]
    next: str | None


class ToolPage(Page[ToolVerdict]):
    """All of them."""


class AssistantPage(Page[Assistant]):
    """All of them, in the server's order."""


class SessionPage(Output):
    """`next` is a session id: pass it as `before`."""

    items: list[Session]
    next: SessionIdText | None


class AuditPage(Output):
    """The newest first. `next` is an audit id: pass it as `before`."""

    items: list[AuditRecord]
    next: str | None


class FieldFault(Output):
    field: str = Field(examples=["input.text"])
    message: str


class Problem(Output):
    """RFC 9457. `code` is stable; `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(examples=["session_not_found"])
    instance: str | None = Field(description="The request's id, as in X-Request-Id.")
    errors: list[FieldFault]
    details: dict[str, Any]


class Health(Output):
    status: Literal["ok"]


class About(Output):
    name: str
    api: str
    openapi: str
