"""Two charts from the figures: `python -m bench.peers.plot FIGURES.json CHARTS.svg` (extra
`bench`)."""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

NTH = re.compile(r"(peer|sessile): n-th turn, n = ([\d,]+)")
RATE = "{}, 64 callers: turns"


def main(source: Path, target: Path) -> None:
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for figure in json.loads(source.read_text())["figures"]:
        found[figure["section"]][figure["name"]] = figure["value"]
    drawing = Figure(figsize=(10, 4.5), layout="constrained")
    bars, lines = drawing.subplots(1, 2)
    _rates(bars, {name: each for name, each in found.items() if RATE.format("peer") in each})
    _nth(lines, found)
    for axes in (bars, lines):
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3, frameon=False)
    drawing.savefig(target)


def _rates(axes: Any, found: dict[str, dict[str, float]]) -> None:
    for offset, who, label in ((-0.2, "peer", "the peer"), (0.2, "sessile", "Sessile beside it")):
        heights = [place + offset for place in range(len(found))]
        rates = [each[RATE.format(who)] for each in found.values()]
        axes.barh(heights, rates, height=0.38, label=label)
    axes.set(title="Turns a second, 64 callers, one core", xlabel="a second", xscale="log")
    axes.set_xlim(left=1)
    axes.set_yticks(range(len(found)), found)
    axes.invert_yaxis()


def _nth(axes: Any, found: dict[str, dict[str, float]]) -> None:
    """Sessile's are the median of those beside each peer."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, figures in found.items():
        for key, value in figures.items():
            if match := NTH.fullmatch(key):
                who = name if match[1] == "peer" else "sessile"
                values[who][int(match[2].replace(",", ""))].append(value)
    for who in (*found, "sessile"):
        points = sorted((place, median(each)) for place, each in values[who].items())
        if points:
            axes.loglog(*zip(*points, strict=True), marker="o", label=who)
    axes.set(title="The n-th turn of one session", xlabel="n", ylabel="ms")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
