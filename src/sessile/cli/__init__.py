"""The command line: serve, work, chat, log, users, keys, migrate, restored, erase, doctor, verify.

A command imports what it needs when it runs, so that `--help` is quick.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sessile.cli import access
from sessile.cli.access import DataDirOption, JsonOption, StoreUrlOption, database
from sessile.cli.failure import CommandFailed
from sessile.cli.flags import read_settings, with_settings
from sessile.cli.plain import lines
from sessile.cli.streams import open_what_is_closed, silence
from sessile.cli.verify import verify

URL = "http://localhost:3006"

app = typer.Typer(
    name="sessile",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(access.users, name="users")
app.add_typer(access.keys, name="keys")

SessionArgument = Annotated[
    str, typer.Argument(metavar="SESSION", help="A session's id.", show_default=False)
]
UrlOption = Annotated[str, typer.Option(metavar="URL", help="Where the server is.")]
TokenOption = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN",
        help="Who you are. Without it: SESSILE_DEV_TOKEN, else the first token of the data"
        " directory's dev-tokens.",
        show_default=False,
    ),
]
UserOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Whose token of dev-tokens to take.", show_default=False),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Raises SystemExit with its exit code."""
    open_what_is_closed()
    try:
        app(arguments, prog_name="sessile")
    except CommandFailed as failure:
        sys.stderr.write(f"sessile: {lines(failure.message)}\n")
        raise SystemExit(failure.code) from None
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        silence()
        raise SystemExit(1) from None


def _version(asked: bool) -> None:  # noqa: FBT001
    if asked:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"sessile {version('sessile')}")
        raise typer.Exit


@app.callback()
def _sessile(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Say which version it is."
        ),
    ] = False,
) -> None:
    """Sessile: a session server for AI agents and chat assistants.

    [bold]sessile serve[/bold]                    the demo assistants, on http://localhost:3006
    [bold]sessile serve app.py[/bold]             the assistants of your own file
    [bold]sessile work app.py[/bold]              only their turns, for nodes that share a database
    [bold]sessile chat[/bold]                     talk to it from another terminal
    [bold]echo Hello | sessile chat[/bold]        the same from a script
    [bold]sessile log ses_… --follow[/bold]       what happens in a session, as it happens
    [bold]sessile users add TENANT USER[/bold]    let somebody sign in with a password
    [bold]sessile doctor[/bold]                   hold a database against its own log
    """


@app.command()
@with_settings
def serve(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE.py[:NAME]",
            help="A Python file, and which of its assistants or servers; without NAME all its"
            " assistants, and without FILE the demo.",
            show_default=False,
        ),
    ] = None,
    *,
    no_run: Annotated[
        bool, typer.Option("--no-run", help="Leave all turns to other nodes, as --role surfaces.")
    ] = False,
    **given: Any,
) -> None:
    """Serve the assistants of a Python file, or the demo.

    [bold]sessile serve[/bold]                      the demo assistants
    [bold]sessile serve app.py --port 8000[/bold]   every Assistant at the top level of app.py
    [bold]sessile serve app.py:support[/bold]       one of them

    Each setting is a flag and a variable; the flag wins.
    Ctrl-C lets the turns that run come to their end; what has not ended
    by then goes on at the next start.
    """
    from sessile.cli.serve import serve as run  # noqa: PLC0415

    if no_run:
        given["role"] = "surfaces"
    run(target, given)


@app.command()
@with_settings
def work(
    target: Annotated[
        str | None,
        typer.Argument(metavar="FILE.py[:NAME]", help="As in `serve`.", show_default=False),
    ] = None,
    **given: Any,
) -> None:
    """Run the turns that nodes of the same database accept, and serve no API.

    [bold]sessile work app.py --store-url postgresql://sessile@db/sessile[/bold]

    /healthz, /readyz and /metrics are on a free port, or the one that is given.
    """
    from sessile.cli.serve import work as run  # noqa: PLC0415

    run(target, given)


@app.command()
def chat(
    *,
    url: UrlOption = URL,
    token: TokenOption = None,
    user: UserOption = None,
    session: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Go on in this session.", show_default=False),
    ] = None,
    assistant: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Whom to talk to; the server's first.", show_default=False
        ),
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Talk to an assistant, on a terminal or through a pipe.

    [bold]sessile chat[/bold]                           a new session with the first assistant
    [bold]sessile chat --session ses_…[/bold]           an old one; what it waits for is shown
    [bold]echo "Look up order 7" | sessile chat[/bold]  one message a line; replies on stdout

    /help in the chat lists its commands. Ctrl-C stops the turn that runs,
    and leaves where none does. A lost connection is made again, and nothing
    that was said meanwhile is missed.
    """
    from sessile.cli.chat import Asked  # noqa: PLC0415
    from sessile.cli.chat import chat as run  # noqa: PLC0415

    run(
        Asked(
            url=url,
            token=token,
            user=user,
            session_id=session,
            assistant=assistant,
            data_dir=read_settings(os.environ, {"data_dir": data_dir}).data_dir,
        )
    )


@app.command()
def log(
    session: SessionArgument,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows.")] = False,
    as_json: JsonOption = False,
    after: Annotated[int, typer.Option(min=0, metavar="SEQ", help="Entries behind this one.")] = 0,
    url: UrlOption = URL,
    token: TokenOption = None,
    user: UserOption = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Read the database in this directory, and ask no server.",
            show_default=False,
        ),
    ] = None,
    store_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Read the database at postgresql://…, and ask no server.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show a session's log: every message, tool call and turn, in the order it happened.

    [bold]sessile log ses_… --follow[/bold]                 as it happens
    [bold]sessile log ses_… --json | jq .kind[/bold]        for programs: an entry a line
    [bold]sessile log ses_… --data-dir sessile-data[/bold]  without a server
    [bold]sessile log ses_… --store-url postgresql://sessile@db/sessile[/bold]
    """
    from sessile.cli.log import Asked  # noqa: PLC0415
    from sessile.cli.log import log as run  # noqa: PLC0415

    run(
        Asked(
            session_id=session,
            url=url if data_dir is None and store_url is None else None,
            token=token,
            user=user,
            settings=database(data_dir, store_url or "sqlite"),
            after=after,
            follow=follow,
            as_json=as_json,
        )
    )


@app.command()
def migrate(*, data_dir: DataDirOption = None, store_url: StoreUrlOption = None) -> None:
    """Bring a database to this version's schema; `serve` does the same when it starts."""
    from sessile.cli.migrate import migrate as run  # noqa: PLC0415

    run(database(data_dir, store_url))


@app.command()
def restored(*, data_dir: DataDirOption = None, store_url: StoreUrlOption = None) -> None:
    """Say that a database was put back: no reader goes on with what is lost.

    Run it once after a restore from a backup, or a failover that lost commits,
    while no node runs. Entries that come from then on have the seqs of those
    that were lost: so whoever read the log before is told to start again from
    a snapshot. It adds 1 to the database's epoch and changes nothing else.
    """
    from sessile.cli.restored import restored as run  # noqa: PLC0415

    run(database(data_dir, store_url))


@app.command()
def erase(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", show_default=False)],
    user: Annotated[str, typer.Argument(metavar="USER", show_default=False)],
    *,
    data_dir: DataDirOption = None,
    store_url: StoreUrlOption = None,
) -> None:
    """Remove everything of a user: sessions, forks of them, keys and credentials.

    Nodes may go on using a PostgreSQL database meanwhile. Of a server on
    SQLite that runs, ask it: DELETE /v1/users/USER. What is cut off is gone
    on with, by the next node that starts.
    """
    from sessile.cli.erase import erase as run  # noqa: PLC0415

    run(database(data_dir, store_url), tenant, user)


@app.command()
def doctor(
    *,
    data_dir: DataDirOption = None,
    store_url: StoreUrlOption = None,
    sessions: Annotated[
        int, typer.Option(min=1, metavar="N", help="At most so many; by chance, if there are more.")
    ] = 10_000,
    as_json: JsonOption = False,
) -> None:
    """Hold a database against its own log; it changes nothing.

    It says what it looked at, and how many. It may be run beside servers.
    Of PostgreSQL it also says where a crash would lose what was acknowledged,
    and whether there are connections enough.
    The exit code is 1 where something does not hold.
    """
    from sessile.cli.doctor import doctor as run  # noqa: PLC0415

    run(database(data_dir, store_url), sessions_max=sessions, as_json=as_json)


app.command()(verify)
