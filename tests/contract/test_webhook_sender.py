"""What is sent, and where to: whatever a name leads to, and whoever answers."""

import asyncio
import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import httpcore2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.servers.receiver import Receiver, receiving

from sessile.adapters.webhooks import Addresses, WebhookSender
from sessile.adapters.webhooks.addresses import is_public, resolve
from sessile.ports.webhooks import AddressRefused, NotSent

PUBLIC = "93.184.216.34"
HEADERS = ((b"content-type", b"application/json"),)


def leads_to(*addresses: str) -> Callable[[str, int], Any]:
    async def answer(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return answer


def sender(receiver: Receiver | None = None, **given: Any) -> WebhookSender:
    port = 443 if receiver is None else receiver.port
    seconds_max, trusted = given.pop("seconds_max", 5.0), given.pop("trusted", None)
    wanted = {"plain": True, "private": True, "resolve": leads_to("127.0.0.1"), **given}
    addresses = Addresses(ports=[port], **wanted)
    return WebhookSender(addresses, seconds_max=seconds_max, trusted=trusted)


async def post(sender: WebhookSender, url: str) -> int:
    async with sender:
        return await sender.post(url, HEADERS, b"{}")


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1",
        "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192",
        "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
        "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:93.184.216.34", "::ffff:0:10.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1",
        "2001:db8::1", "2002:7f00:1::", "2002:c0a8:1::1", "3fff::1", "5f00::1", "fc00::1",
        "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "2606:4700::1%eth0", "fec0::1", "ff02::1",
        "", "localhost", "127.1", "2130706433", "0x7f000001",
    ],
)  # fmt: skip
def test_an_address_within_is_not_of_the_internet(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        PUBLIC, "1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1",
        "192.0.1.1", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001::1",
        "64:ff9b::5db8:d822",
    ],
)  # fmt: skip
def test_any_other_address_is(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "0", "localhost"],
)
async def test_another_way_to_write_it_leads_to_the_same(host: str) -> None:
    """As the system's resolver reads it, which asks nobody about these."""
    addresses = Addresses(ports=[443], plain=False, private=False, resolve=resolve)

    with pytest.raises(AddressRefused):
        await addresses.of(host, 443)


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data", "https://[::ffff:169.254.169.254]/",
        "https://[fe80::1%25eth0]/", "https://\uff11\uff12\uff17.0.0.1/", "https://a.example\\@127.0.0.1/",
        "https://a.example/ b", "https://a.example/\nb", "https://%31%32%37.0.0.1/",
        "https://:443/", "https://-/", "https://me@a.example/", "https://@a.example/",
        "https://a.example:80/", "https://a.example:x/", "//a.example/", "a.example", "",
        "file:///etc/passwd", "gopher://a.example/", "https://a.example/" + "a" * 2_048,
    ],
)  # fmt: skip
def test_what_is_no_address_to_send_to_is_refused_when_it_is_given(url: str) -> None:
    addresses = Addresses(ports=[443], plain=False, private=False)

    with pytest.raises(ValueError):  # noqa: PT011  each for a reason of its own
        addresses.check(url)
    addresses.check("https://hooks.a.example:443/x?y=1#z")


class Below(httpcore2.AsyncNetworkBackend):
    """Connects to nothing, and remembers to what."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def connect_tcp(self, host: str, port: int, *_: Any) -> httpcore2.AsyncNetworkStream:
        self.asked.append(host)
        raise httpcore2.ConnectError()


def over(sender: WebhookSender) -> Below:
    below = Below()
    sender._pool._network_backend._below = below  # type: ignore[attr-defined]
    return below


async def test_a_name_that_leads_elsewhere_the_next_time_is_looked_at_again() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["::1", PUBLIC], [PUBLIC]])

    async def rebinding(_host: str, _port: int) -> Sequence[str]:
        return next(answers)

    sending = sender(private=False, plain=False, resolve=rebinding)
    below = over(sending)

    async with sending:
        for refused in (False, True, True, True, False):
            with pytest.raises(NotSent) as told:
                await sending.post("https://hooks.example/", HEADERS, b"{}")
            assert isinstance(told.value, AddressRefused) is refused
            assert "127.0.0.1" not in str(told.value)

    # The address that was looked at, never the name: nobody else resolves it.
    assert below.asked == [PUBLIC, PUBLIC]


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    sending = sender(private=False, plain=False, resolve=leads_to("2606:4700::1", PUBLIC))
    below = over(sending)

    with pytest.raises(NotSent):
        await post(sending, "https://hooks.example/")

    assert below.asked == ["2606:4700::1", PUBLIC]


async def test_a_name_without_an_address_is_told() -> None:
    async def unknown(_host: str, _port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    for answer in (unknown, leads_to()):
        with pytest.raises(NotSent, match="no address"):
            await post(sender(resolve=answer), "https://hooks.example/")


async def test_a_port_that_was_taken_off_the_list_is_not_connected_to() -> None:
    async with receiving() as receiver:
        sending = WebhookSender(Addresses(ports=[443], plain=True, private=True), seconds_max=5)
        with pytest.raises(NotSent, match="port"):
            await post(sending, receiver.url)

        assert receiver.connections == 0


async def test_a_redirect_is_a_status_and_leads_nowhere() -> None:
    async with receiving() as inner, receiving() as receiver:
        receiver.status, receiver.headers = 307, f"Location: {inner.url}\r\n"

        assert await post(sender(receiver), receiver.url) == 307

        assert inner.connections == 0


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")

        assert await post(sender(receiver), receiver.url) == 200

        assert proxy.connections == 0


async def _nothing(_writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


DRIP_SECONDS = 0.01


async def _drips(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: y\r\n")
        await writer.drain()
        await asyncio.sleep(DRIP_SECONDS)


async def _junk(writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 smtp ready\r\n\r\n")


async def _endless_head(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"y" * 65_536)
        await writer.drain()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_nothing, "in time"),
        (_drips, "in time"),
        (_junk, "not HTTP"),
        (_endless_head, "not HTTP"),
    ],
)
async def test_who_does_not_answer_is_not_waited_for(answer: Any, said: str) -> None:
    async with receiving() as receiver:
        receiver.answer = answer

        async with asyncio.timeout(5):
            with pytest.raises(NotSent, match=said):
                await post(sender(receiver, seconds_max=0.3), receiver.url)


async def test_a_reply_without_an_end_is_not_read_to_it() -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 99999999999\r\n\r\n")
        while True:
            writer.write(b"y" * 65_536)
            await writer.drain()
            sent += 65_536

    async with receiving() as receiver:
        receiver.answer = endless

        async with asyncio.timeout(5):
            assert await post(sender(receiver), receiver.url) == 202

    assert sent < 20 * 2**20  # what the system's buffers hold


async def test_a_reply_whose_body_does_not_come_counts_by_its_status() -> None:
    async def half(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 X\r\nContent-Length: 10\r\n\r\nabc")

    async with receiving() as receiver:
        receiver.answer = half

        assert await post(sender(receiver), receiver.url) == 500


def certificate(path: Path, names: Iterable[str]) -> Path:
    """Signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hooks")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2050, 1, 1, tzinfo=datetime.UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    unlocked = serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, unlocked)
    path.write_bytes(private + made.public_bytes(encoding))
    return path


async def test_the_certificate_has_to_be_for_the_name_and_not_for_the_address(
    tmp_path: Path,
) -> None:
    file = certificate(tmp_path / "hooks.pem", ["hooks.example"])
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(file)
    trusting = ssl.create_default_context(cafile=str(file))

    async with receiving(serving) as receiver:
        at = f"{receiver.port}/hook"
        async with sender(receiver, trusted=trusting) as sending:
            assert await sending.post(f"https://hooks.example:{at}", HEADERS, b"{}") == 200
            with pytest.raises(NotSent, match="certificate is not valid"):
                await sending.post(f"https://other.example:{at}", HEADERS, b"{}")
        with pytest.raises(NotSent, match="certificate is not valid"):
            await post(sender(receiver), f"https://hooks.example:{at}")

        (came,) = receiver.came
        assert came.headers["host"] == f"hooks.example:{receiver.port}"


async def test_a_name_server_that_never_answers_holds_up_no_other_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers, real = threading.Event(), socket.getaddrinfo
    loop, began = asyncio.get_running_loop(), asyncio.Event()

    def slow(host: Any, *given: Any, **named: Any) -> Any:
        if host == "slow.example":
            loop.call_soon_threadsafe(began.set)
            answers.wait(20)
        return real("127.0.0.1" if host == "slow.example" else host, *given, **named)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(64):
            tasks.create_task(resolve("slow.example", 443))
        await began.wait()
        try:
            async with asyncio.timeout(10):
                assert await loop.getaddrinfo("127.0.0.1", 80)
        finally:
            answers.set()
