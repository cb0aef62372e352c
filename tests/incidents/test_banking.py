"""The bank's chatbot: one session from its creation to its history, whatever agent answers."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx2
import pytest
from tests.cli.conftest import Serve as Process
from tests.incidents.banking_checks import (
    MANAGER,
    Client,
    check_all,
    check_many,
    check_opened,
    check_rows,
    logged_in,
)
from tests.incidents.banking_naive import Fault, Messages, backend
from tests.incidents.conftest import Serve, Site, naive, polled, reaching

from sessile.cli import main
from sessile.demo import banking

APP = Path(__file__).with_name("banking_app.py")
MID_REPLY_SECONDS = 20.0
"""A step of an assessment that no test waits for: the server is killed in its first."""
SLOW_SECONDS = 0.1

LOGIN = (
    "curl -sX POST localhost:3006/api/auth/login -H 'content-type: application/json'"
    """ -d '{"username":"manager","password":"Password123!"}'"""
)
OPEN = (
    "curl -sX POST localhost:3006/api/sessions -H 'content-type: application/json'"
    """ -H "Authorization: Bearer $TOKEN" -d '{"userId":"test-user-123"}'"""
)
SAY = (
    "curl -sX POST localhost:3006/api/chat/message -H 'content-type: application/json'"
    """ -H "Authorization: Bearer $TOKEN" -H "X-Session-ID: $SID" """
    """-d '{"content":"Hello, test message"}'"""
)
HISTORY = 'curl -s localhost:3006/api/sessions/$SID/history -H "Authorization: Bearer $TOKEN"'
LOAN = "I need a loan of 20000 EUR"


@pytest.fixture
async def site(serve: Serve) -> AsyncIterator[Site]:
    async with serve(banking.assistants(step_seconds=0.01), banking.router) as site:
        yield site


async def test_create_message_and_history_are_one_session(site: Site, tmp_path: Path) -> None:
    await check_all(site, tmp_path / "data" / "sessile.db")


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("two ids", "a session is born with two ids"),
        ("null id", "a session id is null"),
        ("another id", "a reply is not about 1001"),
        ("null row", "rows of messages have a session id that is null"),
    ],
)
async def test_two_managers_with_an_id_each_are_caught(
    fault: Fault, why: str, tmp_path: Path
) -> None:
    with closing(Messages(tmp_path / "naive.db")) as messages:
        async with naive(backend(fault, messages)) as site:
            with pytest.raises(AssertionError, match=why):
                await check_all(site, tmp_path / "naive.db")


async def test_what_catches_them_has_nothing_against_the_same_backend_without_the_fault(
    tmp_path: Path,
) -> None:
    with closing(Messages(tmp_path / "naive.db")) as messages:
        async with naive(backend(None, messages)) as site:
            await check_all(site, tmp_path / "naive.db")


async def test_by_curl_against_a_plain_server(plain: Site) -> None:
    status, login = await plain.curl(LOGIN)
    assert status == 200
    assert login["user"] == {"username": "manager"}
    status, opened = await plain.curl(OPEN, TOKEN=login["token"])
    assert status == 201
    session_id = check_opened(opened, user_id="test-user-123")
    status, said = await plain.curl(SAY, TOKEN=login["token"], SID=session_id)
    assert status == 200
    assert said["sessionId"] == session_id
    status, history = await plain.curl(HISTORY, TOKEN=login["token"], SID=session_id)
    assert status == 200

    assert history["sessionId"] == session_id
    assert [message["content"] for message in history["messages"]] == [
        "Hello, test message",
        said["reply"],
    ]


async def test_a_hundred_users_at_once(site: Site, tmp_path: Path) -> None:
    await check_many(await logged_in(site), users=100)

    check_rows(tmp_path / "data" / "sessile.db")
    figures = await site.metrics()
    zeros = {name: value for name, value in figures.items() if "must_stay_zero_total" in name}
    assert len(zeros) >= 2
    assert set(zeros.values()) == {0.0}
    assert figures["sessile_fence_refusals_total"] == 0


async def test_specialists_answer_within_the_one_session(site: Site) -> None:
    client = await logged_in(site)
    session_id = (await client.open("customer"))["sessionId"]
    texts = (
        "Hello",
        "The balance of account 1234?",
        "Block my card 4711",
        LOAN,
        "Thank you",
        "And my account?",
        "Account 0?",
    )

    replies = [(await client.say(session_id, text))["reply"] for text in texts]

    entries = await site.entries(session_id)
    handed = [e["body"]["assistant"] for e in entries if e["kind"] == "session.handed_off"]
    assert handed == ["banking.accounts", "banking.cards", "banking.loans", "banking.accounts"]
    assert replies[1] == replies[5] == "There are 7720.46 EUR on account 1234."
    assert replies[2] == "The card 4711 is blocked."
    assert replies[3] == "Let me see. A loan of 20000 EUR can be granted."
    assert replies[4] == banking.LOANS.says
    assert replies[6] == "There is no account 0."
    called = [e["body"]["name"] for e in entries if e["kind"] == "tool.completed"]
    assert called == ["accounts.balance", "cards.block", "loans.assess", "accounts.balance"]


async def test_a_number_that_is_too_long_is_not_another_one(site: Site) -> None:
    client = await logged_in(site)
    session_id = (await client.open("customer"))["sessionId"]

    whole = await client.say(session_id, "Block my card " + 15 * "4")
    cut = await client.say(session_id, "The balance of account " + 16 * "4")

    assert whole["reply"] == f"The card {15 * '4'} is blocked."
    assert cut["reply"] == banking.ACCOUNTS.says


async def test_what_is_missing_or_wrong_is_told(site: Site) -> None:
    client = await logged_in(site)
    nobody, forger = Client(site, None), Client(site, "f" * 64)
    theirs = await site.http.post(
        "/v1/sessions", json={}, headers={"Authorization": f"Bearer {site.admin}"}
    )
    session_id = (await client.open("customer"))["sessionId"]

    unnamed = await client.posted(None, "Hello")
    empty = await client.posted("", "Hello")
    unknown = await client.posted("ses_unknown", "Hello")
    foreign = await client.posted(theirs.json()["session_id"], "Hello")
    unsigned = [await each.posted(session_id, "Hello") for each in (nobody, forger)]
    wrong = await site.http.post(
        "/api/auth/login", json={"username": "manager", "password": "password123!"}
    )
    stranger = await site.http.post("/api/auth/login", json={"username": "x", "password": ""})

    for reply in (unnamed, empty):
        assert reply.status_code == 400
        assert "X-Session-ID" in reply.json()["detail"]
    assert unknown.status_code == foreign.status_code == 404
    assert {**unknown.json(), "instance": None} == {**foreign.json(), "instance": None}
    assert unknown.json()["code"] == "session_not_found"
    for reply in (*unsigned, wrong, stranger):
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert reply.json()["detail"]
    assert await client.history(session_id) == []


async def test_a_session_is_told_at_its_birth_as_it_is_told_later(site: Site) -> None:
    client = await logged_in(site)
    half = "half of a pair: \ud83d"

    opened = await client.open("customer", metadata={"note": half, "branch": [1, None]})
    refused = [await client.posted(opened["sessionId"], half)]
    for user_id in ("", half):
        body = json.dumps({"userId": user_id})
        refused.append(
            await site.http.post("/api/sessions", content=body, headers=client.json_headers)
        )

    later = await site.http.get(
        f"/v1/sessions/{opened['sessionId']}", headers={"Authorization": f"Bearer {site.admin}"}
    )
    assert opened["chatSession"]["metadata"] == later.json()["metadata"]
    assert later.json()["metadata"]["note"] == "half of a pair: \ufffd"
    assert [reply.status_code for reply in refused] == [422, 422, 422]


async def test_a_session_is_opened_for_the_customer_that_was_named_or_not_at_all(
    site: Site,
) -> None:
    client = await logged_in(site)
    token = {"Authorization": client.json_headers["Authorization"]}
    form = {**token, "Content-Type": "application/x-www-form-urlencoded"}

    async def asked(body: str, headers: dict[str, str]) -> httpx2.Response:
        return await site.http.post("/api/sessions", content=body, headers=headers)

    untyped = await asked('{"userId": "customer"}', form)
    misspelt = await asked('{"userid": "customer"}', client.json_headers)
    blank = await asked('{"userId": " "}', client.json_headers)
    unnamed = [await asked("", token), await asked("{}", client.json_headers)]
    unstorable = (await asked('{"userId": "a\\u0000"}', client.json_headers)).json()

    assert [reply.status_code for reply in (untyped, misspelt, blank)] == [415, 422, 422]
    assert [fault["field"] for fault in misspelt.json()["errors"]] == ["userid"]
    assert [reply.json()["session"]["userId"] for reply in unnamed] == ["manager"] * 2
    # What cannot be stored is replaced, and told as it is stored.
    assert unstorable["session"]["userId"] == "a\ufffd"
    assert unstorable["chatSession"]["metadata"] == {"userId": "a\ufffd"}


async def test_two_session_headers_that_disagree_are_refused(site: Site) -> None:
    client = await logged_in(site)
    first, second = [(await client.open("customer"))["sessionId"] for _ in range(2)]
    token = (await site.curl(LOGIN))[1]["token"]

    status, told = await site.curl(f'{SAY} -H "X-Session-ID: {second}"', TOKEN=token, SID=first)

    assert status == 400
    assert "X-Session-ID" in told["detail"]
    assert await client.history(first) == await client.history(second) == []


async def test_tokens_are_signed_with_a_whole_secret_that_only_its_owner_may_read(
    serve: Serve, tmp_path: Path
) -> None:
    secret = tmp_path / "data" / "banking-secret"
    signed = []
    for _ in range(2):
        async with serve(banking.assistants(), banking.router) as site:
            signed.append((await site.http.post("/api/auth/login", json=MANAGER)).json()["token"])
        assert secret.stat().st_mode & 0o777 == 0o600
        assert secret.stat().st_size == banking.SECRET_BYTES
        secret.write_bytes(b"")  # as a crash leaves it that comes before it is written

    assert signed[0] != signed[1]


@pytest.mark.parametrize("left", [None, b"", b"half of it"])
def test_nodes_that_need_the_secret_at_once_have_the_same(
    left: bytes | None, tmp_path: Path
) -> None:
    barrier = Barrier(4)

    def begin(path: Path) -> bytes:
        barrier.wait()
        return banking.secret_of(path)

    with ThreadPoolExecutor(4) as nodes:
        for number in range(50):
            path = tmp_path / str(number)
            if left is not None:
                path.write_bytes(left)
            assert set(nodes.map(begin, [path] * 4)) == {path.read_bytes()}
            assert path.stat().st_size == banking.SECRET_BYTES


async def test_a_secret_that_cannot_be_stored_is_told_until_it_can(
    serve: Serve, tmp_path: Path
) -> None:
    secret = tmp_path / "data" / "banking-secret"
    async with serve(banking.assistants(), banking.router) as site:
        secret.mkdir()
        refused = await site.http.post("/api/auth/login", json=MANAGER)
        secret.rmdir()
        given = await site.http.post("/api/auth/login", json=MANAGER)

    assert refused.status_code == 507
    assert "Is a directory: banking-secret" in refused.json()["detail"]
    assert given.status_code == 200


async def test_a_repeated_message_is_answered_once(site: Site) -> None:
    client = await logged_in(site)
    session_id = (await client.open("customer"))["sessionId"]

    same = await asyncio.gather(*(client.say(session_id, LOAN, key="k") for _ in range(5)))
    other = await client.posted(session_id, "Something else", key="k")

    assert len({json.dumps(reply) for reply in same}) == 1
    assert other.status_code == 409
    assert len(await client.history(session_id)) == 2


async def test_a_reply_that_takes_longer_is_asked_for_again(serve: Serve) -> None:
    async with serve(
        banking.assistants(step_seconds=SLOW_SECONDS), banking.router, wait_seconds_max=0.1
    ) as site:
        client = await logged_in(site)
        session_id = (await client.open("customer"))["sessionId"]
        replies = await polled(
            lambda: client.posted(session_id, LOAN, key="k"),
            lambda reply: reply.status_code != 202,
            "the reply does not come",
        )
        history = await client.history(session_id)

    first, last = replies[0].json(), replies[-1].json()
    assert (replies[0].status_code, first["status"], first["reply"]) == (202, "running", None)
    assert (replies[-1].status_code, last["status"]) == (200, "completed")
    assert first["turnId"] == last["turnId"]
    assert [message["content"] for message in history] == [LOAN, last["reply"]]


async def test_a_reply_that_was_stopped_is_told_as_a_failure(serve: Serve) -> None:
    async with serve(
        banking.assistants(step_seconds=MID_REPLY_SECONDS), banking.router, wait_seconds_max=0.1
    ) as site:
        client = await logged_in(site)
        session_id = (await client.open("customer"))["sessionId"]
        turn_id = (await client.posted(session_id, LOAN, key="k")).json()["turnId"]
        stopped = await site.http.post(
            f"/v1/sessions/{session_id}/turns/{turn_id}/cancel",
            headers={"Authorization": f"Bearer {site.admin}"},
        )
        replies = await polled(
            lambda: client.posted(session_id, LOAN, key="k"),
            lambda reply: reply.status_code != 202,
            "the reply does not end",
        )

    assert stopped.status_code in (200, 202)
    assert replies[-1].status_code == 502
    assert "cancelled" in replies[-1].json()["detail"]


async def test_a_long_history_is_read_page_by_page(serve: Serve) -> None:
    async with serve(banking.assistants(), banking.router, page_items_max=4) as site:
        client = await logged_in(site)
        session_id = (await client.open("customer"))["sessionId"]
        for number in range(5):
            await client.say(session_id, f"Hello {number}")
        pages: list[dict[str, Any]] = []
        before: int | None = None
        while before is not None or not pages:
            pages.append(await client.page(session_id, before=before))
            before = pages[-1]["before"]

    told = [message["content"] for page in reversed(pages) for message in page["messages"]]
    expected = [text for n in range(5) for text in (f"Hello {n}", banking.GREETING)]
    assert told == expected
    assert len(pages) == 3


async def test_killed_in_the_middle_of_a_reply_the_turn_completes_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    session_id, before = await killed_mid_reply(tmp_path)

    with Process(tmp_path, str(APP), STEP_SECONDS="0.01") as process:
        await asyncio.to_thread(process.ready)
        async with reaching(process.url, process.token) as site:
            # The login outlives the server that gave it.
            client = Client(site, before)
            replies = [await client.say(session_id, LOAN, key="the-loan") for _ in range(2)]
            history = await client.history(session_id)
            after = await client.say(session_id, "And for 90000 EUR, what loan?")
            entries = await site.entries(session_id)
        database = tmp_path / "sessile-data" / "sessile.db"
        check_rows(database)

    assert replies[0] == replies[1]
    said = "Let me see. A loan of 20000 EUR can be granted."
    assert [message["content"] for message in history] == ["Hello", banking.GREETING, LOAN, said]
    assert after["reply"] == "Let me see. A loan of 90000 EUR is more than I may grant."
    of_turn = [entry for entry in entries if entry["turn_id"] == replies[0]["turnId"]]
    kinds = Counter(entry["kind"] for entry in of_turn)
    assert kinds["turn.queued"] == kinds["turn.completed"] == kinds["tool.completed"] == 1
    assert kinds["turn.started"] == 2
    with pytest.raises(SystemExit) as ended:
        await asyncio.to_thread(main, ["doctor", "--data-dir", str(tmp_path / "sessile-data")])
    assert ended.value.code in (0, None)
    assert "session" in capsys.readouterr().out


async def test_killed_between_two_messages_the_session_goes_on(tmp_path: Path) -> None:
    with Process(tmp_path, str(APP), STEP_SECONDS="0.01") as process:
        await asyncio.to_thread(process.ready)
        async with reaching(process.url) as site:
            token = (await site.http.post("/api/auth/login", json=MANAGER)).json()["token"]
            client = Client(site, token)
            session_id = (await client.open("customer"))["sessionId"]
            first = await client.say(session_id, "The balance of account 1234?")
            process.process.kill()
            process.end()
    with Process(tmp_path, str(APP), STEP_SECONDS="0.01") as process:
        await asyncio.to_thread(process.ready)
        async with reaching(process.url) as site:
            client = Client(site, token)
            before = await client.history(session_id)
            again = await client.say(session_id, "The balance again?")
            history = await client.history(session_id)

    assert [message["content"] for message in before[1:]] == [first["reply"]]
    assert again["reply"] == first["reply"]
    assert history[:2] == before
    assert len(history) == 4


async def killed_mid_reply(directory: Path) -> tuple[str, str]:
    """A session whose server is lost while it answers, and the token of whoever asked."""
    with Process(directory, str(APP), STEP_SECONDS=str(MID_REPLY_SECONDS)) as process:
        await asyncio.to_thread(process.ready)
        async with reaching(process.url, process.token) as site:
            token = (await site.http.post("/api/auth/login", json=MANAGER)).json()["token"]
            client = Client(site, token)
            session_id = (await client.open("customer"))["sessionId"]
            await client.say(session_id, "Hello")

            async def asked() -> None:
                with pytest.raises(httpx2.TransportError):
                    await client.say(session_id, LOAN, key="the-loan")

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(asked())
                await polled(
                    lambda: site.entries(session_id), is_mid_reply, "the reply does not begin"
                )
                process.process.kill()
                process.end()
    return session_id, token


def is_mid_reply(entries: list[dict[str, Any]]) -> bool:
    """Some of it is written, and its tool runs."""
    kinds = [entry["kind"] for entry in entries if "loan" in str(entry["body"])]
    deltas = [e for e in entries if e["kind"] == "message.delta"]
    return "tool.started" in kinds and any("Let me see" in e["body"]["text"] for e in deltas)
