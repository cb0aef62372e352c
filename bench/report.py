"""What was measured: figures, held against what is aimed at, as a table and as JSON."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure should reach."""

    bound: Literal["at least", "at most"]
    value: float

    def met(self, value: float) -> bool:
        return value >= self.value if self.bound == "at least" else value <= self.value

    def __str__(self) -> str:
        return f"{self.bound} {shown(self.value)}"


def at_least(value: float) -> Aim:
    return Aim("at least", value)


def at_most(value: float) -> Aim:
    return Aim("at most", value)


@dataclass(frozen=True, slots=True)
class Figure:
    section: str
    name: str
    value: float
    unit: str
    aim: Aim | None = None


@dataclass(slots=True)
class Report:
    """Figures in the order in which they were measured; progress goes to `say`."""

    directory: Path
    """For files: on a disk."""
    machine: dict[str, Any]
    command: str
    say: Callable[[str], None]
    figures: list[Figure] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    """What was not measured, and why."""

    def add(
        self, section: str, name: str, value: float, unit: str, aim: Aim | None = None
    ) -> float:
        self.figures.append(Figure(section, name, value, unit, aim))
        return value

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        begun = perf_counter()
        self.say(f"{name} …")
        yield
        self.say(f"{name}: {perf_counter() - begun:.0f} s")

    def value(self, section: str, name: str) -> float:
        return next(f.value for f in self.figures if (f.section, f.name) == (section, name))

    def write_json(self, path: Path) -> None:
        path.write_text(
            json.dumps(
                {
                    "command": self.command,
                    "machine": self.machine,
                    "figures": [
                        {**asdict(each), "met": each.aim and each.aim.met(each.value)}
                        for each in self.figures
                    ],
                    "absent": self.absent,
                },
                indent=1,
            )
            + "\n"
        )

    def table(self) -> str:
        rows = [("", "figure", "value", "", "aim", "")]
        section = ""
        for each in self.figures:
            aim = each.aim
            verdict = "" if aim is None else "met" if aim.met(each.value) else "MISSED"
            first = each.section if each.section != section else ""
            section = each.section
            rows.append((first, each.name, shown(each.value), each.unit, str(aim or ""), verdict))
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        lines = [
            "  ".join(
                cell.rjust(width) if column == 2 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        about = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        absent = [f"{name}: not measured: {why}" for name, why in self.absent.items()]
        return "\n".join([about, "", *lines, *absent])


def shown(value: float) -> str:
    """Three digits that count, thousands apart."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def middle(values: list[float]) -> float:
    return median(values)
