"""What `sessile serve FILE.py[:NAME]` serves, and what it says where it cannot."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessile.cli.failure import CommandFailed
from sessile.cli.load import load, load_demo
from sessile.settings import Settings

TWO = """
from sessile import Assistant

async def answer(turn):
    return "hello"

first = Assistant("first", agent=answer)
second = Assistant("second", agent=answer)
again = first
"""


@pytest.fixture(autouse=True)
def as_imported_before() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and "pytest" in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def names(target: str) -> list[str]:
    return [assistant.name for assistant in load(target, Settings()).assistants]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_serves_each_of_its_assistants_once(tmp_path: Path) -> None:
    assert names(str(write(tmp_path / "app_1.py", TWO))) == ["first", "second"]


def test_a_name_serves_one_of_them(tmp_path: Path) -> None:
    assert names(f"{write(tmp_path / 'app_2.py', TWO)}:second") == ["second"]


def test_a_server_is_served_as_it_was_made(tmp_path: Path) -> None:
    made = TWO + "\nfrom sessile import Server, Settings\n"
    made += "app = Server(second, settings=Settings(port=4000))\n"
    target = str(write(tmp_path / "app_3.py", made))

    server = load(target, Settings())

    assert [assistant.name for assistant in server.assistants] == ["second"]
    assert server.settings.port == 4000


def test_the_files_directory_is_where_it_imports_from(tmp_path: Path) -> None:
    write(tmp_path / "beside_4.py", TWO)
    target = write(tmp_path / "app_4.py", "from beside_4 import first\n")

    assert names(str(target)) == ["first"]


def test_a_file_named_like_a_library_module_does_not_stand_in_for_it(tmp_path: Path) -> None:
    import json

    assert names(str(write(tmp_path / "json.py", TWO))) == ["first", "second"]
    assert sys.modules["json"] is json


def test_a_colon_in_a_directory_is_no_name(tmp_path: Path) -> None:
    directory = tmp_path / "a:b"
    directory.mkdir()

    assert names(str(write(directory / "app_5.py", TWO))) == ["first", "second"]


def test_the_demos_are_the_demo_assistant_first_and_then_five_systems() -> None:
    names = [assistant.name for assistant in load_demo(Settings()).assistants]

    assert names[0] == "demo"
    assert {"support", "sites", "banking", "tasks.researcher.full", "workspace"} <= set(names)


@pytest.mark.parametrize(("host", "systems"), [("127.0.0.1", 3), ("::1", 3), ("0.0.0.0", 0)])
def test_routes_that_ask_for_no_token_are_there_for_this_machine_alone(
    host: str, systems: int
) -> None:
    assert len(list(load_demo(Settings(host=host)).routers)) == systems


def test_a_demo_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sessile.integrations.pydantic_ai", None)

    with pytest.raises(CommandFailed) as failed:
        load_demo(Settings())

    assert failed.value.code == 2
    assert failed.value.message.startswith("the demo could not be loaded:\n")
    assert "sessile[pydantic-ai]" in failed.value.message


def failure(target: str) -> str:
    with pytest.raises(CommandFailed) as failed:
        load(target, Settings())
    assert failed.value.code == 2
    return failed.value.message


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "there is no file" in failure(str(tmp_path / "none.py"))
    assert "there is no file" in failure(str(tmp_path))


def test_a_file_that_is_no_python_is_told(tmp_path: Path) -> None:
    assert "ends in .py" in failure(str(write(tmp_path / "app.txt", TWO)))


def test_a_file_without_an_assistant_says_how_to_make_one(tmp_path: Path) -> None:
    told = failure(str(write(tmp_path / "app_6.py", "x = 1\n")))

    assert 'sessile.Assistant("support")' in told


def test_a_name_that_is_not_there_says_which_are(tmp_path: Path) -> None:
    told = failure(f"{write(tmp_path / 'app_7.py', TWO)}:third")

    assert "'third'" in told
    assert "first, second" in told


def test_several_servers_are_to_be_chosen_from(tmp_path: Path) -> None:
    made = TWO + "\nfrom sessile import Server\none = Server(first)\ntwo = Server(second)\n"
    target = write(tmp_path / "app_8.py", made)

    told = failure(str(target))

    assert f"{target}:one, {target}:two" in told


def test_assistants_of_one_name_are_told(tmp_path: Path) -> None:
    made = TWO + '\nthird = Assistant("first", agent=answer)\n'

    assert "several assistants named first" in failure(str(write(tmp_path / "app_9.py", made)))


def test_an_exception_is_told_with_the_users_own_frames_only(tmp_path: Path) -> None:
    code = "import json\n\ndef read():\n    return json.loads('{')\n\nread()\n"
    target = write(tmp_path / "app_10.py", code)

    told = failure(str(target))

    assert "JSONDecodeError" in told
    assert f'File "{target}", line 6' in told
    assert f'File "{target}", line 4, in read' in told
    assert "importlib" not in told
    assert "json/" not in told
    assert "cli/load.py" not in told


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path) -> None:
    told = failure(str(write(tmp_path / "app_11.py", "x = 1\ndef f(:\n")))

    assert "SyntaxError" in told
    assert "line 2" in told


def test_an_agent_that_cannot_be_run_is_told(tmp_path: Path) -> None:
    code = "from sessile import Assistant\n\ndef no(turn):\n    return 1\n\n"
    code += 'support = Assistant("support", agent=no)\n'

    assert "is no agent" in failure(str(write(tmp_path / "app_12.py", code)))


def test_a_file_that_exits_is_told(tmp_path: Path) -> None:
    assert "SystemExit: 3" in failure(str(write(tmp_path / "app_13.py", "raise SystemExit(3)\n")))


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    code = r"raise ValueError('\x1b[2J')" + "\n"

    assert "\x1b" not in failure(str(write(tmp_path / "app_14.py", code)))
