"""Two charts from the figures: `python -m bench.peers.plot FIGURES.json CHARTS.svg` (extra
`bench`)."""

import json
import re
import sys
from pathlib import Path

from matplotlib.figure import Figure

NTH = re.compile(r"peer: n-th turn, n = ([\d,]+)")


def main(source: Path, target: Path) -> None:
    found: dict[str, dict[str, float]] = {}
    for figure in json.loads(source.read_text())["figures"]:
        found.setdefault(figure["section"], {})[figure["name"]] = figure["value"]
    drawing = Figure(figsize=(11, 4), layout="constrained")
    bars, lines = drawing.subplots(1, 2)
    shown = [name for name, each in found.items() if "peer, 64 callers: turns" in each]
    for place, who in enumerate(("peer", "sessile")):
        rates = [found[name][f"{who}, 64 callers: turns"] for name in shown]
        label = "the peer" if who == "peer" else "Sessile beside it, in the same run"
        heights = [number + (place - 0.5) * 0.4 for number in range(len(shown))]
        bars.barh(heights, rates, height=0.38, label=label)
    bars.set(title="Turns a second, 64 callers, one core", xlabel="a second", xscale="log")
    bars.set_yticks(range(len(shown)), shown)
    bars.invert_yaxis()
    bars.grid(visible=True, axis="x", alpha=0.3)
    bars.legend(loc="lower right")
    for name, each in found.items():
        _line(name, {key: value for key, value in each.items() if NTH.fullmatch(key)}, lines)
    ours = [each for each in found.values() if "sessile: n-th turn, n = 1,000" in each]
    if ours:
        mine = {key.replace("sessile", "peer"): value for key, value in ours[0].items()}
        _line("Sessile", {key: value for key, value in mine.items() if NTH.fullmatch(key)}, lines)
    lines.set(title="The n-th turn of one session", xlabel="n", ylabel="p50, ms", yscale="log")
    lines.grid(visible=True, alpha=0.3)
    lines.legend()
    drawing.savefig(target)


def _line(name: str, values: dict[str, float], axes: object) -> None:
    points = [(int(key.rpartition(" ")[2].replace(",", "")), each) for key, each in values.items()]
    if points:
        axes.semilogx(*zip(*sorted(points), strict=True), marker="o", label=name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
