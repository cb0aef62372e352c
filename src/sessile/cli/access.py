"""`sessile users` and `sessile keys`: who may sign in, and what was given out."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from sessile.cli.failure import CommandFailed
from sessile.cli.flags import read_settings

DataDirOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help=r"The server's data directory. [dim]\[default: sessile-data; SESSILE_DATA_DIR][/dim]",
        show_default=False,
    ),
]
StoreUrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help=r"sqlite (a file in the data directory), or postgresql://…"
        r" [dim]\[default: sqlite; SESSILE_STORE_URL][/dim]",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]
TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", show_default=False)]
UserArgument = Annotated[str, typer.Argument(metavar="USER", show_default=False)]
RoleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        metavar="ROLE",
        help="admin (of the tenant), operator (sets grants), service (acts for its users);"
        " as often as there are.",
        show_default=False,
    ),
]
PasswordOption = Annotated[
    bool, typer.Option("--password-stdin", help="The password is the first line of what comes in.")
]

users = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Built-in users.")
keys = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="API keys.")


def database(data_dir: Path | None, store_url: str | None) -> Any:
    """The settings of one that is looked at without a server."""
    settings = read_settings(os.environ, {"data_dir": data_dir, "store_url": store_url})
    if settings.store_url == "memory":
        raise CommandFailed("a store in memory is its server's alone, and ends with it")
    return settings


@users.command("add")
def add_user(
    tenant: TenantArgument,
    user: UserArgument,
    *,
    role: RoleOption = None,
    password_stdin: PasswordOption = False,
    data_dir: DataDirOption = None,
    store_url: StoreUrlOption = None,
) -> None:
    """Add a user, who signs in with a password. Servers that run need not be stopped."""
    from sessile.cli.giving import Giving  # noqa: PLC0415

    giving = Giving(database(data_dir, store_url))
    giving.add_user(tenant, user, roles=role or [], from_stdin=password_stdin)


@users.command("list")
def list_users(
    tenant: TenantArgument,
    *,
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
    store_url: StoreUrlOption = None,
) -> None:
    """The users of a tenant."""
    from sessile.cli.giving import Giving  # noqa: PLC0415

    Giving(database(data_dir, store_url)).list_users(tenant, as_json=as_json)


@users.command("passwd")
def set_password(
    tenant: TenantArgument,
    user: UserArgument,
    *,
    password_stdin: PasswordOption = False,
    data_dir: DataDirOption = None,
    store_url: StoreUrlOption = None,
) -> None:
    """Give a user another password. Where it is signed in, it is signed out."""
    from sessile.cli.giving import Giving  # noqa: PLC0415

    Giving(database(data_dir, store_url)).set_password(tenant, user, from_stdin=password_stdin)


@users.command("remove")
def remove_user(
    tenant: TenantArgument,
    user: UserArgument,
    *,
    data_dir: DataDirOption = None,
    store_url: StoreUrlOption = None,
) -> None:
    """Remove a user, with its tokens and the API keys that act as it. Its sessions stay."""
    from sessile.cli.giving import Giving  # noqa: PLC0415

    Giving(database(data_dir, store_url)).remove_user(tenant, user)


@users.command("revoke")
def revoke_user(
    tenant: TenantArgument,
    user: UserArgument,
    *,
    data_dir: DataDirOption = None,
    store_url: StoreUrlOption = None,
) -> None:
    """End all that was issued for a user before now: tokens, API keys, JWTs of an issuer.

    What they opened ends within 5 seconds. The user may sign in again.
    """
    from sessile.cli.giving import Giving  # noqa: PLC0415

    Giving(database(data_dir, store_url)).revoke_user(tenant, user)


@keys.command("add")
def add_key(
    tenant: TenantArgument,
    user: UserArgument,
    *,
    name: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="read, write (and read), or admin (and both). [dim]\\[default: write][/dim]",
            show_default=False,
        ),
    ] = None,
    role: RoleOption = None,
    days: Annotated[
        int | None,
        typer.Option(min=1, max=3_660, metavar="N", help="For so long.", show_default=False),
    ] = None,
    data_dir: DataDirOption = None,
    store_url: StoreUrlOption = None,
) -> None:
    """Make an API key that acts as a user. It is shown once, and stored by its hash alone."""
    from sessile.cli.giving import Giving  # noqa: PLC0415

    giving = Giving(database(data_dir, store_url))
    giving.add_key(tenant, user, name=name, scopes=scope or ["write"], roles=role or [], days=days)


@keys.command("list")
def list_keys(
    tenant: TenantArgument,
    *,
    as_json: JsonOption = False,
    data_dir: DataDirOption = None,
    store_url: StoreUrlOption = None,
) -> None:
    """The API keys of a tenant."""
    from sessile.cli.giving import Giving  # noqa: PLC0415

    Giving(database(data_dir, store_url)).list_keys(tenant, as_json=as_json)


@keys.command("revoke")
def revoke_key(
    tenant: TenantArgument,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id.", show_default=False)],
    *,
    data_dir: DataDirOption = None,
    store_url: StoreUrlOption = None,
) -> None:
    """Revoke an API key. What it opened ends within 5 seconds."""
    from sessile.cli.giving import Giving  # noqa: PLC0415

    Giving(database(data_dir, store_url)).revoke_key(tenant, key)
