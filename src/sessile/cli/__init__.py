"""The command line: serve, chat, log, migrate, doctor.

A command imports what it needs when it runs, so that `--help` is quick.
"""

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from sessile.cli.failure import CommandFailed
from sessile.cli.flags import with_settings
from sessile.cli.plain import lines

app = typer.Typer(
    name="sessile",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Raises SystemExit with its exit code."""
    try:
        app(arguments)
    except CommandFailed as failure:
        sys.stderr.write(f"sessile: {lines(failure.message)}\n")
        raise SystemExit(failure.code) from None


def _version(asked: bool) -> None:  # noqa: FBT001
    if asked:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"sessile {version('sessile')}")
        raise typer.Exit


@app.callback()
def _sessile(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """A session server for AI agents and chat assistants."""


@app.command()
@with_settings
def serve(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[FILE.py[:NAME]]", help="...", show_default=False),
    ] = None,
    **given: Any,
) -> None:
    """Serve the assistants of a Python file, or the demo."""
    from sessile.cli.serve import serve as run  # noqa: PLC0415

    run(target, given)


@app.command()
def migrate() -> None:
    """x"""
