# SPDX-License-Identifier: Apache-2.0
"""The goals of the CPU beside what was measured: ``python bench/goals.py [FOLDER] [--json]`` reads the newest results.

A goal is how many times as fast as the fastest float32 peer of the same run dlcore is to be; `of floor` is the share of
the time that the machine's limits allow (flops at the measured peak, bytes at the measured bandwidth), counted from
shapes alone; errors are from float64. A goal above peer ms / floor ms asks for more than the machine has: those rows say so.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from compare import best_peer

RESULTS = Path(__file__).with_name("results")
OURS = "dlcore"
ROWS = ("1", "64", "4096")
READING = {"W4_dropout batch 1": 1.05, "W5_wide batch 1": 1.05}  # bound by reading the weights
NETS = {
    "W1_mnist": 2.2, "W2_mnist_batch_norm": 3.5, "W3_tabular": 5, "W4_dropout": 2.5, "W5_wide": 1.9, "W6_residual": 5,
    "W7_tiny": 8, "W8_narrow": 2.5,
}  # fmt: skip
GOALS = {
    "train": NETS,
    "infer": {f"{net} batch {b}": 1.3 if b == "1" else 1.5 for net in NETS for b in ROWS} | READING,
    "ops": {
        "batch_norm_relu_dropout_4096x1024 forward": 10, "batch_norm_relu_dropout_4096x1024 backward": 2,
        "dropout_4096x4096 forward": 20, "dropout_4096x4096 backward": 1.3, "cross_entropy_4096x1000 both": 2,
        "layer_norm_4096x1024 forward": 1, "layer_norm_4096x1024 backward": 1.6, "layer_norm_65536x64 forward": 1.3,
        "layer_norm_65536x64 backward": 1.8, "adamw_10M update": 1, "adamw_200x50k update": 1.4,
        "product_2048x2048x2048 forward": 0.95,
    },
}  # fmt: skip


def newest(action: str, folder: Path) -> dict | None:
    """The newest result of an action on a CPU."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob(f"*_peers_{action}.json"))]
    found = [v for v in found if "device" not in v["machine"]]
    return max(found, key=lambda v: v["date"], default=None)


def judged(values: dict, goals: dict[str, float]) -> list[dict]:
    """A row for each goal that the result has."""
    groups: dict[str, list[dict]] = {}
    for r in values["rows"]:
        groups.setdefault(r["row"], []).append(r)
    rows = []
    for name, goal in goals.items():
        ours = next((r for r in groups.get(name, []) if r["contestant"] == OURS), None)
        peer = best_peer(groups.get(name, []))
        if ours is None or peer is None:
            continue
        lead = peer["lead"]["times"]
        rows.append(
            {
                "row": name, "goal": goal, "lead": lead, "met": lead >= goal, "peer": peer["contestant"],
                "peer_ms": peer["ms"], "ms": ours["ms"], "error": ours["error"],
                "peer_error": peer["error"], "of_floor": ours["floor_ms"] and ours["floor_ms"] / ours["ms"],
                "possible": ours["floor_ms"] and peer["ms"] / ours["floor_ms"],
            }
        )  # fmt: skip
    return rows


def table(rows: list[dict]) -> str:
    """Markdown."""
    lines = [
        "| row | dlcore ms | error | fastest peer | ms | error | times as fast | goal | | of floor |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        beyond = r["possible"] and r["possible"] < r["goal"]
        said = "met" if r["met"] else f"the machine allows {r['possible']:.2f}" if beyond else "missed"
        share = f"{100 * r['of_floor']:.0f} %" if r["of_floor"] else ""
        peer = r["peer"].replace("_", " ")
        lines.append(
            f"| {r['row'].replace('_', ' ')} | {r['ms']:.4g} | {r['error']:.0e} | {peer} | {r['peer_ms']:.4g} | "
            f"{r['peer_error']:.0e} | {r['lead']:.2f} | "
            f"{r['goal']:g} | {said} | {share} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """1 where there is no result."""
    parser = argparse.ArgumentParser("goals.py", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS, help="of the results (default bench/results)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    found = {a: v for a in GOALS if (v := newest(a, options.folder))}
    if not found:
        print(f"goals.py: expected results of bench/peers.py in {options.folder}, got none", file=sys.stderr)
        return 1
    rows = {action: judged(values, GOALS[action]) for action, values in found.items()}
    if options.json:
        print(json.dumps(rows))
        return 0
    for action, values in found.items():
        machine = values["machine"]
        about = f"{machine['processor']}, {machine['instruction_set']}, {machine['threads']} threads, float32, {values['date']}"
        print(f"\n{about}: `{values['command']}`\n\n{table(rows[action])}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
