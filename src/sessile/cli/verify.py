"""`sessile verify`: holds any chat backend against what a session promises."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from sessile.cli.failure import FAILED, CommandFailed
from sessile.cli.verdicts import answered, asked, print_list, print_probe, print_results

if TYPE_CHECKING:
    from sessile.verify.check import Result
    from sessile.verify.history import History, Kind
    from sessile.verify.hooks import Hook
    from sessile.verify.recorder import Recorder

UrlArgument = Annotated[str, typer.Argument(metavar="URL")]
MappingOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="How the backend is spoken to: a shipped one, or yours. Else it is recognised.",
        show_default=False,
    ),
]
TokensOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="WHO=TOKEN",
        help="A bearer token, or @FILE, of p; and again of q, who must not see what p has.",
        show_default=False,
    ),
]
OnlyOption = Annotated[
    list[str] | None, typer.Option(metavar="CHECK", help="This check's verdict; again for more.")
]
PartOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PART", help="Do this part of the workload; again for more."),
]
LimitOption = Annotated[
    list[str] | None, typer.Option(metavar="NAME=VALUE", help="A threshold; --list shows them.")
]
MessagesOption = Annotated[
    int, typer.Option(min=1, metavar="N", help="In the session that becomes long.")
]
SeedOption = Annotated[int, typer.Option(help="Of the workload's chance.")]
HistoryOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Keep all that was asked and answered.")
]
FromOption = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="Judge a history that was kept, again."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="The report as JSON on stdout.")]
JunitOption = Annotated[Path | None, typer.Option(metavar="FILE", help="And as JUnit XML.")]
HtmlOption = Annotated[Path | None, typer.Option(metavar="FILE", help="And as one page.")]
ProbeOption = Annotated[
    bool, typer.Option("--probe", help="The backend's agent is a probe, which says what it sees.")
]
ProbeFileOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Print the probe of a framework, to be put in place of an agent; --list names them.",
        show_default=False,
    ),
]
ListOption = Annotated[bool, typer.Option("--list", help="Show checks, limits, mappings.")]
RestartOption = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="Kills the server with -9 and starts it again; of this machine's only.",
        show_default=False,
    ),
]
PauseOption = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND",
        help="Pauses the process that answers at URL; of this machine's only, and with --resume.",
        show_default=False,
    ),
]
ResumeOption = Annotated[
    str | None,
    typer.Option(metavar="COMMAND", help="Lets it go on, in any case.", show_default=False),
]
OwnedOption = Annotated[
    bool, typer.Option("--i-own-this-server", help="It may be another machine's, and be loaded.")
]


def verify(
    *,
    url: UrlArgument = "http://localhost:3006",
    mapping: MappingOption = None,
    token: TokensOption = None,
    only: OnlyOption = None,
    part: PartOption = None,
    limit: LimitOption = None,
    messages: MessagesOption = 60,
    seed: SeedOption = 0,
    history: HistoryOption = None,
    from_: FromOption = None,
    as_json: JsonOption = False,
    junit: JunitOption = None,
    html: HtmlOption = None,
    restart: RestartOption = None,
    pause: PauseOption = None,
    resume: ResumeOption = None,
    probe: ProbeOption = False,
    probe_file: ProbeFileOption = None,
    listed: ListOption = False,
    owned: OwnedOption = False,
) -> None:
    """Hold a chat backend, any one, against what a session promises.

    [bold]sessile verify[/bold]                                           this machine's server
    [bold]sessile verify http://localhost:8000 --mapping agui[/bold]      another framework's
    [bold]sessile verify --html report.html --history run.jsonl[/bold]    with the evidence
    [bold]sessile verify --from run.jsonl[/bold]                          judged again

    It opens sessions of its own, writes, reads, cuts streams and asks as
    somebody else, and judges what was answered. What is reported, happened,
    and is shown with its requests and replies; what a mapping does not have
    is not testable, and has not passed. It takes about half a minute.

    The exit code is 0 where nothing was found, 1 where something was, 2 where
    the run could not be made.
    """
    if listed:
        print_list()
        return
    if probe_file is not None:
        print_probe(probe_file)
        return
    told = Console(stderr=True, highlight=False)
    kept, stopped = (_kept(from_), "") if from_ is not None else _played(
        url, mapping, token or [], limit or [], part or [], seed, messages, told, owned=owned,
        commands=_commands(restart, pause, resume), probe=probe,
    )  # fmt: skip
    results = _judged(kept, only or [], path=from_)
    _write(kept, results, history=history, junit=junit, html=html)
    if as_json:
        from sessile.verify.report import as_json as report  # noqa: PLC0415

        sys.stdout.write(report(kept, results))
    else:
        print_results(kept, results)
    _check(kept, results, stopped=stopped)


def _check(kept: "History", results: "Sequence[Result]", *, stopped: str) -> None:
    """That nothing was found says nothing where nothing was taken, or the server went away."""
    found = sum(result.verdict == "found" for result in results)
    if found:
        many = "1 check" if found == 1 else f"{found} checks"
        raise CommandFailed(f"{many} found something wrong", code=FAILED)
    if stopped:
        raise CommandFailed(f"{stopped}: what is not done is not tested")
    sends = [op for op in kept.ops if op.kind == "send"]
    begun = sends or [op for op in kept.ops if op.kind == "open"]
    if not any(op.ok for op in sends):
        last = begun[-1] if begun else None
        said = "" if last is None else f": {asked(last)} -> {answered(last)}"
        raise CommandFailed(f"no message was accepted, so that nothing was tested{said}")
    last = [op for op in kept.ops if op.kind not in ("event", "stream")][-1]
    if last.outcome == "unknown":
        raise CommandFailed(
            f"the server stopped answering: #{last.number} {asked(last)} -> {answered(last)}"
        )


def _played(
    url: str, name: str | None, tokens: Sequence[str], limits: Sequence[str],
    parts: Sequence[str], seed: int, messages: int, told: Console, *, owned: bool,
    commands: Mapping[str, str], probe: bool,
) -> "tuple[History, str]":  # fmt: skip
    """And why it was stopped, if it was."""
    from sessile.verify import loading, mapping, runner  # noqa: PLC0415
    from sessile.verify.workload import NAMES  # noqa: PLC0415

    try:
        runner.check_address(url, owned=owned, hooks=commands)
        target = loading.load(name or asyncio.run(runner.recognise(url)))
        target = runner.with_tokens(target, _tokens(tokens))
        target = mapping.with_probe(target) if probe else target
        unknown = [name for name in parts if name not in NAMES]
        if unknown:
            raise CommandFailed(f"no part is called {unknown[0]}; there are {', '.join(NAMES)}")
        known = {**runner.LIMITS, **_limits(limits)}
        plan = runner.Plan(
            url=url, target=target, limits=known, seed=seed, messages_long=messages, only=parts,
            hooks=_hooks(commands, url, known["restart_seconds"]),
        )  # fmt: skip
        with told.status(escape(f"{target.name} at {runner.shown(url)}")) as status:
            recorders: list[Recorder] = []
            playing = runner.play(
                plan, told=lambda part: status.update(f"{part} is done"), recorded=recorders.append
            )
            try:
                return asyncio.run(asyncio.wait_for(playing, known["run_seconds"])), ""
            except KeyboardInterrupt:
                if not recorders:
                    raise
                return recorders[0].history(), "it was stopped midway"
            except TimeoutError:
                why = f"it had not ended after {known['run_seconds']:g} s, its run_seconds"
                return recorders[0].history(), why
    except (runner.CannotVerify, mapping.BadMapping) as error:
        raise CommandFailed(str(error)) from None


def _commands(restart: str | None, pause: str | None, resume: str | None) -> dict[str, str]:
    """By the name of their hook."""
    if (pause is None) != (resume is None):
        raise CommandFailed("--pause and --resume go together: what is paused is to go on")
    given = {"restart": restart, "pause": pause, "resume": resume}
    return {name: command for name, command in given.items() if command is not None}


def _hooks(commands: Mapping[str, str], url: str, seconds_max: float) -> "dict[Kind, Hook]":
    from sessile.verify import hooks  # noqa: PLC0415

    known: dict[Kind, type[hooks.ByCommand]] = {
        "restart": hooks.Restart, "pause": hooks.Pause, "resume": hooks.Resume,
    }  # fmt: skip
    return {
        name: of(command=commands[name], url=url, seconds_max=seconds_max)
        for name, of in known.items()
        if name in commands
    }


def _kept(path: Path) -> "History":
    from sessile.verify.history import NoHistory, read  # noqa: PLC0415

    try:
        with path.open(encoding="utf-8") as lines:
            return read(lines)
    except (NoHistory, OSError) as error:
        raise CommandFailed(f"{path}: {error}") from None


def _judged(history: "History", only: Sequence[str], *, path: Path | None) -> "Sequence[Result]":
    from sessile.verify.check import CHECKS  # noqa: PLC0415
    from sessile.verify.checker import judge  # noqa: PLC0415
    from sessile.verify.history import NoHistory  # noqa: PLC0415

    unknown = [name for name in only if name not in CHECKS]
    if unknown:
        raise CommandFailed(f"no check is called {unknown[0]}; `sessile verify --list` names them")
    try:
        return judge(history, only=only)
    except NoHistory as error:
        raise CommandFailed(f"{path}: {error}") from None


def _write(
    kept: "History", results: "Sequence[Result]", *, history: Path | None, junit: Path | None,
    html: Path | None,
) -> None:  # fmt: skip
    from sessile.verify import history as histories  # noqa: PLC0415
    from sessile.verify.page import as_html  # noqa: PLC0415
    from sessile.verify.report import as_junit  # noqa: PLC0415

    try:
        if history is not None:
            with history.open("w", encoding="utf-8") as to:
                histories.write(kept, to)
        if junit is not None:
            junit.write_text(as_junit(kept, results), encoding="utf-8")
        if html is not None:
            html.write_text(as_html(kept, results), encoding="utf-8")
    except OSError as error:
        raise CommandFailed(str(error)) from None


def _limits(given: Sequence[str]) -> dict[str, float]:
    from sessile.verify.runner import LIMITS  # noqa: PLC0415

    limits: dict[str, float] = {}
    for name, value in _pairs(given, "--limit"):
        try:
            limits[name] = float(value)
        except ValueError:
            raise CommandFailed(f"--limit {name}: {value!r} is no number") from None
        if not 0 < limits[name] < float("inf"):
            raise CommandFailed(f"--limit {name}: {value!r} is no time and no ratio")
        if name not in LIMITS:
            raise CommandFailed(f"no limit is called {name}; there are {', '.join(LIMITS)}")
    return limits


def _tokens(given: Sequence[str]) -> dict[str, str]:
    try:
        return {
            who: Path(token[1:]).read_text(encoding="utf-8").strip() if token[0] == "@" else token
            for who, token in _pairs(given, "--token")
        }
    except OSError as error:
        raise CommandFailed(f"--token: {error}") from None


def _pairs(given: Sequence[str], flag: str) -> list[tuple[str, str]]:
    pairs = [each.partition("=") for each in given]
    for name, mark, value in pairs:
        if not (name and mark and value):
            raise CommandFailed(f"{flag} is NAME=VALUE")
    return [(name, value) for name, _, value in pairs]
