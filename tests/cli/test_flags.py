"""Each setting is a flag and a variable of the same name; the flag wins."""

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.cli.conftest import Ran

from sessile.cli.failure import CommandFailed
from sessile.cli.flags import CHOICES, PANELS, changed, flag, read_settings, variable, with_settings
from sessile.settings import Settings

NAMES = [field.name for field in fields(Settings)]
ADDRESSES = {
    "store_url": "memory",
    "notifier_url": "nats://here",
    "retention_tenants": "acme=30",
    "api_origins": "https://shop.example",
}
ANOTHER: dict[type, str] = {int: "7", float: "0.5", str: "words"}


def another(name: str) -> str:
    """A value that is allowed and is not the default."""
    default = getattr(Settings(), name)
    if name in CHOICES:
        return next(choice for choice in CHOICES[name] if choice != default)
    if name in ADDRESSES:
        return ADDRESSES[name]
    if isinstance(default, bool):
        return str(not default).lower()
    return "elsewhere" if isinstance(default, Path) else ANOTHER[type(default)]


def as_kept(name: str, text: str) -> Any:
    if isinstance(getattr(Settings(), name), bool):
        return text == "true"
    return type(getattr(Settings(), name))(text)


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_a_flag_and_a_variable_and_the_flag_wins(name: str) -> None:
    text = another(name)
    kept = as_kept(name, text)

    assert getattr(read_settings({}, {name: text}), name) == kept
    assert getattr(read_settings({variable(name): text}, {}), name) == kept
    over = {variable(name): str(getattr(Settings(), name))}
    assert getattr(read_settings(over, {name: text}), name) == kept


def test_serve_has_a_flag_for_each_setting_and_says_what_it_is(run: Callable[..., Ran]) -> None:
    ran = run("serve", "--help")

    words = re.sub(r"[│╭╮╰╯─\s]+", " ", ran.out)
    for field in fields(Settings):
        assert f"{flag(field.name)} " in words
        assert variable(field.name) in words
    for panel in PANELS.values():
        assert f" {panel} " in words
    assert "[default: 3006; SESSILE_PORT]" in words
    assert ran.code == 0


@pytest.mark.parametrize(
    ("flags", "variables", "kept"),
    [
        ([], {}, True),
        (["--no-console"], {}, False),
        (["--console"], {"SESSILE_CONSOLE": "0"}, True),
        (["--no-console"], {"SESSILE_CONSOLE": "yes"}, False),
        ([], {"SESSILE_CONSOLE": "No"}, False),
    ],
)
def test_a_switch_is_turned_on_and_off(
    flags: list[str], variables: dict[str, str], kept: bool
) -> None:
    app, given = typer.Typer(), dict[str, Any]()

    @app.command()
    @with_settings
    def command(**flags: Any) -> None:
        given.update(flags)

    app(flags, standalone_mode=False)

    assert read_settings(variables, given).console is kept


def test_every_panel_begins_at_a_setting_that_there_is() -> None:
    assert set(PANELS) <= set(NAMES)
    assert set(CHOICES) <= set(NAMES)
    assert next(iter(PANELS)) == NAMES[0]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("port", "many", "'many' is not a whole number"),
        ("port", "-1", "must be 0 or more"),
        ("retention_days", "-1", "must be 0 or more"),
        ("data_dir", "", "is empty"),
        ("api_origins", "https://shop.example, *", "'*' is no origin"),
        ("api_origins", "https://shop.example/", "'https://shop.example/' is no origin"),
        ("sweep_seconds", "soon", "'soon' is not a number"),
        ("sweep_seconds", "0", "must be more than 0"),
        ("console", "maybe", "'maybe' is neither true nor false"),
        ("sweep_seconds", "nan", "finite"),
        ("drain_seconds_max", "inf", "finite"),
        ("log_level", "loud", "none of debug, info, warning, error"),
        ("log_format", "xml", "none of auto, text, json"),
        ("store_url", "files", "none of sqlite, memory, postgresql://"),
        ("store_url", "mysql://ann:secret@db/x", "'mysql://ann:…@db/x' is none of"),
        ("notifier_url", "redis://host", "none of nats://"),
        ("store_sharded", "perhaps", "'perhaps' is neither true nor false"),
        ("role", "none", "none of all, surfaces, turns"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_where_it_came_from(
    name: str, text: str, why: str
) -> None:
    with pytest.raises(CommandFailed, match=re.escape(why)) as by_flag:
        read_settings({}, {name: text})
    with pytest.raises(CommandFailed, match=re.escape(why)) as by_variable:
        read_settings({variable(name): text}, {})

    assert by_flag.value.message.startswith(f"{flag(name)}: ")
    assert by_variable.value.message.startswith(f"{variable(name)}: ")
    assert by_flag.value.code == 2


@pytest.mark.parametrize(("text", "kept"), [("true", True), ("False", False), ("FALSE", False)])
def test_what_is_true_or_false_is_read_whatever_its_case(text: str, kept: bool) -> None:
    assert read_settings({}, {"store_sharded": text}).store_sharded is kept


def test_a_variable_that_is_misspelt_is_told(
    run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSILE_PROT", "8000")

    ran = run("doctor")

    assert ran.code == 2
    assert "SESSILE_PROT" in ran.err


def test_what_was_set_is_told_from_what_is_the_default() -> None:
    names = changed({"SESSILE_PORT": "3006"}, {"host": "127.0.0.1", "data_dir": None})

    assert list(names) == ["host", "port"]


@pytest.mark.parametrize("command", ["", "serve", "work", "chat", "log", "migrate", "doctor"])
def test_each_command_has_help(run: Callable[..., Ran], command: str) -> None:
    ran = run(*command.split(), "--help")

    assert ran.code == 0
    assert "Usage: " in ran.out


def test_the_version_is_the_packages(run: Callable[..., Ran]) -> None:
    from importlib.metadata import version

    assert run("--version").out == f"sessile {version('sessile')}\n"


def test_an_unknown_flag_is_refused(run: Callable[..., Ran]) -> None:
    assert run("serve", "--ports", "1").code == 2


@pytest.mark.parametrize("address", ["ann:s3c/r@bus:4222", "ann:s3cr@bus:x", "one,nats://:1", ":0"])
def test_an_address_of_nats_that_cannot_be_read_is_told_without_its_password(address: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        read_settings({}, {"notifier_url": f"nats://{address}"})

    assert "cannot be read; in its password, write / as %2F" in refused.value.message
    assert "s3c" not in refused.value.message
