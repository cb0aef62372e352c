"""Signatures of Pusher Channels, held against the library that server programs use."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pusher import Pusher
from pusher.http import Request

from sessile.core.errors import SessileError
from sessile.pusher.signing import (
    AppKeys,
    AuthVersionUnknown,
    BodyAltered,
    KeyUnknown,
    NotSignable,
    SignatureInvalid,
    SignatureMissing,
    TimestampInvalid,
    TimestampStale,
)

KEYS = AppKeys(key="app-key", secret="hush")
OTHER = AppKeys(key="app-key", secret="other")
CHANNEL = "private-sb-ses_1"
PATH = "/apps/7/events"
NOW_SECONDS = 1_800_000_000
BODY = b'{"name":"n","channel":"c","data":"{}"}'


def client() -> Any:
    return Pusher(app_id="7", key=KEYS.key, secret=KEYS.secret, backend=Outbox)


def signed(keys: AppKeys = KEYS, body: bytes = BODY, **changed: str) -> list[tuple[str, str]]:
    """A request to PATH that is signed at NOW_SECONDS; what is changed is signed too."""
    query = {
        "auth_key": keys.key,
        "auth_timestamp": str(NOW_SECONDS),
        "auth_version": "1.0",
        "body_md5": hashlib.md5(body).hexdigest(),
        **changed,
    }
    pairs = "&".join(f"{name}={value}" for name, value in sorted(query.items()))
    signature = keys._signed(f"POST\n{PATH}\n{pairs}")
    return [*query.items(), ("auth_signature", signature)]


def check(query: list[tuple[str, str]], body: bytes = BODY, *, late_seconds: float = 0) -> None:
    KEYS.check_request("POST", PATH, query, body, now_seconds=NOW_SECONDS + late_seconds)


@pytest.mark.parametrize("user", [None, {"user_id": "u1", "user_info": {"name": "Zoë: 漢字"}}])
def test_a_channel_is_signed_as_the_library_signs_it(user: dict[str, Any] | None) -> None:
    channel = "presence-room" if user else CHANNEL
    theirs = client().authenticate(channel=channel, socket_id="12.34", custom_data=user)

    data = theirs.get("channel_data")

    assert KEYS.channel_auth("12.34", channel, data) == theirs["auth"]
    assert KEYS.may_join("12.34", channel, data, auth=theirs["auth"])


@pytest.mark.parametrize(
    ("socket_id", "channel", "data"),
    [("12.35", CHANNEL, None), ("12.34", f"{CHANNEL}0", None), ("12.34", CHANNEL, "{}")],
)
def test_a_signature_is_good_for_nothing_else(
    socket_id: str, channel: str, data: str | None
) -> None:
    auth = KEYS.channel_auth("12.34", CHANNEL)

    assert not KEYS.may_join(socket_id, channel, data, auth=auth)
    assert not OTHER.may_join("12.34", CHANNEL, auth=auth)


@pytest.mark.parametrize(
    "auth", ["", ":", "app-key", "app-key:", "é\ud800:1", "app-key:" + "0" * 64]
)
def test_what_is_no_signature_lets_nobody_in(auth: str) -> None:
    assert not KEYS.may_join("12.34", CHANNEL, auth=auth)


@pytest.mark.parametrize(
    ("socket_id", "channel"),
    [
        ("12.34:private-sb-ses_2", CHANNEL),
        ("12.34:", CHANNEL),
        ("12", CHANNEL),
        ("12.34\n", CHANNEL),
        ("१२.३४", CHANNEL),
        ("12.34", f"{CHANNEL}:x"),
        ("12.34", ":user:"),
        ("12.34", ""),
    ],
)
def test_one_thing_is_not_signed_under_the_name_of_another(socket_id: str, channel: str) -> None:
    with pytest.raises(NotSignable):
        KEYS.channel_auth(socket_id, channel)


def test_the_secret_is_not_shown() -> None:
    assert "hush" not in repr(KEYS)


class Outbox:
    """A backend of the library that gives back what it was to send."""

    def __init__(self, client: Any) -> None: ...

    def send_request(self, request: Request) -> Request:
        return request


def requests_of_the_library() -> list[Request]:
    library = client()
    return [
        library.trigger([CHANNEL, "b@c"], "paid", {"é": "漢&=字"}, "12.34"),
        library.trigger_batch([{"channel": "c", "name": "n", "data": {"a": 1}}]),
        library.channels_info("presence-", ["user_count", "subscription_count"]),
        library.channel_info("presence-a;b@c,d", ["user_count"]),
        library.users_info("presence-room"),
        library.terminate_user_connections("u1"),
    ]


def check_as_sent(keys: AppKeys, request: Request) -> None:
    query = request.query_params
    now_seconds = float(query["auth_timestamp"])
    keys.check_request(
        request.method, request.path, query.items(), request.body, now_seconds=now_seconds
    )


def test_the_requests_of_the_library_are_taken() -> None:
    for request in requests_of_the_library():
        check_as_sent(KEYS, request)


def test_the_requests_of_the_library_are_refused_under_another_secret() -> None:
    for request in requests_of_the_library():
        with pytest.raises(SignatureInvalid):
            check_as_sent(OTHER, request)


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [("GET", PATH, []), ("POST", f"{PATH}x", []), ("POST", PATH, [("info", "user_count")])],
)
def test_a_signature_covers_method_path_and_query(
    method: str, path: str, more: list[tuple[str, str]]
) -> None:
    with pytest.raises(SignatureInvalid):
        KEYS.check_request(method, path, [*signed(), *more], BODY, now_seconds=NOW_SECONDS)


def test_a_query_may_come_in_any_order() -> None:
    check(signed(info="user_count", zeta="1")[::-1])


@pytest.mark.parametrize("late_seconds", [-600, 0, 600])
def test_a_timestamp_is_good_for_ten_minutes_either_way(late_seconds: float) -> None:
    check(signed(), late_seconds=late_seconds)


@pytest.mark.parametrize("late_seconds", [-600.5, 600.5, 1e9])
def test_a_stale_timestamp_is_refused(late_seconds: float) -> None:
    with pytest.raises(TimestampStale):
        check(signed(), late_seconds=late_seconds)


@pytest.mark.parametrize("timestamp", ["", "-1", "1.5", "1e9", "١٢", " 1", "9" * 13, "9" * 5000])
def test_what_is_no_timestamp_is_refused(timestamp: str) -> None:
    with pytest.raises(TimestampInvalid):
        check(signed(auth_timestamp=timestamp))


@pytest.mark.parametrize("version", ["", "1", "1.1", "2.0"])
def test_another_version_of_signatures_is_refused(version: str) -> None:
    with pytest.raises(AuthVersionUnknown):
        check(signed(auth_version=version))


def test_another_key_is_refused() -> None:
    with pytest.raises(KeyUnknown):
        check(signed(auth_key="other-key"))


def test_a_body_that_was_altered_is_refused() -> None:
    with pytest.raises(BodyAltered):
        check(signed(), BODY + b" ")


def test_a_body_has_to_be_signed() -> None:
    query = [each for each in signed() if each[0] != "body_md5"]

    with pytest.raises(SignatureMissing):
        check(query)


def test_no_body_needs_no_signature_and_may_have_one() -> None:
    pairs = f"auth_key=app-key&auth_timestamp={NOW_SECONDS}&auth_version=1.0"
    query = [
        ("auth_key", "app-key"),
        ("auth_timestamp", str(NOW_SECONDS)),
        ("auth_version", "1.0"),
        ("auth_signature", KEYS._signed(f"POST\n{PATH}\n{pairs}")),
    ]

    check(query, b"")
    check(signed(body=b""), b"")


@pytest.mark.parametrize("name", ["auth_key", "auth_timestamp", "auth_version", "auth_signature"])
def test_a_parameter_that_is_missing_or_there_twice_is_named(name: str) -> None:
    query = signed()
    given = next(each for each in query if each[0] == name)

    for spoilt in ([each for each in query if each != given], [*query, given]):
        with pytest.raises(SignatureMissing) as refused:
            check(spoilt)
        assert refused.value.details == {"parameter": name}


def test_each_fault_has_a_code_and_a_status_of_its_own() -> None:
    faults: list[type[SessileError]] = [
        NotSignable,
        SignatureMissing,
        TimestampInvalid,
        AuthVersionUnknown,
        KeyUnknown,
        SignatureInvalid,
        TimestampStale,
        BodyAltered,
    ]

    assert len({fault.code for fault in faults}) == len(faults)
    assert [fault.status for fault in faults] == [400] * 4 + [401] * 4


@given(
    query=st.lists(
        st.tuples(
            st.sampled_from(
                ["auth_key", "auth_timestamp", "auth_version", "auth_signature", "body_md5", "x"]
            ),
            st.text(st.characters(), max_size=20) | st.sampled_from(["1.0", "app-key", "12345"]),
        )
    ),
    body=st.binary(max_size=20),
)
def test_whatever_comes_unsigned_is_refused(query: list[tuple[str, str]], body: bytes) -> None:
    with pytest.raises(SessileError):
        check(query, body)
