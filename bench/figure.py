# SPDX-License-Identifier: Apache-2.0
"""The figure of a peers result: ``python bench/figure.py bench/results/FILE.json`` draws FILE.png, a bar a contestant.

Bars are ratios to torch eager, the same measure for a net of 20 microseconds and one of a second; milliseconds and
errors stand on them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from contestants import REFERENCE

COLOURS = {"dlcore": "#0b6e99", "torch_eager": "#9a9a9a", "numpy": "#c9a227"}
BAR = 0.26  # inches


def draw(path: Path) -> Path:
    """Draw the results in a JSON file; the path of the PNG beside it."""
    values = json.loads(Path(path).read_text())
    rows = values["rows"]
    names = list(dict.fromkeys(r["row"] for r in rows))
    figure = Figure(figsize=(9, 1.6 + BAR * (len(rows) + len(names))))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _bars(axes, rows, names)
    machine = values["machine"]
    axes.set_title(
        f"Training steps: how many times as fast as {REFERENCE} (bars: median of the rounds; label: time, error)",
        loc="left", fontsize=10,
    )  # fmt: skip
    axes.set_xlabel(
        f"{machine['processor']}, {machine['threads']} threads, {machine['instruction_set']}, {values['date']}\n"
        f"{values['command']}",
        fontsize=8, color="#555555",
    )  # fmt: skip
    target = Path(path).with_suffix(".png")
    figure.savefig(target, dpi=150, bbox_inches="tight")
    return target


def _bars(axes, rows, names) -> None:
    y, ticks = 0.0, []
    widest = max(r["ratio"] for r in rows)
    for name in names:
        group = [r for r in rows if r["row"] == name]
        ticks.append(y + (len(group) - 1) / 2)
        for r in group:
            axes.barh(y, r["ratio"], height=0.85, color=COLOURS.get(r["contestant"], "#666666"))
            label = f"{r['contestant']}  {_time(r['ms'])}, {r['error']:.0e}"
            axes.text(r["ratio"] + 0.01 * widest, y, label, va="center", fontsize=8)
            y += 1
        y += 0.8
    axes.axvline(1.0, color="#444444", linewidth=0.8)
    axes.set_yticks(ticks, names, fontsize=9)
    axes.set_xlim(0, 1.35 * widest)
    axes.invert_yaxis()
    axes.tick_params(left=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _time(ms: float) -> str:
    """Three digits with a unit.

    >>> _time(0.0381), _time(12.345)
    ('38.1 us', '12.3 ms')
    """
    return f"{1e3 * ms:.3g} us" if ms < 1 else f"{ms:.3g} ms"


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))
