"""A mapping that is not as it should be is refused with the place, before anything is asked."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from tests.verify.naive import MAPPING

from sessile.verify import loading
from sessile.verify.mapping import BadMapping


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        ("send.request.json.text", "{txt}", r"send: nothing is known to put in for \{txt\}"),
        ("reads.export.request", "GET /x/{turn}", "reads.export: nothing is known"),
        ("stream.request", "GET /events", "stream.request: does not say which"),
        ("open.session", [], "open.session: is missing"),
        ("send.turn", "a[b]", r"send.turn: 'a\[b\]' is no path"),
        ("stream.events.progress.all", "a..b", "stream.events.progress: 'a..b' is no path"),
        ("turn.stat", "x", "turn.stat: there is no such thing"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(place: str, value: Any, why: str) -> None:
    raw = deepcopy(MAPPING)
    *within, last = place.split(".")
    part = raw
    for name in within:
        part = part[name]
    part[last] = value

    with pytest.raises(BadMapping, match=why):
        loading.read_mapping(raw)


@pytest.mark.parametrize("name", loading.shipped())
def test_what_is_shipped_is_as_it_should_be(name: str) -> None:
    assert loading.load(name).name


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.yaml", "[" * 5_000), ("a.yaml", "a: {b"), ("a.py", "1 / 0"), ("a.yaml", "\x00")],
)
def test_a_file_that_is_no_mapping_is_refused(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(BadMapping, match=r"a\.(yaml|py): "):
        loading.load(str(path))
