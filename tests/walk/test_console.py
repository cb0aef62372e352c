"""The console is a page and its files; nothing that the API does not serve, and no more."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from tests.walk.people import Walk, walking

from sessile.console.surface import STATIC

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PLAIN = {**HTML, "accept-encoding": "identity"}
VENDORED = "/console/vendor/htm-3.1.1.mjs"


async def test_the_address_of_the_server_is_the_page_for_browsers_alone(walk: Walk) -> None:
    page = await walk.nobody.get("/", headers=HTML)
    about = await walk.nobody.get("/", headers={"accept": "application/json"})
    anything = await walk.nobody.get("/")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text == (STATIC / "index.html").read_text(encoding="utf-8")
    assert "accept" in page.headers["vary"].split(", ")
    assert about.json()["name"] == anything.json()["name"] == "sessile"


async def test_all_that_the_page_names_is_there_and_comes_from_here(walk: Walk) -> None:
    wanted = ["/"]
    seen: set[str] = set()

    while wanted:
        path = wanted.pop()
        if path in seen:
            continue
        seen.add(path)
        reply = await walk.nobody.get(path, headers=HTML)
        assert reply.status_code == 200, path
        if path.startswith("/console/vendor/") or path.endswith((".css", ".svg")):
            continue
        pattern = (
            r'(?:src|href)="([^"]+)"' if path == "/" else r'(?:from|import\(|^import)\s*"([^"]+)"'
        )
        for name in re.findall(pattern, reply.text, re.MULTILINE):
            assert not re.match(r"\w+:|//", name), (path, name)
            wanted.append(reply.url.join(name).path)

    assert {"/console/app.js", "/console/chat.js", "/console/health.js", VENDORED} <= seen


def test_the_page_asks_at_once_for_every_module_that_it_begins_with() -> None:
    needed, wanted = set[str](), ["app.js"]
    while wanted:
        name = wanted.pop()
        text = (STATIC / name).read_text(encoding="utf-8")
        for found in re.findall(r"""(?:from|^import)\s*"(\.[^"]+)\"""", text, re.MULTILINE):
            path = (STATIC / name).parent.joinpath(found).resolve().relative_to(STATIC).as_posix()
            if path not in needed:
                needed.add(path)
                wanted.append(path)

    page = (STATIC / "index.html").read_text(encoding="utf-8")

    assert set(re.findall(r'modulepreload" href="/console/([^"]+)"', page)) == needed
    assert len(needed) > 10


async def test_a_page_may_run_what_this_server_serves_and_nothing_else(walk: Walk) -> None:
    for path in ("/", "/console/app.js", VENDORED):
        headers = (await walk.nobody.get(path, headers=HTML)).headers
        policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'", path
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
    shown = (await walk.nobody.get("/", headers=HTML)).headers
    assert shown["cross-origin-opener-policy"] == "same-origin"
    denied = set(shown["permissions-policy"].split(", "))
    assert {"camera=()", "geolocation=()", "microphone=()", "payment=()", "usb=()"} <= denied
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", page)


async def test_a_file_is_compressed_for_who_takes_it(walk: Walk) -> None:
    plain = (STATIC / "app.js").read_bytes()

    for accepted, compressed in (
        ("gzip, deflate, br", True),
        ("*", True),
        ("br;q=1.0, gzip;q=0.5", True),
        ("identity", False),
        ("", False),
        ("gzip;q=0, *", False),
        ("*;q=0.000", False),
    ):
        headers = {"accept-encoding": accepted}
        async with walk.nobody.stream("GET", "/console/app.js", headers=headers) as reply:
            body = b"".join([piece async for piece in reply.aiter_raw()])
        assert (reply.headers.get("content-encoding") == "gzip") is compressed, accepted
        assert (gzip.decompress(body) if compressed else body) == plain
        assert reply.headers["content-length"] == str(len(body))
        assert "accept-encoding" in reply.headers["vary"]


async def test_what_a_browser_has_is_not_sent_again(walk: Walk) -> None:
    first = await walk.nobody.get("/console/app.js", headers=PLAIN)
    packed = await walk.nobody.get("/console/app.js", headers={"accept-encoding": "gzip"})
    etag = first.headers["etag"]

    known = await walk.nobody.get("/console/app.js", headers={**PLAIN, "if-none-match": etag})
    one_of = {**PLAIN, "if-none-match": f'"other", W/{etag}'}
    listed = await walk.nobody.get("/console/app.js", headers=one_of)
    other = {**PLAIN, "if-none-match": packed.headers["etag"]}
    elsewise = await walk.nobody.get("/console/app.js", headers=other)

    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)
    assert known.headers["cache-control"] == first.headers["cache-control"] == "no-cache"
    assert "content-security-policy" in known.headers
    assert listed.status_code == 304
    assert elsewise.status_code == 200
    assert etag != packed.headers["etag"]


async def test_what_has_a_version_in_its_name_is_kept_for_ever(walk: Walk) -> None:
    vendored = await walk.nobody.get(VENDORED)
    own = await walk.nobody.get("/console/app.css")

    assert vendored.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert vendored.headers["content-type"] == "text/javascript; charset=utf-8"
    assert own.headers["cache-control"] == "no-cache"


async def test_it_answers_get_and_head_of_its_files_alone(walk: Walk) -> None:
    head = await walk.nobody.head("/", headers=PLAIN)
    got = await walk.nobody.get("/", headers=PLAIN)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))
    for path in (
        "/console",
        "/console/",
        "/console/index.html",
        "/console/nothing.js",
        "/console/../surface.py",
        "/console/%2e%2e/surface.py",
        "/console/vendor/LICENSE-htm.txt",
        "/console/vendor/README.md",
    ):
        assert (await walk.nobody.get(path, headers=HTML)).status_code == 404, path
    for path in ("/", "/console/app.js"):
        refused = await walk.alice.post(path, json={}, headers=HTML)
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD"), path


async def test_its_requests_are_counted_under_few_names(walk: Walk) -> None:
    for path in ("/", "/console/app.js", "/console/app.css"):
        await walk.nobody.get(path, headers=HTML)

    figures = (await walk.nobody.get("/metrics")).text

    asked = 'sessile_http_requests_total{method="GET",route="%s",status="200"} %s'
    assert asked % ("/console/{file}", "2.0") in figures
    assert asked % ("/", "1.0") in figures


@pytest.mark.parametrize("settings", [{"console": False}, {"role": "turns"}])
async def test_it_can_be_turned_off(tmp_path: Path, settings: dict[str, object]) -> None:
    async with walking(data_dir=tmp_path / "data", **settings) as walk:
        page = await walk.nobody.get("/", headers=HTML)
        file = await walk.nobody.get("/console/app.js")

    assert page.headers["content-type"] == "application/json"
    assert file.status_code == 404


def test_vendored_files_are_what_their_readme_says() -> None:
    vendor = STATIC / "vendor"
    told = dict(
        re.findall(
            r"^\| `([^`]+)` .*\| `([0-9a-f]{64})` \|$", (vendor / "README.md").read_text(), re.M
        )
    )

    there = {path.name: path for path in vendor.iterdir() if path.suffix in (".mjs", ".css")}
    assert told == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()
    }
    for name in there:
        package = re.split(r"-\d|-hooks", name)[0]
        assert (vendor / f"LICENSE-{package}.txt").exists(), name
