# SPDX-License-Identifier: Apache-2.0
"""No size falls off a cliff: time(n) over the time of the next multiple of 16, for n = 1 to 300 and beside 512 and 1024.

A product has m rows, n columns and depth k; one of them varies, the others are 64 or 512. `forward` is x w, `backward`
both gradients, recorded as in a net. `step` and `predict` are calls of a compiled step and of `Net.predict` with so many
rows, of a net with two hidden layers of 64 or 512. Sizes take turns with their multiple; a ratio is the median of the
rounds. Exit status 1 where a ratio is above the limit.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import dlcore as dl
from dlcore.backend import num_threads
from dlcore.bench import cases, plain, report
from dlcore.bench.kernels import Kernel
from dlcore.bench.ops import LayerSubject
from dlcore.bench.programs import FUSED
from dlcore.cli.output import Output
from dlcore.cli.parser import JSON, THREADS, Option, Parser, UsageError
from dlcore.cli.values import boolean, integer, text
from dlcore.errors import suggest
from peers import file_name

LIMIT, MULTIPLE = 1.5, 16
SEQUENCE = range(1, 301)
SIZES = (*SEQUENCE, *range(511, 514), *range(1023, 1026))
OTHERS = (64, 512)
AGAIN = 5  # times the rounds, where a few were not clear
BLOCK_SECONDS = 0.001  # of the calls between two readings of the clock
RESULTS = Path(__file__).with_name("results")
EXAMPLES = """examples:
  python bench/cliffs.py --threads 2 --save                  every curve, some minutes; JSON and figure in bench/results/
  python bench/cliffs.py --curves step,forward_m_512         those whose names begin like this"""

Repeated = Callable[[int], object]  # makes so many calls


# ------------------------------------------------------------------------------------------------------- curves
def product(part: str, axis: str, other: int, threads: int, size: int) -> Repeated:
    m, n, k = (size if name == axis else other for name in "mnk")
    kernel = Kernel(part, "product", (m, n, k))
    subject = LayerSubject(part, lambda: cases.LAYERS["product"](kernel), plain.Linear, m, k, threads)
    return partial(subject.run, FUSED, part)


def net(kind: str, width: int, threads: int, rows: int) -> Repeated:
    hidden = [layer for _ in range(2) for layer in (dl.Linear(width, width), dl.ReLU())]
    made = dl.Net([*hidden, dl.Linear(width, 10)], threads=threads)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((rows, width), np.float32), rng.integers(0, 10, rows)
    if kind == "predict":
        return partial(repeat, partial(made.predict, x))
    return partial(repeat, partial(made.compile(dl.SoftmaxCrossEntropy(), dl.SGD(1e-6), rows), x, y))


def repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def curves(threads: int) -> dict[str, Callable[[int], Repeated]]:
    """By name what makes the calls of a size."""
    products = {
        f"{part}_{axis}_{other}": partial(product, part, axis, other, threads)
        for part in ("forward", "backward") for other in OTHERS for axis in "mnk"
    }  # fmt: skip
    nets = {f"{kind}_batch_{width}": partial(net, kind, width, threads) for width in OTHERS for kind in ("step", "predict")}
    return products | nets


# ----------------------------------------------------------------------------------------------------- measuring
def base(size: int) -> int:
    """The size that another is compared with.

    >>> [base(n) for n in (1, 16, 17, 1025)]
    [16, 16, 32, 1040]
    """
    return -(-size // MULTIPLE) * MULTIPLE


def block(call: Repeated) -> Callable[[], float]:
    """Seconds of one call, from a block that is long against the clock."""
    call(1)
    times, seconds = 1, timed(call, 1)
    while seconds * times < BLOCK_SECONDS:
        times = 2 * times
        seconds = timed(call, times)
    return lambda: timed(call, times)


def timed(call: Repeated, times: int) -> float:
    begin = time.perf_counter()
    call(times)
    return (time.perf_counter() - begin) / times


def group(make: Callable[[int], Repeated], sizes: list[int], rounds: int) -> list[dict]:
    """A row for each size: sizes of one base, and the base itself, take turns."""
    multiple = base(sizes[0])
    calls = {n: block(make(n)) for n in {*sizes, multiple}}
    taken = [{n: call() for n, call in calls.items()} for _ in range(rounds)]
    return [
        {
            "size": n, "ms": 1e3 * statistics.median(t[n] for t in taken),
            "ratio": statistics.median(t[n] / t[multiple] for t in taken),
        }
        for n in sizes
    ]  # fmt: skip


def curve(make: Callable[[int], Repeated], rounds: int) -> list[dict]:
    """Rows of all sizes; where one is above the limit its group is measured again, for longer, and that counts."""
    groups: dict[int, list[int]] = {}
    for n in SIZES:
        groups.setdefault(base(n), []).append(n)
    rows = []
    for sizes in groups.values():
        found = group(make, sizes, rounds)
        rows += group(make, sizes, AGAIN * rounds) if any(r["ratio"] > LIMIT for r in found) else found
    return rows


# -------------------------------------------------------------------------------------------------------- report
def line(name: str, rows: list[dict]) -> str:
    """A curve in words."""
    worst = max(rows, key=lambda r: r["ratio"])
    above = [str(r["size"]) for r in rows if r["ratio"] > LIMIT]
    said = f"  above {LIMIT}: {', '.join(above)}" if above else ""
    return f"  {name:<18} worst {worst['ratio']:.2f}x the next multiple of {MULTIPLE}, at {worst['size']}{said}"


def draw(values: dict, path: Path) -> None:
    """A panel for each curve: the times of sizes in sequence, and what they may take."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = values["curves"]
    columns = min(4, len(found))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(max(3.4 * columns, 7), 2.2 * lines + 1.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, (name, rows) in zip(panels, found.items(), strict=False):
        panel(axes, name, rows)
    for axes in panels[len(found) :]:
        axes.set_visible(False)
    panels[0].legend(frameon=False, fontsize=7, loc="upper left")
    machine = values["machine"]
    title = f"Time by size (ms), and {LIMIT} times that of the next multiple of {MULTIPLE}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    about = f"{machine['processor']}, {machine['threads']} threads, {machine['instruction_set']}, {values['date']}"
    note = "m, n, k or batch varies, the others are 64 or 512. In titles the worst ratio of all, those near 512 and 1024 too."
    figure.supxlabel(f"{note}\n{about}\n{values['command']}", x=0.01, ha="left", fontsize=8, color="#555555")
    figure.savefig(path, dpi=130, facecolor="white")


def panel(axes, name: str, rows: list[dict]) -> None:
    shown = [r for r in rows if r["size"] in SEQUENCE]
    sizes = [r["size"] for r in shown]
    allowed = [LIMIT * r["ms"] / r["ratio"] for r in shown]
    axes.plot(sizes, allowed, color="#e07b39", linewidth=0.9, label=f"{LIMIT} x next multiple")
    axes.plot(sizes, [r["ms"] for r in shown], color="#0b6e99", linewidth=1.1, label="time")
    cliffs = [r for r in shown if r["ratio"] > LIMIT]
    axes.scatter([r["size"] for r in cliffs], [r["ms"] for r in cliffs], color="#b5432a", s=14, zorder=3)
    axes.set_xlim(0, SEQUENCE[-1])
    axes.set_ylim(0)
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_title(f"{name.replace('_', ' ')}: {max(r['ratio'] for r in rows):.2f}x", fontsize=9, loc="left")


def arguments(argv: list[str]) -> dict:
    """Options with their defaults.

    Raises
    ------
    UsageError
    """
    options = [
        Option("curves", text, "of them, by the beginnings of their names (default all)", "A,B"),
        Option("rounds", integer(1, 1000), "rounds in which sizes take turns (default 9)", "N"),
        THREADS, JSON, Option("save", boolean, "keep the JSON, and a figure by matplotlib, in bench/results/"),
    ]  # fmt: skip
    parser = Parser("", __doc__.splitlines()[0], "", {}, options)
    parser.prog, parser.usage, parser.epilog = "cliffs.py", "cliffs.py [options]", EXAMPLES
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30)
    given = {"rounds": 9, "threads": num_threads(), "json": False, "save": False, **parser.given(argv)}
    known = curves(given["threads"])
    asked = given["curves"].split(",") if "curves" in given else list(known)
    for name in asked:
        if not any(k.startswith(name) for k in known):
            raise UsageError(f"expected --curves of {', '.join(known)}, got {name!r}{suggest(name, known)}")
    return given | {"curves": {k: make for k, make in known.items() if k.startswith(tuple(asked))}}


def run(argv: list[str]) -> int:
    """Measure and report; 1 where a size is a cliff."""
    options = arguments(argv)
    output, found = Output(options["json"]), {}
    for name, make in options["curves"].items():
        found[name] = curve(make, options["rounds"])
        output.say(line(name, found[name]))
    values = {
        "date": datetime.date.today().isoformat(), "machine": report.machine(options["threads"]), "versions": report.versions(),
        "command": report.command("python bench/cliffs.py", argv), "limit": LIMIT, "curves": found,
    }  # fmt: skip
    if options["save"]:
        keep(values, output.say)
    if options["json"]:
        output.result(values, "")
    return int(any(r["ratio"] > LIMIT for rows in found.values() for r in rows))


def keep(values: dict, say: Callable[[str], None]) -> None:
    """Write the results, named by date and machine, and their figure."""
    path = RESULTS / file_name(values, "cliffs")
    path.write_text(json.dumps(values) + "\n")
    draw(values, path.with_suffix(".png"))
    say(f"written: {path} and its figure")


def main(argv: list[str]) -> int:
    """Wrong use is one line and exit status 2."""
    try:
        return run(argv)
    except UsageError as error:
        print(f"cliffs.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
