"""The settings as flags: one for each field, and a variable of the same name beside it."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from sessile.cli.failure import CommandFailed
from sessile.settings import Settings, without_password

# A panel of the help begins at the setting named here, and goes on to the next.
PANELS = {
    "host": "Server",
    "turns_concurrent_max": "Turns",
    "body_bytes_max": "Sizes",
    "delta_milliseconds": "Streams",
    "pusher_app_id": "Pusher Channels",
    "token_seconds_max": "Sign-in",  # the name of a panel  # nosec B105
    "api_origins": "Connections",
    "webhooks_tenant_max": "Webhooks",
}
CHOICES = {
    "role": ("all", "surfaces", "turns"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("auto", "text", "json"),
    "pusher_client_events": ("off", "apart", "everywhere"),
}
ADDRESSES = {
    "store_url": (r"sqlite|memory|postgres(ql)?://.+", "sqlite, memory, postgresql://…"),
    "notifier_url": (r"|nats://.+", "nats://…"),
}
_METAVARS: Mapping[type, str] = {
    int: "INTEGER",
    float: "NUMBER",
    str: "TEXT",
}


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    return "SESSILE_" + name.upper()


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """The command with a flag for each setting; it gets those that were given as `**given`."""
    signature = inspect.signature(command)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    flags = list(_parameters())

    def called(**arguments: Any) -> None:
        command(**arguments)

    called.__doc__ = command.__doc__
    called.__name__ = command.__name__
    setattr(called, "__signature__", inspect.Signature([*own, *flags]))  # noqa: B010
    called.__annotations__ = {p.name: p.annotation for p in (*own, *flags)}
    return called


def read_settings(environ: Mapping[str, str], given: Mapping[str, Any]) -> Settings:
    """Flags, then variables, then defaults. Raises CommandFailed for a value that does not fit,
    and says where it came from."""
    try:
        settings = Settings.read(environ, **given)
    except ValueError as error:
        name, colon, why = str(error).partition(":")
        told = f"{_source(name, given)}:{why}" if colon else str(error)
        raise CommandFailed(told) from None
    choices = {name: ("|".join(each), ", ".join(each)) for name, each in CHOICES.items()}
    for name, (form, known) in (choices | ADDRESSES).items():
        if not re.fullmatch(form, value := getattr(settings, name)):
            told = without_password(value)
            raise CommandFailed(f"{_source(name, given)}: {told!r} is none of {known}")
    if not all(map(_has_host, settings.notifier_url.split(","))):
        told = without_password(settings.notifier_url)
        raise CommandFailed(
            f"{_source('notifier_url', given)}: {told!r} cannot be read;"
            " in its password, write / as %2F, @ as %40 and so on"
        )
    return settings


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return not url or (bool(parts.hostname) and parts.port != 0)
    except ValueError:  # of the port; it may quote a piece of the password
        return False


def changed(environ: Mapping[str, str], given: Mapping[str, Any]) -> Iterator[str]:
    """The names of the settings that a flag or a variable sets."""
    for field in fields(Settings):
        if given.get(field.name) is not None or variable(field.name) in environ:
            yield field.name


def _source(name: str, given: Mapping[str, Any]) -> str:
    return flag(name) if given.get(name) is not None else variable(name)


def _parameters() -> Iterator[inspect.Parameter]:
    panel = ""
    for field in fields(Settings):
        panel = PANELS.get(field.name, panel)
        switch = isinstance(field.default, bool)
        option = typer.Option(
            None,
            flag(field.name) + (f"/--no-{flag(field.name)[2:]}" if switch else ""),
            metavar=None if switch else _metavar(field),
            help=_help(field),
            rich_help_panel=panel,
            show_default=False,
        )
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=option,
            annotation=bool | None if switch else str | None,
        )


def _metavar(field: "Field[Any]") -> str:
    if choices := CHOICES.get(field.name):
        return "|".join(choices)
    return "PATH" if isinstance(field.default, Path) else _METAVARS[type(field.default)]


def _help(field: "Field[Any]") -> str:
    value = field.default
    default = f"{value:g}" if isinstance(value, float) else str(value) or "none"
    if isinstance(value, bool):
        default = "on" if value else "off"
    told = rf"\[default: {default}; {variable(field.name)}]"
    return f"{field.metadata['about']} [dim]{told}[/dim]"
