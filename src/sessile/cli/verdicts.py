"""What `sessile verify` prints."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sessile.cli.failure import CommandFailed
from sessile.cli.plain import cut, one_line

if TYPE_CHECKING:
    from sessile.verify.check import Result
    from sessile.verify.history import History, Op

COLOURS = {"found": "red", "passed": "green"}
WIDE = 100
FINDINGS_SHOWN = 3
LINE_CHARS_MAX = 300


def print_results(kept: "History", results: "Sequence[Result]") -> None:
    """What was found comes last, where a terminal is when the command has ended."""
    from sessile.verify.report import summary  # noqa: PLC0415

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    wide = console.width >= WIDE
    for name in ("check", "verdict", "times looked", *(["a fault would be that"] if wide else [])):
        table.add_column(name, justify="right" if name == "times looked" else "left")
    for result in results:
        if result.verdict != "not testable":
            verdict = Text(result.verdict, style=COLOURS[result.verdict])
            cells = (result.check.name, verdict, f"{result.trials:,}", result.check.about)
            table.add_row(*cells[: len(table.columns)])
    console.print(table)
    _print_untested(console, results)
    ops = {op.number: op for op in kept.ops}
    for result in results:
        if result.findings:
            _print_found(console, result, ops)
    what = one_line(f"{kept.run.target} at {kept.run.url}: {summary(results)}.")
    console.print(Text(f"\n{what}"), soft_wrap=True)


def _print_untested(console: Console, results: "Sequence[Result]") -> None:
    untested: dict[str, list[str]] = {}
    for result in results:
        if result.verdict == "not testable":
            untested.setdefault(result.why, []).append(result.check.name)
    if untested:
        console.print("\nnot tested, which is not passed:")
    for why, names in untested.items():
        console.print(Text(f"  {', '.join(names)}: {why}", style="dim"), soft_wrap=True)


def _print_found(console: Console, result: "Result", ops: "Mapping[int, Op]") -> None:
    check = result.check
    console.print(f"\n[red bold]{check.name}[/red bold]: {check.about}", soft_wrap=True)
    for finding in result.findings[:FINDINGS_SHOWN]:
        what = cut(one_line(finding.what), 2 * LINE_CHARS_MAX)
        console.print(Text(f"  {what}"), soft_wrap=True)
        for number in finding.ops:
            op = ops[number]
            came = f" -> {op.status}" if op.status else ""
            line = f"    #{number} at {op.began:.2f} s, {op.kind} by {op.client}: {asked(op)}{came}"
            line = cut(one_line(line), LINE_CHARS_MAX)
            console.print(Text(line, style="dim"), soft_wrap=True)
    hidden = len(result.findings) + result.more - FINDINGS_SHOWN
    if hidden > 0:
        console.print(f"  and {hidden} more; --html FILE shows them with requests and replies")


def print_probe(name: str) -> None:
    from sessile.verify import loading  # noqa: PLC0415

    probes = loading.probes()
    if name not in probes:
        raise CommandFailed(f"no probe is called {name}; there are {', '.join(probes)}")
    sys.stdout.write(probes[name].read_text(encoding="utf-8"))


def print_list() -> None:
    from sessile.verify import loading, runner  # noqa: PLC0415
    from sessile.verify.checker import declared  # noqa: PLC0415

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for name in ("check", "class", "tier", "what it finds"):
        table.add_column(name)
    for each in declared():
        table.add_row(each.name, each.kind, each.tier, each.about)
    console.print(table)
    limits = ", ".join(f"{name}={value:g}" for name, value in runner.LIMITS.items())
    console.print(f"\nlimits: {limits}\nmappings: {', '.join(loading.shipped())}")
    console.print(f"probes: {', '.join(loading.probes())}")


def asked(op: "Op") -> str:
    what = op.request.partition("\n")[0] or op.reply.replace("\n", " ")[:90]
    return cut(one_line(what), LINE_CHARS_MAX)


def answered(op: "Op") -> str:
    return str(op.status or one_line(op.reply[:90]) or op.outcome)
