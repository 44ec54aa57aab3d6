# SPDX-License-Identifier: Apache-2.0
"""The goals of GPUs beside what was measured: ``python bench/goals_cuda.py [FOLDER] [--json]`` reads every result of
bench/peers.py on a GPU, of each row and precision the newest; what no result has is not measured.

`published` is the share of the maker's bandwidth, or of its operations for the terms of the product; `measured` that of the
copy's bandwidth of the same run, or of the multiply-adds that the clock allows. `times as fast` is round by round against the
peer that is led least; where rows are added or taken from one another, of medians. A goal has two levels, must and aim.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dlcore.bench import kernels, timing
from dlcore.bench.published import Published
from dlcore.bench.workloads import Workload, find, flat

RESULTS = Path(__file__).with_name("results")
OURS = {
    "simt": ("dlcore",), "float32": ("dlcore_wgmma", "dlcore_mma"), "tf32": ("dlcore_wgmma_bf16x3", "dlcore_mma_bf16x3"),
    "bf16": ("dlcore_wgmma_bf16", "dlcore_mma_bf16"), "any": ("dlcore", "dlcore_wgmma", "dlcore_mma"),
}  # fmt: skip
PRECISION = {"simt": "float32", "any": "float32"}
TERMS = {"simt": 0, "any": 6, "float32": 6, "tf32": 3, "bf16": 1}
Level = tuple[float | None, float | None]  # must, aim
NONE: Level = (None, None)


@dataclass(frozen=True)
class Goal:
    """A line of the table.

    Attributes
    ----------
    family : str
    rows : tuple of str
        Rows of a result that are added; those that begin with "-" are taken away.
    by : str
        Of `OURS`: the kernels, of which the fastest counts.
    share : (must, aim)
        Of what is published.
    ahead : (must, aim)
        Times as fast as ``peers``, or as all others of the precision.
    over : (must, aim), optional
        Largest time as a multiple of that of the rows ``base``.
    limit_us : (must, aim), optional
        Largest time.
    bytes : float, optional
        Moved, where the rows do not say it.
    """

    family: str
    rows: tuple[str, ...]
    by: str
    share: Level = NONE
    ahead: Level = NONE
    peers: tuple[str, ...] = ()
    over: Level = NONE
    base: tuple[str, ...] = ()
    limit_us: Level = NONE
    bytes: float = 0.0


LAYER, ELEMENTS = "8192x1024x1024", 8192 * 1024
DX, DW, BLOCK = f"product_nt_{LAYER} forward", "product_tn_1024x1024x8192 forward", f"linear_norm_relu_dropout_{LAYER}"
BESIDE = (f"{BLOCK} forward", f"{BLOCK} backward", f"-product_{LAYER} forward", f"-{DX}", f"-{DW}")
SQUARES = [f"{role}_{n}x{n}x{n} forward" for n in (4096, 8192) for role in kernels.PRODUCTS]
CUBLAS, COMPILE, EAGER = (("cublaslt", "cublaslt_tf32", "cublaslt_bf16"), ("torch_compile", "torch_compile_bf16"),
                          ("torch_eager", "torch_bf16"))  # fmt: skip


def _each(family: str, rows: Iterable[str], by: str, *levels: Level, **more) -> list[Goal]:
    return [Goal(family, (row,), by, *levels, **more) for row in rows]


def _bytes(name: str, forward: Level, backward: Level, ahead: Level, family: str) -> list[Goal]:
    levels = {"forward": forward, "backward": backward}
    return [Goal(family, (f"{name} {part}",), "simt", level, ahead) for part, level in levels.items()]


GOALS = [
    *_each("bf16 product, 4096 and more", SQUARES, "bf16", (0.70, 0.80), (0.95, 1.02), peers=CUBLAS),
    *_each("bf16 product, 1024 wide", (f"product_{LAYER} forward", DX), "bf16", (0.65, 0.70), (0.95, 1.05), peers=CUBLAS),
    *_each("bf16 product, 512 wide", (f"product{r}_32768x512x512 forward" for r in ("", "_nt")), "bf16", (0.50, 0.70),
           (0.95, 1.05), peers=CUBLAS),
    *_each("bf16 weight gradient", (DW, "product_tn_512x512x32768 forward"), "bf16", (0.50, 0.78), (0.95, 1.1), peers=CUBLAS),
    Goal("product, bias, relu", (f"linear_relu_{LAYER} forward",), "bf16", NONE, (1.15, 1.3), (), (1.08, 1.04),
         (f"product_{LAYER} forward",)),
    Goal("its gradients", (f"linear_relu_{LAYER} backward",), "bf16", NONE, (1.2, 1.4), (), (1.10, 1.05), (DX, DW)),
    *_each("float32 product, six terms", SQUARES, "float32", (0.52, 0.73), (1.7, 2.4)),
    *_each("float32 product, three terms, beside tf32", SQUARES, "tf32", (0.55, 0.74), (0.45, 0.6)),
    *_each("float32 product, multiply-adds", SQUARES, "simt", (0.60, 0.68), (0.90, 0.97)),
    *_bytes("dropout_4096x4096", (0.85, 0.92), (0.85, 0.92), (1.0, 1.1), "elementwise"),
    *_bytes("batch_norm_relu_dropout_32768x1024", (0.82, 0.90), (0.80, 0.88), (1.3, 1.8), "batch norm, relu, dropout"),
    Goal("beside the products of linear, batch norm, relu, dropout", BESIDE, "bf16", (0.82, 1.2), (1.3, 1.6), COMPILE,
         bytes=24 * ELEMENTS),
    Goal("the same, beside eager", BESIDE, "bf16", NONE, (2.0, 2.8), EAGER),
    *_bytes("layer_norm_32768x1024", (0.85, 0.90), (0.78, 0.85), (1.05, 1.2), "layer norm"),
    *_each("cross entropy, loss and gradient", ("cross_entropy_32768x1000 both",), "simt", (0.82, 0.90), (1.1, 1.3)),
    *_each("AdamW, 32 M", ("adamw_32M update",), "simt", (0.86, 0.92), (1.03, 1.1)),
    Goal("AdamW, 1000 tensors", ("adamw_1000x64 update",), "simt", NONE, (10, 50), EAGER, limit_us=(6, 4)),
    Goal("the same, beside a graph", ("adamw_1000x64 update",), "simt", NONE, (2, None), COMPILE),
    Goal("clip and loss scale, of a step", (), "bf16", NONE, (1.5, None), over=(1.02, 1.0)),
    Goal("tiny step, beside eager", ("G1_tiny",), "any", NONE, (3, 10), EAGER),
    Goal("tiny step, beside a graph", ("G1_tiny",), "any", NONE, (1.3, 2), COMPILE),
    Goal("tiny step, beside JAX", ("G1_tiny",), "any", NONE, (1.2, 2), ("jax",)),
    *_each("mid step", ("G2_mid",), "bf16", (0.55, 0.70), (1.25, 1.5)),
    *_each("large step", ("G3_large",), "bf16", (0.62, 0.72), (1.0, 1.08)),
    *_each("float32 step", ("G2_mid", "G3_large"), "any", NONE, (1.5, 2.2)),
    *(Goal(f"second-level cache {'cold' if cold else 'warm'}", (f"{name}{cold} {part}",), "simt")
      for name in ("batch_norm_relu_dropout_4096x1024", "layer_norm_4096x1024", "cross_entropy_4096x1000", "adamw_1M")
      for part in kernels.KERNELS[name].parts for cold in ("", "_cold")),
]  # fmt: skip


def composite(w: Workload, spec: Published, terms: int) -> float:
    """Seconds of a step's products and of what a fused plan moves beside them, each at the nearer limit.

    Beside a batch norm an output is read and written once more forward, and twice read and once written backward; an update
    moves seven reals a parameter.
    """
    size, total, first = 2 if terms == 1 else 4, 0.0, True
    layers = list(flat(w.layers))
    for layer, after in zip(layers, [*layers[1:], ("",)], strict=True):
        if layer[0] != "linear":
            continue
        k, n = layer[1:]
        moved, flops = size * (w.batch * (k + n) + k * n), 2 * w.batch * k * n
        total += (2 if first else 3) * max(flops / spec.flops(terms), moved / spec.bandwidth)
        total += (5 * size * w.batch * n * (after[0] == "batch_norm") + 28 * k * n) / spec.bandwidth
        first = False
    return total


def loaded(folder: Path) -> tuple[dict, dict]:
    """By row and contestant what the newest results of one GPU have, with the machine of each; and that of the newest."""
    found = [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"), key=lambda p: p.stat().st_mtime)]
    found = [v for v in found if "peers.py" in str(v.get("command")) and str(v["machine"].get("device")).startswith("cuda")]
    found.sort(key=lambda v: v["date"])
    newest, rows = found[-1]["machine"] if found else {}, {}
    for values in found:
        if values["machine"]["gpu"].get("name") == newest["gpu"].get("name"):
            fresh = {(r["row"], r["precision"]) for r in values["rows"]}
            rows = {key: r for key, r in rows.items() if (key[0], r["precision"]) not in fresh}
            rows |= {(r["row"], r["contestant"]): {**r, "machine": values["machine"]} for r in values["rows"]}
    return rows, newest


def _seconds(rows: dict, terms: tuple[str, ...], name: str) -> float | None:
    """Of a contestant, rows added and taken away; None where one is missing."""
    found = [rows.get((term.removeprefix("-"), name)) for term in terms]
    if not terms or None in found:
        return None
    return sum((-1 if term[0] == "-" else 1) * r["ms"] for term, r in zip(terms, found, strict=True)) / 1e3


def _work(goal: Goal, spec: Published | None) -> tuple[float, float, float]:
    """Operations, bytes, and of a step the seconds of its roofline."""
    net = find(goal.rows[0])
    if net:
        mfu = goal.family == "large step"
        flops = sum((2 if i == 0 else 3) * 2 * net.batch * layer[1] * layer[2]
                    for i, layer in enumerate(layer for layer in flat(net.layers) if layer[0] == "linear"))  # fmt: skip
        return flops if mfu else 0.0, 0.0, composite(net, spec, TERMS[goal.by]) if spec and not mfu else 0.0
    if len(goal.rows) > 1:
        return 0.0, goal.bytes, 0.0
    name, part = goal.rows[0].split()
    kernel = kernels.KERNELS[name]
    moved, flops = kernels.bytes_and_flops(kernel, part)
    return (flops, 0.0, 0.0) if flops else (0.0, moved, 0.0)


def judged(goal: Goal, rows: dict) -> dict:
    """A line of the table; what has not been measured is None."""
    line = {
        "family": goal.family, "rows": goal.rows, "ours": None, "ms": None, "error": None, "published": None, "measured": None,
        "peer": None, "peer_ms": None, "times": None, "over": None, "verdict": "not measured",
        "goals": {name: getattr(goal, name) for name in ("share", "ahead", "over", "limit_us") if getattr(goal, name) != NONE},
    }  # fmt: skip
    took = {name: t for name in OURS[goal.by] if (t := _seconds(rows, goal.rows, name)) is not None}
    if not took:
        return line
    ours = min(took, key=took.get)
    seconds, mine = took[ours], rows[goal.rows[0].removeprefix("-"), ours]
    line |= {"ours": ours, "ms": 1e3 * seconds, "error": mine["error"]}
    line |= _shares(goal, seconds, mine["machine"]) | _peer(goal, rows, ours, seconds)
    base = _seconds(rows, goal.base, ours)
    line["over"] = base and seconds / base
    return line | {"verdict": _verdict(goal, line)}


def _shares(goal: Goal, seconds: float, machine: dict) -> dict:
    spec = machine.get("published") and Published(**machine["published"])
    flops, moved, least = _work(goal, spec)
    copy = 1e9 * list(machine["read_gb_per_second"].values())[-1]
    counted = 1e9 * machine["peak_gflops"] if flops and TERMS[goal.by] == 0 else 0.0
    published = spec and (least / seconds if least else spec.share(seconds, flops, moved, TERMS[goal.by]))
    return {"published": published or None, "measured": (flops / counted if counted else moved / copy) / seconds or None}


def _peer(goal: Goal, rows: dict, ours: str, seconds: float) -> dict:
    """The peer that is led least, by how much."""
    precision, leads = PRECISION.get(goal.by, goal.by), {}
    for (row, name), r in rows.items():
        known = row == goal.rows[0].removeprefix("-") and r["precision"] == precision and not name.startswith("dlcore")
        if known and (not goal.peers or name in goal.peers) and (theirs := _seconds(rows, goal.rows, name)) is not None:
            mine = rows[row, ours]["rounds_ms"]
            paired = len(goal.rows) == 1 and len(mine) == len(r["rounds_ms"])
            leads[name] = timing.ratio(r["rounds_ms"], mine) if paired else theirs / seconds
    if not leads:
        return {}
    peer = min(leads, key=leads.get)
    return {"peer": peer, "peer_ms": 1e3 * _seconds(rows, goal.rows, peer), "times": leads[peer]}


def _verdict(goal: Goal, line: dict) -> str:
    """Of the levels that the line can be held to: the aim, the must, or missed; a level without its figure is told."""
    judged = [(goal.share, line["published"], 1), (goal.ahead, line["times"], 1), (goal.over, line["over"], -1),
              (goal.limit_us, line["ms"] and 1e3 * line["ms"], -1)]  # fmt: skip
    levels = [(level, figure, sign) for level, figure, sign in judged if level != NONE]
    known = [(level, figure, sign) for level, figure, sign in levels if figure is not None]
    if not known:
        return ""
    reached = [all(sign * figure >= sign * level[i] for level, figure, sign in known if level[i] is not None) for i in (0, 1)]
    said = "aim met" if all(reached) else "must met" if reached[0] else "missed"
    return said if len(known) == len(levels) else f"{said}, in part"


def table(lines: list[dict]) -> str:
    """Markdown."""
    out = [
        "| goal | row | dlcore | ms | error | published | measured | fastest peer | ms | times as fast | must, aim | |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        goals = "; ".join(f"{GOAL_WORDS[name]} {_levels(level)}" for name, level in line["goals"].items())
        row = " + ".join(line["rows"]).replace("+ -", "- ").replace("_", " ") or "none yet"
        numbers = [_said(line["ms"], ".4g"), _said(line["error"], ".0e"), _said(line["published"], ".0%"),
                   _said(line["measured"], ".0%"), (line["peer"] or "").replace("_", " "), _said(line["peer_ms"], ".4g"),
                   _said(line["times"], ".2f")]  # fmt: skip
        ours = (line["ours"] or "").replace("_", " ")
        over = f", {line['over']:.2f} of the products" if line["over"] else ""
        out.append(f"| {line['family']} | {row} | {ours} | {' | '.join(numbers)} | {goals} | {line['verdict']}{over} |")
    return "\n".join(out)


GOAL_WORDS = {"share": "published", "ahead": "times as fast", "over": "at most of the products", "limit_us": "at most us"}


def _levels(level: Level) -> str:
    return " and ".join(f"{value:g}" for value in level if value is not None)


def _said(value, form: str) -> str:
    return "" if value is None else format(value, form)


def main(argv: list[str]) -> int:
    """The table, or one JSON object; it is no error that nothing has been measured."""
    parser = argparse.ArgumentParser("goals_cuda.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS, help="of the results (default bench/results)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    rows, machine = loaded(options.folder)
    lines = [judged(goal, rows) for goal in GOALS]
    if options.json:
        print(json.dumps({"machine": machine, "goals": lines}))
        return 0
    if machine:
        print(" ".join(machine["gpu"].values()) + "\n")
    print(table(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
