"""Where a tenant's webhook may lead to: to the internet, and not into the network that this server
is in."""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

from sessile.ports.webhooks import AddressRefused, NotSent

URL_CHARS_MAX = 2_048
HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\.?|[0-9a-f:.]+", re.IGNORECASE)
"""Names and addresses as they are written in ASCII; what a browser would read otherwise (full-width
digits, percent signs, zones) is none."""
PORTS = {"http": 80, "https": 443}

_V4_REFUSED = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
            "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        ),
    )
)  # fmt: skip
_V6_GLOBAL = ipaddress.IPv6Network("2000::/3")
"""All others are refused: loopback, unique local, link-local, multicast, and IPv4 in disguise."""
_V6_REFUSED = tuple(
    map(
        ipaddress.IPv6Network,
        # Teredo and what else is no address of a host; documentation; 6to4; the same again.
        ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""How networks without IPv4 reach it: the address behind it counts."""

_threads = ThreadPoolExecutor(4, thread_name_prefix="webhook names")
"""Of their own: who asks is a tenant's address, whose name server may take as long as it likes, and
in the loop's threads everybody else's names are looked up."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


def is_public(text: str) -> bool:
    """Whether an address, as a resolver answers it, is one of the internet."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _V4_REFUSED)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_public(str(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)))
    return address in _V6_GLOBAL and not any(address in network for network in _V6_REFUSED)


async def resolve(host: str, port: int) -> Sequence[str]:
    """By the system, which also reads `127.1`, `0x7f000001` and `017700000001`."""
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await asyncio.get_running_loop().run_in_executor(_threads, ask)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Addresses:
    """`ports`: that may be sent to, of https, and of http where `plain`. `private`: every address
    may be sent to."""

    def __init__(
        self,
        *,
        ports: Iterable[int],
        plain: bool,
        private: bool,
        resolve: Resolve = resolve,
    ) -> None:
        self._ports = frozenset(ports)
        self._schemes = ("https", "http") if plain else ("https",)
        self._private = private
        self._resolve = resolve

    def check(self, url: str) -> None:
        """What can be told of it without asking anybody. Raises ValueError, with the reason."""
        if len(url) > URL_CHARS_MAX:
            raise ValueError(f"it is longer than {URL_CHARS_MAX} characters")
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise ValueError("it has to be in ASCII, as it goes over the wire")
        parts = urlsplit(url)
        if parts.scheme not in self._schemes:
            raise ValueError(f"its scheme has to be {' or '.join(self._schemes)}")
        if "@" in parts.netloc:
            raise ValueError("it has to be without a user and a password")
        host = parts.hostname or ""
        if not HOST.fullmatch(host):
            raise ValueError("it names no host")
        port = parts.port or PORTS[parts.scheme]  # ValueError for one that is none
        if port not in self._ports:
            raise ValueError(
                f"its port has to be one of {', '.join(map(str, sorted(self._ports)))}"
            )
        if not self._private and (_is_literal(host) and not is_public(host)):
            raise ValueError("it leads to an address that is not of the internet")

    async def of(self, host: str, port: int) -> Sequence[str]:
        """Those that may be connected to now. Raises AddressRefused where one of all is not of the
        internet, and NotSent where there is none."""
        if port not in self._ports:
            raise AddressRefused("the port is not one that is sent to")
        try:
            found = await self._resolve(host, port)
        except (OSError, UnicodeError):
            raise NotSent("its name has no address") from None
        if not found:
            raise NotSent("its name has no address")
        if not self._private and not all(map(is_public, found)):
            raise AddressRefused("it leads to an address that is not of the internet")
        return found


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
