# SPDX-License-Identifier: Apache-2.0
"""The goals of the CPU beside what was measured: ``python bench/goals.py [FOLDER] [--json]`` reads the newest results.

A goal is how many times as fast as the fastest peer of the same run and precision dlcore is to be; some rows have a share
of their floor to reach as well. `of floor` is the floor over the time, and what binds it: flops at the measured peak, or
bytes as fast as a probe moves as many in the same mix beside every round. Only flops are a limit: where a goal lies above
peer ms / floor ms, the row says what the machine allows. Errors are from float64.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from dlcore.bench.timing import NOISE, SHARE
from leads import OURS, ROWS, by_row, fastest

RESULTS = Path(__file__).with_name("results")
READING = {"W4_dropout batch 1": 1.05, "W5_wide batch 1": 1.05}  # bound by reading the weights
NETS = {
    "W1_mnist": 2.2, "W2_mnist_batch_norm": 3.5, "W3_tabular": 5, "W4_dropout": 2.5, "W5_wide": 1.9, "W6_residual": 5,
    "W7_tiny": 8, "W8_narrow": 2.5,
}  # fmt: skip
GOALS = {  # by action and precision
    ("train", "float32"): NETS,
    ("train", "bf16"): dict.fromkeys(list(NETS)[:6], 1.5),  # and no slower than float32
    ("infer", "float32"): {f"{net} batch {b}": 1.3 if b == "1" else 1.5 for net in NETS for b in ROWS} | READING,
    ("ops", "float32"): {
        "batch_norm_relu_dropout_4096x1024 forward": 10, "batch_norm_relu_dropout_4096x1024 backward": 2,
        "dropout_4096x4096 forward": 20, "dropout_4096x4096 backward": 1.3, "cross_entropy_4096x1000 both": 2,
        "layer_norm_4096x1024 forward": 1, "layer_norm_4096x1024 backward": 1.6, "layer_norm_65536x64 forward": 1.3,
        "layer_norm_65536x64 backward": 1.8, "adamw_10M update": 1, "adamw_200x50k update": 1.4,
        "product_2048x2048x2048 forward": 0.95,
    },
}  # fmt: skip
SHARES = {"adamw_10M update": 0.85}  # of the floor


def newest(action: str, precision: str, folder: Path) -> dict | None:
    """The newest result of an action on a CPU in which dlcore has a peer of a precision."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob(f"*_peers_{action}.json"))]
    found = [v for v in found if "device" not in v["machine"] and fastest(v["rows"], precision)]
    return max(found, key=lambda v: v["date"], default=None)


def judged(values: dict, precision: str, goals: dict[str, float]) -> list[dict]:
    """A row for each goal that the result has."""
    groups, cores, rows = by_row(values["rows"]), low_cores(values.get("watch", {})), []
    for name, goal in goals.items():
        ours = next((r for r in groups.get(name, []) if r["contestant"] == OURS[precision]), None)
        peer = fastest(groups.get(name, []), precision)
        if ours is None or peer is None:
            continue
        bound, lead = ours.get("bound"), peer["lead"]["times"]
        over = ours.get("over_float32") and ours["over_float32"]["times"]
        share, least = ours["of_floor"] if bound else None, SHARES.get(name)
        reached = [lead >= goal, *([over >= 1 - NOISE] if over else []), *([(share or 0) >= least] if least else [])]
        rows.append(
            {
                "row": name, "goal": goal, "lead": lead, "met": all(reached), "peer": peer["contestant"],
                "peer_ms": peer["ms"], "ms": ours["ms"], "error": ours["error"], "peer_error": peer["error"],
                "bound": bound or ("bytes" if ours["floor_ms"] else ""), "of_floor": share,
                "share_goal": least, "over_float32": over,
                "possible": peer["ms"] / ours["floor_ms"] if bound == "flops" else None,
                "how": ours.get("how", ""), "cores": cores.get(name),
            }
        )  # fmt: skip
    return rows


def low_cores(watch: dict[str, dict]) -> dict[str, float]:
    """By row the median rate of the cores, as a share of their best in the run, where most rounds had less than `SHARE`."""
    best = max((rate for seen in watch.values() for rate in seen["gflops"]), default=1)
    shares = {row: [rate / best for rate in seen["gflops"]] for row, seen in watch.items()}
    return {row: statistics.median(s) for row, s in shares.items() if 2 * sum(x < SHARE for x in s) > len(s)}


def verdict(r: dict) -> str:
    """In words: met, missed and by which of its conditions, what the machine allows, and cores that were not all there."""
    if r["met"]:
        said = "met"
    elif r["possible"] and r["possible"] < r["goal"]:
        said = f"the machine allows {r['possible']:.2f}"
    elif r["lead"] >= r["goal"] and r["share_goal"]:
        said = "missed: share of floor" if r["of_floor"] else "share of floor not measured"
    else:
        said = "missed"
    if r["over_float32"]:
        said += f", {r['over_float32']:.2f} times as fast as in float32"
    return said + (f" (most rounds on cores at {100 * r['cores']:.0f} % of their rate)" if r["cores"] else "")


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = [
        "| row | dlcore ms | error | fastest peer | ms | error | times as fast | goal | | of floor |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        share = f"{100 * r['of_floor']:.0f} %, {r['bound']}" if r["of_floor"] else r["bound"]
        goal = f"{r['goal']:g}" + (f" and {100 * r['share_goal']:.0f} % of floor" if r["share_goal"] else "")
        lines.append(
            f"| {r['row'].replace('_', ' ')} | {r['ms']:.4g} | {r['error']:.0e} | {r['peer'].replace('_', ' ')} | "
            f"{r['peer_ms']:.4g} | {r['peer_error']:.0e} | {r['lead']:.2f} | {goal} | {verdict(r)} | {share} |"
        )
    return "\n".join([*lines, *(f"\nHow dlcore computes here: {how}." for how in sorted({r["how"] for r in rows} - {""}))])


def main(argv: list[str]) -> int:
    """1 where there is no result."""
    parser = argparse.ArgumentParser("goals.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS, help="of the results (default bench/results)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    found = {key: values for key in GOALS if (values := newest(*key, options.folder))}
    if not found:
        print(f"goals.py: expected results of bench/peers.py in {options.folder}, got none", file=sys.stderr)
        return 1
    rows = {key: judged(values, key[1], GOALS[key]) for key, values in found.items()}
    if options.json:
        print(json.dumps({" ".join(key): found for key, found in rows.items()}))
        return 0
    for key, values in found.items():
        machine = values["machine"]
        about = (
            f"{machine['processor']}, {machine['instruction_set']}, {machine['threads']} threads, {key[1]}, {values['date']}"
        )
        print(f"\n{about}: `{values['command']}`\n\n{table(rows[key])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
