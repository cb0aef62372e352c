"""All connections of a node: who hears what, who is told of whom, and what a channel costs."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from sessile.core.ids import Seq
from sessile.pusher import frames
from sessile.pusher.channels import MEMBERS_MAX
from sessile.pusher.protocol import Authorize, ClientEvent, Close, Limits, Send
from sessile.pusher.switchboard import Occupied, Outcome, Switchboard, To, Vacated

PRIVATE = "private-sb-ses_1"
ROOM = "presence-room"
PAID = frames.channel_event(PRIVATE, "paid", "{}")


def subscribe(channel: str, user_id: str = "ann") -> str:
    data = {"channel": channel, "auth": "app:1", "channel_data": json.dumps({"user_id": user_id})}
    return json.dumps({"event": "pusher:subscribe", "data": data})


def unsubscribe(channel: str) -> str:
    return json.dumps({"event": "pusher:unsubscribe", "data": {"channel": channel}})


def trigger(channel: str) -> str:
    return json.dumps({"event": "client-typing", "channel": channel, "data": {}})


def heard(outcomes: Iterable[Outcome]) -> list[tuple[str, str]]:
    """Which socket is told of which event, in order."""
    return [
        (outcome.socket_id, json.loads(outcome.action.text)["event"])
        for outcome in outcomes
        if isinstance(outcome, To) and isinstance(outcome.action, Send)
    ]


def question(outcomes: Iterable[Outcome]) -> Authorize:
    (outcome,) = outcomes
    assert isinstance(outcome, To)
    assert isinstance(outcome.action, Authorize)
    return outcome.action


def board(*socket_ids: str, limits: Limits | None = None) -> Switchboard:
    made = Switchboard(limits or Limits())
    for socket_id in socket_ids:
        made.open(socket_id, 0)
    return made


def join(
    made: Switchboard,
    socket_id: str,
    channel: str,
    user_id: str = "ann",
    position: Seq | None = None,
) -> list[Outcome]:
    asked = question(made.receive(socket_id, subscribe(channel, user_id), 0))
    return made.accept(socket_id, asked, position=position)


def test_a_socket_is_greeted_by_its_id() -> None:
    (outcome,) = board().open("1.1", 0)

    assert heard([outcome]) == [("1.1", "pusher:connection_established")]
    with pytest.raises(AssertionError):
        board("1.1").open("1.1", 0)


def test_a_channel_is_fed_from_its_first_socket_to_its_last() -> None:
    made = board("1.1", "1.2")

    first = join(made, "1.1", PRIVATE, position=Seq(4))
    second = join(made, "1.2", PRIVATE, position=Seq(6))

    assert first[0] == Occupied(PRIVATE, Seq(4))
    assert heard(first) == [
        ("1.1", "pusher_internal:subscription_succeeded"),
        ("1.1", "sessile.position"),
    ]
    assert not any(isinstance(outcome, Occupied) for outcome in second)
    assert made.receive("1.1", unsubscribe(PRIVATE), 0) == []
    assert made.gone("1.2") == [Vacated(PRIVATE)]


def begins_at(outcomes: Iterable[Outcome]) -> int:
    told = [
        json.loads(outcome.action.text)
        for outcome in outcomes
        if isinstance(outcome, To) and isinstance(outcome.action, Send)
    ]
    seq: int = json.loads(told[1]["data"])["seq"]
    return seq


def test_who_comes_later_begins_where_the_feed_is_and_misses_nothing() -> None:
    made = board("1.1", "1.2", "1.3")
    join(made, "1.1", PRIVATE, position=Seq(4))
    entry = {seq: frames.log_event(PRIVATE, "e", {}, seq=Seq(seq)) for seq in (5, 6)}

    made.publish(entry[5])
    assert begins_at(join(made, "1.2", PRIVATE, position=Seq(6))) == 5
    assert heard(made.publish(entry[6])) == [("1.1", "e"), ("1.2", "e")]
    assert made.publish(entry[5]) == []
    assert begins_at(join(made, "1.3", PRIVATE, position=Seq(5))) == 6
    assert made.publish(entry[6]) == []


def test_a_channel_that_was_vacated_begins_anew() -> None:
    made = board("1.1")
    join(made, "1.1", PRIVATE, position=Seq(9))
    made.receive("1.1", unsubscribe(PRIVATE), 0)

    assert begins_at(join(made, "1.1", PRIVATE, position=Seq(3))) == 3
    made.receive("1.1", unsubscribe(PRIVATE), 0)
    assert len(heard(join(made, "1.1", PRIVATE))) == 1, "nobody knows where its log is"


def test_an_event_reaches_its_channel_but_not_the_socket_that_it_came_from() -> None:
    made = board("1.1", "1.2", "1.3")
    join(made, "1.1", PRIVATE)
    join(made, "1.2", PRIVATE)
    join(made, "1.3", "orders")

    assert heard(made.publish(PAID)) == [("1.1", "paid"), ("1.2", "paid")]
    assert heard(made.publish(PAID, excepting="1.1")) == [("1.2", "paid")]


def test_a_client_event_reaches_the_others_and_is_handed_on() -> None:
    made = board("1.1", "1.2")
    join(made, "1.1", ROOM, "ann")
    join(made, "1.2", ROOM, "ben")

    handed_on, told = made.receive("1.1", trigger(ROOM), 0)

    assert isinstance(handed_on, To)
    assert isinstance(handed_on.action, ClientEvent)
    assert heard([told]) == [("1.2", "client-typing")]
    assert isinstance(told, To)
    assert isinstance(told.action, Send)
    assert json.loads(told.action.text)["user_id"] == "ann"


def test_a_forged_event_on_a_public_channel_reaches_nobody() -> None:
    made = board("1.1", "1.2")
    join(made, "1.1", "sb-ses_1")
    join(made, "1.2", "sb-ses_1")

    assert heard(made.receive("1.1", trigger("sb-ses_1"), 0)) == [("1.1", "pusher:error")]


def test_the_others_are_told_of_a_user_s_first_socket_and_of_the_last() -> None:
    made = board("1.1", "1.2", "1.3")
    join(made, "1.1", ROOM, "ann")

    came = heard(join(made, "1.2", ROOM, "ben"))
    again = heard(join(made, "1.3", ROOM, "ben"))

    assert came == [
        ("1.2", "pusher_internal:subscription_succeeded"),
        ("1.1", "pusher_internal:member_added"),
    ]
    assert again == [("1.3", "pusher_internal:subscription_succeeded")]
    assert made.gone("1.2") == []
    assert heard(made.gone("1.3")) == [("1.1", "pusher_internal:member_removed")]


def test_a_presence_channel_that_is_full_refuses() -> None:
    made = board(*(f"1.{number}" for number in range(MEMBERS_MAX + 2)))
    for number in range(MEMBERS_MAX):
        join(made, f"1.{number}", ROOM, str(number))

    refused = join(made, f"1.{MEMBERS_MAX}", ROOM, "one more")
    known = join(made, f"1.{MEMBERS_MAX + 1}", ROOM, "0")

    assert heard(refused) == [(f"1.{MEMBERS_MAX}", "pusher:subscription_error")]
    assert heard(known) == [(f"1.{MEMBERS_MAX + 1}", "pusher_internal:subscription_succeeded")]


def test_a_refusal_is_told_to_who_asked() -> None:
    made = board("1.1")
    asked = question(made.receive("1.1", subscribe(PRIVATE), 0))

    told = made.refuse("1.1", asked, status=404, message="No.")

    assert heard(told) == [("1.1", "pusher:subscription_error")]
    assert made.accept("1.1", asked) == []
    assert made.registry.occupied() == ()


def test_a_session_that_is_no_more_expels_everyone() -> None:
    made = board("1.1", "1.2", "1.3")
    join(made, "1.1", PRIVATE)
    question(made.receive("1.2", subscribe(PRIVATE), 0))

    outcomes = made.expel(PRIVATE, status=404, message="Gone.")

    assert heard(outcomes) == [
        ("1.1", "pusher:subscription_error"),
        ("1.2", "pusher:subscription_error"),
    ]
    assert outcomes[1] == Vacated(PRIVATE)
    assert made.publish(PAID) == []


def test_one_may_be_expelled_and_the_others_stay() -> None:
    made = board("1.1", "1.2")
    join(made, "1.1", PRIVATE)
    join(made, "1.2", PRIVATE)

    made.expel(PRIVATE, status=404, message="Revoked.", only=["1.1", "9.9"])

    assert heard(made.publish(PAID)) == [("1.2", "paid")]


def test_a_connection_that_ends_leaves_every_channel_at_once() -> None:
    made = board("1.1", "1.2")
    join(made, "1.1", ROOM, "ann")
    join(made, "1.2", ROOM, "ben")

    outcomes = made.close("1.1", frames.DRAINING)

    assert heard(outcomes) == [
        ("1.1", "pusher:error"),
        ("1.2", "pusher_internal:member_removed"),
    ]
    assert outcomes[1] == To("1.1", Close(4200, frames.DRAINING.message))
    assert made.socket_count() == 1
    assert made.gone("1.1") == []


def test_silence_ends_a_connection() -> None:
    made = board("1.1")
    join(made, "1.1", PRIVATE)

    assert made.due_at("1.1") == 120
    assert heard(made.tick("1.1", 120)) == [("1.1", "pusher:ping")]
    assert made.tick("1.1", 150)[-1] == Vacated(PRIVATE)
    assert made.due_at("1.1") == float("inf")


def test_what_is_decided_of_a_socket_that_is_gone_has_no_outcome() -> None:
    made = board("1.1")
    asked = question(made.receive("1.1", subscribe(PRIVATE), 0))
    made.gone("1.1")

    assert made.accept("1.1", asked) == []
    assert made.refuse("1.1", asked, status=403, message="") == []
    assert made.receive("1.1", subscribe(PRIVATE), 0) == []
    assert made.tick("1.1", 1e9) == []
    assert made.close("1.1", frames.DRAINING) == []
    assert made.socket_count() == 0


CHANNELS = st.sampled_from([PRIVATE, ROOM, ROOM, "orders"])
USERS = st.sampled_from(["ann", "ben"])
SOCKETS_MAX = 5


class Node(RuleBasedStateMachine):
    """Sockets come, ask, leave and fall silent in any order. What each client has been told must
    agree with what a plain list of subscriptions says."""

    questions = Bundle("questions")

    def __init__(self) -> None:
        super().__init__()
        self.board = Switchboard(
            Limits(channels_max=2, client_events_per_second_max=1_000, frames_burst_max=10_000)
        )
        self.now = 0.0
        self.born = 0
        self.open: list[str] = []
        self.subscriptions: dict[tuple[str, str], str | None] = {}  # to the user's id
        self.told_position: dict[tuple[str, str], int] = {}
        self.heads: Counter[str] = Counter()  # the log of each channel
        self.fed: dict[str, int] = {}  # how far its feed on this node is, a little behind
        self.rosters: dict[tuple[str, str], set[str]] = {}  # as the clients believe
        self.succeeded: set[tuple[str, str]] = set()

    def follow(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            match outcome:
                case Occupied(channel, position):
                    assert channel not in self.fed
                    assert position is not None
                    self.fed[channel] = position
                case Vacated(channel):
                    del self.fed[channel]
                case To(socket_id, Send(text)):
                    assert socket_id in self.open, "nothing is said after the end"
                    self.hear(socket_id, json.loads(text.encode()))
                case To(socket_id, Close()):
                    self.forget(socket_id)
                case To():
                    pass

    def hear(self, socket_id: str, frame: dict[str, Any]) -> None:
        event, place = frame["event"], (socket_id, frame.get("channel", ""))
        if event.startswith("pusher:"):
            return
        data = json.loads(frame["data"])
        match event:
            case "pusher_internal:subscription_succeeded":
                assert place not in self.succeeded
                self.succeeded.add(place)
                if "presence" in data:
                    presence = data["presence"]
                    assert presence["count"] == len(presence["ids"]) == len(presence["hash"])
                    self.rosters[place] = set(presence["ids"])
            case "pusher_internal:member_added":
                assert data["user_id"] not in self.rosters[place]
                self.rosters[place].add(data["user_id"])
            case "pusher_internal:member_removed":
                self.rosters[place].remove(data["user_id"])
            case "sessile.position":
                self.told_position[place] = data["seq"]
            case "entry":
                assert data["seq"] == self.told_position[place] + 1, "no gap, nothing twice"
                self.told_position[place] += 1
            case _:
                assert place in self.succeeded

    def forget(self, socket_id: str, channel: str | None = None) -> None:
        if channel is None:
            self.open = [each for each in self.open if each != socket_id]
        for kept in (self.subscriptions, self.told_position, self.rosters):
            for place in [each for each in kept if each[0] == socket_id]:
                if channel in (None, place[1]):
                    del kept[place]
        self.succeeded -= {
            each for each in self.succeeded if each[0] == socket_id and channel in (None, each[1])
        }

    def one(self, choice: int) -> str:
        """A socket that is open; sometimes the first, which may be long gone."""
        there = [*self.open, "1.0"]
        return there[choice % len(there)]

    @initialize()
    def begin(self) -> None:
        for _ in range(SOCKETS_MAX - 1):
            self.arrive()

    @rule()
    def come(self) -> None:
        self.arrive()

    def arrive(self) -> None:
        if len(self.open) < SOCKETS_MAX:
            socket_id = f"1.{self.born}"
            self.born += 1
            self.open.append(socket_id)
            self.follow(self.board.open(socket_id, self.now))

    @rule(target=questions, choice=st.integers(0, 50), channel=CHANNELS, user_id=USERS)
    def ask(self, choice: int, channel: str, user_id: str) -> tuple[str, Authorize | None]:
        return self.asked(self.one(choice), channel, user_id)

    def asked(self, socket_id: str, channel: str, user_id: str) -> tuple[str, Authorize | None]:
        outcomes = self.board.receive(socket_id, subscribe(channel, user_id), self.now)
        self.follow(outcomes)
        match outcomes:
            case [To(_, Authorize() as asked)]:
                return socket_id, asked
            case _:
                return socket_id, None

    @rule(question=consumes(questions), allowed=st.booleans())
    def decide(self, question: tuple[str, Authorize | None], allowed: bool) -> None:
        self.decided(*question, allowed=allowed)

    def decided(self, socket_id: str, asked: Authorize | None, *, allowed: bool) -> None:
        if asked is None:
            return
        if not allowed:
            self.follow(self.board.refuse(socket_id, asked, status=403, message="No."))
            return
        head = Seq(self.heads[asked.channel])
        outcomes = self.board.accept(socket_id, asked, position=head)
        if outcomes:
            user_id = asked.member.user_id if asked.member else None
            self.subscriptions[socket_id, asked.channel] = user_id
        self.follow(outcomes)

    @rule(choice=st.integers(0, 50), channel=CHANNELS, user_id=USERS)
    def join(self, choice: int, channel: str, user_id: str) -> None:
        self.decided(*self.asked(self.one(choice), channel, user_id), allowed=True)

    @rule(choice=st.integers(0, 50), channel=CHANNELS)
    def leave(self, choice: int, channel: str) -> None:
        socket_id = self.one(choice)
        outcomes = self.board.receive(socket_id, unsubscribe(channel), self.now)
        self.forget(socket_id, channel)
        self.follow(outcomes)

    @rule(choice=st.integers(0, 50), frame=CHANNELS.map(trigger) | st.text(max_size=10))
    def chatter(self, choice: int, frame: str) -> None:
        self.follow(self.board.receive(self.one(choice), frame, self.now))

    @rule(choice=st.integers(0, 50))
    def vanish(self, choice: int) -> None:
        socket_id = self.one(choice)
        self.forget(socket_id)
        self.follow(self.board.gone(socket_id))

    @rule(channel=CHANNELS, entries=st.integers(1, 3))
    def grow(self, channel: str, entries: int) -> None:
        self.heads[channel] += entries

    @rule(channel=CHANNELS, again=st.sampled_from([False, False, True]))
    def feed(self, channel: str, again: bool) -> None:
        if channel not in self.fed:
            return
        self.fed[channel] += not again
        self.heads[channel] = max(self.heads[channel], self.fed[channel])
        event = frames.log_event(channel, "entry", {}, seq=Seq(self.fed[channel]))
        outcomes = self.board.publish(event)
        there = [] if again else [place[0] for place in self.subscriptions if place[1] == channel]
        assert sorted(each for each, _ in heard(outcomes)) == sorted(there)
        self.follow(outcomes)

    @rule(channel=CHANNELS)
    def expel(self, channel: str) -> None:
        outcomes = self.board.expel(channel, status=404, message="Gone.")
        for socket_id in list(self.open):
            self.forget(socket_id, channel)
        self.follow(outcomes)

    @rule(seconds=st.sampled_from([1, 1, 1, 29, 119]))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        for socket_id in list(self.open):
            self.follow(self.board.tick(socket_id, self.now))

    @invariant()
    def everyone_is_where_they_should_be(self) -> None:
        registry = self.board.registry
        assert self.board.socket_count() == len(self.open)
        assert self.succeeded == set(self.subscriptions)
        assert set(self.fed) == {channel for _, channel in self.subscriptions}
        assert set(registry.occupied()) == set(self.fed)
        for channel in self.fed:
            here = {
                place[0]: user for place, user in self.subscriptions.items() if place[1] == channel
            }
            users = {user for user in here.values() if user is not None}
            assert set(registry.sockets_of(channel)) == set(here)
            assert {each.user_id for each in registry.members(channel)} == users
            assert registry.subscription_count(channel) == len(here)
            assert registry.user_count(channel) == len(users)
            for socket_id in here:
                assert self.rosters.get((socket_id, channel), set()) == users
        for socket_id in self.open:
            assert len(registry.channels_of(socket_id)) <= 2
            assert self.board.due_at(socket_id) > self.now


TestNode = Node.TestCase
TestNode.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
