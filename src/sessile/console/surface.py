"""Serves the console's files, read and compressed once."""

import gzip
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from starlette.types import Receive, Scope, Send

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
"""Files of other kinds, as licences are, are not served."""
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    b" img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    b" require-trusted-types-for 'script'; trusted-types dompurify"
)
OF_THE_PAGE = [
    # Who opened it has no hold on its window, and it has no use for these.
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
]
FOR_EVER = b"public, max-age=31536000, immutable"
ASK_AGAIN = b"no-cache"
_VERSIONED = re.compile(r"vendor/.*-\d+\.\d+\.\d+\.\w+")
_PAGE = "/console/index.html"
_OF_THE_BODY = (b"content-length", b"content-type", b"content-encoding")

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """A file as it is sent."""

    body: bytes
    headers: Headers
    etag: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    route: str
    plain: _Form
    compressed: _Form


class Console:
    """An ASGI application for GET and HEAD of the page and its files.

    `/` is the page for who takes HTML; what `/` is for others is none of its business.
    """

    def __init__(self) -> None:
        files = _served()
        self._page = files[_PAGE]
        self._files = {path: file for path, file in files.items() if path != _PAGE}

    def serves(self, scope: Scope) -> bool:
        """Whether it is for this application; `scope` is told which of its routes it is."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return False
        found = self._found(scope)
        if found is None:
            return False
        scope["route"] = SimpleNamespace(path=found.route)
        scope["console"] = found
        return True

    def _found(self, scope: Scope) -> _File | None:
        if scope["path"] == "/":
            return self._page if "text/html" in _header(scope, b"accept") else None
        return self._files.get(scope["path"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        file: _File = scope["console"]
        form = file.compressed if _takes_gzip(_header(scope, b"accept-encoding")) else file.plain
        if _has(_header(scope, b"if-none-match"), form.etag):
            kept = [each for each in form.headers if each[0] not in _OF_THE_BODY]
            await send({"type": "http.response.start", "status": 304, "headers": kept})
            await send({"type": "http.response.body"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [*form.headers]})
        body = b"" if scope["method"] == "HEAD" else form.body
        await send({"type": "http.response.body", "body": body})

    async def drain(self) -> None:
        """Nobody stays connected to it."""


@cache
def _served() -> Mapping[str, _File]:
    """Once a process: several servers may be made in one."""
    return dict(_files(STATIC))


def _files(root: Path) -> Iterator[tuple[str, _File]]:
    for path in sorted(root.rglob("*")):
        media_type = MEDIA_TYPES.get(path.suffix)
        if media_type is None or not path.is_file():
            continue
        name = path.relative_to(root).as_posix()
        cached = FOR_EVER if _VERSIONED.fullmatch(name) else ASK_AGAIN
        page = name == "index.html"
        shared: Headers = [
            (b"content-type", media_type),
            (b"cache-control", cached),
            (b"content-security-policy", POLICY),
            (b"vary", b"accept, accept-encoding" if page else b"accept-encoding"),
            *(OF_THE_PAGE if page else ()),
        ]
        plain = path.read_bytes()
        digest = hashlib.sha256(plain).hexdigest()[:32]
        yield (
            f"/console/{name}",
            _File(
                route="/" if page else "/console/{file}",
                plain=_form(plain, shared, etag=f'"{digest}"'),
                compressed=_form(
                    gzip.compress(plain, mtime=0),
                    [*shared, (b"content-encoding", b"gzip")],
                    etag=f'"{digest}-gzip"',
                ),
            ),
        )


def _form(body: bytes, headers: Headers, *, etag: str) -> _Form:
    named = etag.encode()
    length = b"%d" % len(body)
    return _Form(
        body=body,
        headers=[*headers, (b"content-length", length), (b"etag", named)],
        etag=named,
    )


def _header(scope: Scope, name: bytes) -> str:
    """All that the header says; a list may stand in several."""
    return ", ".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


def _takes_gzip(accepted: str) -> bool:
    """What names gzip counts, else what a star says; a weight of 0 is a no."""
    weights: dict[str, str] = {}
    for each in accepted.lower().split(","):
        coding, _, weight = each.replace(" ", "").partition(";q=")
        weights[coding] = weight or "1"
    return weights.get("gzip", weights.get("*", "0")).strip("0.") != ""


def _has(asked: str, etag: bytes) -> bool:
    """Whether If-None-Match names it, or whatever there is."""
    named = etag.decode()
    return any(each.strip().removeprefix("W/") in ("*", named) for each in asked.split(","))
