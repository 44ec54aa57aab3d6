# SPDX-License-Identifier: Apache-2.0
"""The figures of a peers result: ``python bench/figure.py bench/results/FILE.json`` draws them beside it.

FILE.png has a bar a contestant: how many times as fast as the reference, on a logarithmic axis that begins at 1x, so
that twice as fast and half as fast are equally long. FILE_floor.png has every time over the row's floor.
Both show float32; a FILE_bf16.png is drawn where several contestants compute in bf16.
"""

from __future__ import annotations

import json
import math
import sys
import textwrap
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from contestants import REFERENCES
from leads import OURS, by_row

COLOURS = {
    **dict.fromkeys(OURS.values(), "#0b6e99"), "dlcore_bf16x3": "#5fa3bd", "torch_eager": "#8c8c8c", "torch_tuned": "#e07b39",
    "torch_compile": "#b5432a", "torch_compile_max": "#7a2d1c", "torch_bf16": "#8c8c8c", "torch_compile_bf16": "#b5432a",
    "jax": "#5b8c5a", "tensorflow": "#c77cae", "onnxruntime": "#7d6bb0", "sklearn": "#6fb7c9", "numpy": "#c9a227",
}  # fmt: skip
MARKERS = {"torch_eager": "s", "torch_tuned": "D", "torch_compile": "^", "torch_compile_max": "p", "jax": "v",
           "tensorflow": "P", "onnxruntime": "X", "sklearn": "<", "numpy": ">"}  # fmt: skip
INK, FAINT = "#222222", "#dddddd"
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
FINE, FEW = (0.7, 1.5, 3), 5  # more of them on an axis of less than so many powers of two
BAR, GAP = 0.2, 0.9  # inches of a bar; bars between two rows
COLUMN_BARS, MOST_COLUMNS = 60, 3  # a column holds so many bars before another begins
TITLES = {"train": "Training steps", "infer": "Predictions", "ops": "Single ops"}


def draw(path: Path) -> list[Path]:
    """Draw the results in a JSON file; the paths of the PNGs beside it."""
    path = Path(path)
    values = json.loads(path.read_text())
    drawn = []
    for precision, reference in REFERENCES.items():
        rows = [r for r in values["rows"] if r["precision"] == precision and r["ratio"]]
        if len({r["contestant"] for r in rows}) > 1:
            suffix = "" if precision == "float32" else f"_{precision}"
            drawn.append(_saved(_ratios(values, rows, precision, reference), path, suffix))
    rows = [r for r in values["rows"] if r.get("floor_ms")]
    if rows:
        drawn.append(_saved(_floors(values, rows), path, "_floor"))
    return drawn


def _saved(figure: Figure, path: Path, suffix: str) -> Path:
    target = path.with_name(f"{path.stem}{suffix}.png")
    FigureCanvasAgg(figure)
    figure.savefig(target, dpi=150, bbox_inches="tight", pad_inches=0.2, facecolor="white")
    return target


# ------------------------------------------------------------------------------------------------------- ratios
def _ratios(values, rows, precision: str, reference: str) -> Figure:
    groups = {name: sorted(group, key=lambda r: -r["ratio"]) for name, group in by_row(rows).items()}
    columns = _columns(groups)
    bars = max(sum(len(groups[n]) + GAP for n in names) for names in columns)
    figure = Figure(figsize=(9 if len(columns) == 1 else 7 * len(columns), BAR * bars + 1.4), layout="constrained")
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    low, high = (f(0.0, *(math.log2(r["ratio"]) for r in rows)) for f in (min, max))
    span = max(high - low, 1.0)
    for axes, names in zip(panels, columns, strict=True):
        axes.set_xlim(low - 0.03 * span, high + (0.2 + 0.12 * len(columns)) * span)
        axes.set_ylim(bars - 0.3, -0.9)
        _bars(axes, {name: groups[name] for name in names}, span)
        _scale(axes)
    title = f"{TITLES[values.get('action', 'train')]}: times as fast as {_words(reference)}, {precision}"
    _frame(figure, values, title, "Bars: median of the rounds. Labels: time, relative error from float64.")
    return figure


def _columns(groups: dict) -> list[list[str]]:
    """Names by column, columns of about the same height."""
    heights = {name: len(group) + GAP for name, group in groups.items()}
    total = sum(heights.values())
    count = min(MOST_COLUMNS, math.ceil(total / COLUMN_BARS))
    columns: list[list[str]] = [[] for _ in range(count)]
    done = 0.0
    for name, height in heights.items():
        columns[min(count - 1, int((done + height / 2) / total * count))].append(name)
        done += height
    return [names for names in columns if names]


def _bars(axes, groups: dict, span: float) -> None:
    y, ticks = 0.0, []
    for group in groups.values():
        ticks.append(y + (len(group) - 1) / 2)
        for r in group:
            length, ours = math.log2(r["ratio"]), r["contestant"] in OURS.values()
            axes.barh(y, length, height=0.82, color=_colour(r["contestant"]))
            label = f"{_words(r['contestant'])}  {time(r['ms'])}, {r['error']:.0e}"
            weight = "bold" if ours else "normal"
            axes.text(
                max(length, 0) + 0.012 * span, y, label, va="center", fontsize=8, color=INK, fontweight=weight,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )  # fmt: skip
            y += 1
        y += GAP
    axes.axvline(0.0, color=INK, linewidth=1.0)
    axes.set_yticks(ticks, map(_words, groups), fontsize=9)


def _scale(axes) -> None:
    """A logarithmic axis, in powers of two, with ticks that people read."""
    low, high = axes.get_xlim()
    ticks = [t for t in (*TICKS, *(FINE if high - low < FEW else ())) if low <= math.log2(t) <= high]
    axes.set_xticks([math.log2(t) for t in ticks], [f"{t:g}x" for t in ticks])
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(left=False, bottom=False, labelsize=9)
    for side in axes.spines.values():
        side.set_visible(False)


# ------------------------------------------------------------------------------------------------------- floors
def _floors(values, rows) -> Figure:
    groups = by_row(rows)
    figure = Figure(figsize=(10.5, 0.3 * len(groups) + 1.6), layout="constrained")
    axes = figure.subplots()
    for name in sorted({r["contestant"] for r in rows}, key=lambda n: (n not in OURS.values(), n)):
        points = [(math.log2(r["ms"] / r["floor_ms"]), y) for y, group in enumerate(groups.values()) for r in group
                  if r["contestant"] == name]  # fmt: skip
        marker, size, order = ("o", 110, 4) if name in OURS.values() else (MARKERS.get(name, "o"), 40, 3)
        axes.scatter(*zip(*points), marker=marker, s=size, zorder=order, color=_colour(name), label=_words(name), linewidths=0)
    times = [0.0, *(math.log2(r["ms"] / r["floor_ms"]) for r in rows)]
    span = max(times) - min(times)
    for y, group in enumerate(groups.values()):
        floor = time(group[0]["floor_ms"])
        axes.text(min(times) - 0.03 * span, y, floor, ha="right", va="center", fontsize=8, color="#666666")
    axes.axvline(0.0, color=INK, linewidth=1.0)
    axes.set_xlim(min(times) - 0.14 * span, max(times) + 0.03 * span)
    axes.set_ylim(len(groups) - 0.5, -0.6)
    axes.set_yticks(range(len(groups)), map(_words, groups), fontsize=9)
    _scale(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9, labelspacing=0.8)
    note = "Grey: the floor, counted from shapes alone: flops at the measured peak, or bytes as fast as a probe moves them."
    _frame(figure, values, f"{TITLES[values.get('action', 'train')]}: times over the floor of the machine, float32", note)
    return figure


# -------------------------------------------------------------------------------------------------------- words
def _frame(figure: Figure, values, title: str, note: str) -> None:
    machine = values["machine"]
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)
    where = machine.get("gpu", {}).get("name") or f"{machine['processor']}, {machine['instruction_set']}"
    about = f"{where}, {machine['threads']} threads, {values['date']}"
    command = textwrap.fill(values["command"], int(14 * figure.get_figwidth()))
    figure.supxlabel(f"{note}\n{about}\n{command}", x=0.01, ha="left", fontsize=8, color="#555555")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _colour(name: str) -> tuple[float, ...]:
    """dlcore's in full, the others a little paler."""
    colour = to_rgb(COLOURS.get(name, "#666666"))
    return colour if name in OURS.values() else tuple(0.25 + 0.75 * c for c in colour)


def time(ms: float) -> str:
    """Three digits with a unit.

    >>> time(0.0381), time(12.345), time(1234.5)
    ('38.1 us', '12.3 ms', '1.23 s')
    """
    if ms < 1:
        return f"{1e3 * ms:.3g} us"
    return f"{ms:.3g} ms" if ms < 1000 else f"{ms / 1000:.3g} s"


if __name__ == "__main__":
    for figure_path in draw(Path(sys.argv[1])):
        print(figure_path)
