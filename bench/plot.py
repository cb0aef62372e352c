"""Two charts from the figures: `python -m bench.plot FIGURES.json CHARTS.svg` (extra `bench`)."""

import json
import re
import sys
from pathlib import Path

from matplotlib.figure import Figure

LINES = {
    # Title and axes of a chart; its lines, by what they show: where x stands in a figure's name.
    ("Requests a second over HTTP, one core", "callers at once", "a second", "http"): {
        "full durable turns": r"(\d+) callers?: turns",
        "floor: one commit a request": r"(\d+) callers?: floor, a commit a request",
        "floor: JSON alone": r"(\d+) callers?: floor, JSON",
    },
    ("The n-th turn of one session", "n", "p50, ms", "n-th turn"): {
        "echo agent": r"echo agent: p50 at n = ([\d,]+)",
        "agent that reads": r"agent that reads: p50 at n = ([\d,]+)",
    },
}


def main(source: Path, target: Path) -> None:
    figures = json.loads(source.read_text())["figures"]
    drawing = Figure(figsize=(10, 4), layout="constrained")
    for axes, ((title, x_label, y_label, section), lines) in zip(
        drawing.subplots(1, len(LINES)), LINES.items(), strict=True
    ):
        for label, pattern in lines.items():
            points = sorted(
                (int(found[1].replace(",", "")), figure["value"])
                for figure in figures
                if figure["section"] == section and (found := re.fullmatch(pattern, figure["name"]))
            )
            axes.semilogx(*zip(*points, strict=True), marker="o", label=label)
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
        axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    drawing.savefig(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
