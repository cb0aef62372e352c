"""What docs/assistants.md tells a newcomer to type: its file grows from section to section."""

import re
from pathlib import Path

import pytest
from tests.cli.conftest import Serve
from tests.incidents.test_tour import ROOT, typed

PAGE = ROOT / "docs" / "assistants.md"
HEAD, *SECTIONS = PAGE.read_text(encoding="utf-8").split("\n## ")
TYPED = [at for at, section in enumerate(SECTIONS) if "```sh\n" in section]


def blocks(section: str, language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return "\n\n".join(found)


@pytest.mark.parametrize("at", TYPED, ids=lambda at: SECTIONS[at].partition("\n")[0])
def test_a_section_prints_what_it_says(tmp_path: Path, at: int) -> None:
    code = "\n\n".join(blocks(section, "python") for section in SECTIONS[: at + 1])
    (tmp_path / "app.py").write_text(code)

    with Serve(tmp_path, "app.py") as served:
        printed = typed(served.ready(), [blocks(HEAD, "sh"), blocks(SECTIONS[at], "sh")])

    assert printed == blocks(SECTIONS[at], "text")
