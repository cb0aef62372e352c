"""`sessile doctor`: holds a database against its own log, and says what it looked at."""

import asyncio
import json
import stat
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from sessile.cli.broken import looking_at
from sessile.cli.failure import FAILED, CommandFailed
from sessile.cli.plain import one_line
from sessile.core.audit import Check, Fault
from sessile.settings import Settings, without_password
from sessile.wiring import open_archive

DEV_TOKENS_MODE = 0o600
NEXT = (
    "Each says what helps, or names what is wrong: keep a copy of the database before you put"
    " a backup in its place."
)


def doctor(settings: Settings, *, sessions_max: int, as_json: bool) -> None:
    """Raises CommandFailed with the code 1 where something does not hold."""
    with looking_at(settings):
        found = asyncio.run(_database(settings, sessions_max))
    checks = [*found, _dev_tokens(settings.data_dir)]
    faults = sum(len(check.faults) + check.faults_unlisted for check in checks)
    if as_json:
        wire = {
            "data_dir": str(settings.data_dir),
            "store_url": without_password(settings.store_url),
            "ok": faults == 0,
            "checks": [_wire(check) for check in checks],
        }
        sys.stdout.write(json.dumps(wire, indent=2, ensure_ascii=False) + "\n")
    else:
        _print(checks)
    if faults:
        many = "1 fault" if faults == 1 else f"{faults} faults"
        raise CommandFailed(f"{many}; nothing was changed. {NEXT}", code=FAILED)


async def _database(settings: Settings, sessions_max: int) -> Iterable[Check]:
    async with open_archive(settings) as archive:
        with _progress() as progress:
            task = progress.add_task("sessions", total=None)
            return await archive.check(
                sessions_max=sessions_max,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )


def _progress() -> Progress:
    """On stderr, and only where somebody looks."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _dev_tokens(directory: Path) -> Check:
    found = Check("tokens", "dev-tokens can be read by its owner alone", "files")
    path = directory / "dev-tokens"
    if not path.exists():
        return found
    found.checked = 1
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & ~DEV_TOKENS_MODE:
        found.fault(f"{path} has the mode {mode:04o}: chmod 600 {path}")
    return found


def _print(checks: Iterable[Check]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for check in checks:
        bad = bool(check.faults)
        line = Text("✗ " if bad else "✓ ", style="red" if bad else "green")
        line.append(f"{check.name:<10} ", style="bold default")
        line.append(f"{check.about}: {check.checked:,} {check.unit}", style="default not bold")
        console.print(line)
        for fault in check.faults:
            console.print(Text(f"    {_where(fault)}{one_line(fault.what)}", style="red"))
        if check.faults_unlisted:
            console.print(Text(f"    … and {check.faults_unlisted} more", style="red"))


def _where(fault: Fault) -> str:
    places = [each for each in (fault.tenant_id, fault.session_id, fault.turn_id) if each]
    return f"{one_line(' '.join(places))}: " if places else ""


def _wire(check: Check) -> Mapping[str, Any]:
    return {
        "check": check.name,
        "about": check.about,
        "checked": check.checked,
        "unit": check.unit,
        "ok": not check.faults,
        "faults": [
            {
                "tenant_id": fault.tenant_id,
                "session_id": fault.session_id,
                "turn_id": fault.turn_id,
                "what": fault.what,
            }
            for fault in check.faults
        ],
        "faults_unlisted": check.faults_unlisted,
    }
