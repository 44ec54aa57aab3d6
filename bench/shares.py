# SPDX-License-Identifier: Apache-2.0
"""Where the time of a training step goes: `python bench/shares.py W1,W2 --threads 2`.

Every section of the plan is recorded alone and run between whole steps; its time is the least of the rounds. Nodes that go
through blocks of rows together are one line, `in blocks`. `rest` is what a step takes beyond its kernels: Python, the call,
and caches that are colder than in a section that was just run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np

import dlcore as dl
from dlcore.backend import num_threads
from dlcore.bench import nets, peak, report, workloads
from dlcore.graph import Node
from dlcore.plan.sections import flops

KINDS = {
    "Product": "products", "Update": "update", "Pointwise": "elementwise", "MomentsFinish": "norms",
    "NormBackwardFinish": "norms", "LayerNorm": "norms", "LayerNormBackward": "norms", "SoftmaxCrossEntropy": "loss",
    "ElementLoss": "loss", "Gather": "inputs", "GatherIndex": "inputs", "Pack": "packs",
}  # fmt: skip
TIMES = 20  # of what takes microseconds, in a row
COLUMNS = ("products", "in blocks", "elementwise", "norms", "packs", "loss", "inputs", "update", "other", "rest")


def parts(plan) -> Iterator[tuple[str, list[Node], tuple]]:
    """(kind, nodes, section) of everything that can be run alone."""
    for _, s in plan.sections:
        if s.block_rows:
            nodes = list(s.nodes)
            yield "in blocks", nodes, ([plan.instructions[n] for n in nodes], s.serial, s.block_rows, s.row_bytes)
        else:
            for n in s.nodes:
                yield KINDS.get(n.op.__name__, "other"), [n], ([plan.instructions[n]], s.serial, 0, 0)


def measure(workload: workloads.Workload, threads: int, rounds: int) -> dict:
    """Microseconds of a step and of its kinds, and the flops of its products."""
    net = dl.Net(nets.build(workload.layers), threads=threads)
    step = net.compile(nets.LOSSES[workload.loss](), nets.optimizer(workload.optimizer, workloads.TIMING_LR), workload.batch)
    x, y = workloads.batch(workload)
    for _ in range(3):
        begin = time.perf_counter()
        step(x, y)
        again = TIMES if time.perf_counter() - begin < 1e-3 else 1
    bound = step._bound
    plan, counters = bound.plan, np.asarray(bound.counters)
    given = {"x": x, "y": y, "hyper": bound.hyper.obj, "results": bound.results.obj}
    bases = plan.bases(bound.training.arenas(**given, tables=net.tables, scratch=net.scratch(plan.scratch_bytes)))
    found = [(kind, nodes, times, net.backend.prepare([([net.backend.record([section])], times)], bases))
             for kind, nodes, section in parts(plan) for times in [TIMES if section[1] else 1]]  # fmt: skip
    steps, least = [], np.full(len(found), np.inf)
    for i in range(rounds):
        begin = time.perf_counter()
        for _ in range(again):
            step(x, y)
        steps.append((time.perf_counter() - begin) / again)
        counters[:4] = i, 0, 0, 0
        for j, (_, _, times, prepared) in enumerate(found):
            begin = time.perf_counter()
            prepared.run(threads)
            least[j] = min(least[j], (time.perf_counter() - begin) / times)
    us = dict.fromkeys(COLUMNS, 0.0)
    for (kind, *_), seconds in zip(found, least, strict=True):
        us[kind] += 1e6 * seconds
    whole = 1e6 * statistics.median(steps)
    us["rest"] = whole - sum(us.values())
    work = sum(flops(n) for kind, nodes, *_ in found if kind == "products" for n in nodes)
    return {"row": workload.name, "us": whole, "share": {k: v / whole for k, v in us.items()},
            "products_gflops": 1e-3 * work / us["products"] if us["products"] else None}  # fmt: skip


def table(rows: list[dict], limit: float) -> list[str]:
    """Markdown: shares of a step in percent."""
    lines = [f"| row | step ms | {' | '.join(COLUMNS)} | products, share of the peak |", "|---" * (len(COLUMNS) + 3) + "|"]
    for r in rows:
        shares = " | ".join(f"{100 * r['share'][k]:.0f}" if abs(r["share"][k]) >= 0.005 else "" for k in COLUMNS)
        rate = f"{100 * r['products_gflops'] / limit:.0f} %" if r["products_gflops"] else ""
        lines.append(f"| {r['row']} | {1e-3 * r['us']:.4g} | {shares} | {rate} |")
    return lines


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="?", metavar="W1,W2,...", default=",".join(workloads.WORKLOADS))
    parser.add_argument("--threads", type=int, default=num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args(argv)
    found = {name: workloads.find(name) for name in options.workloads.split(",")}
    if unknown := [name for name, w in found.items() if w is None]:
        parser.error(f"expected names of {', '.join(workloads.WORKLOADS)}, got {unknown[0]!r}")
    limit = peak.measure(options.threads)
    rows = [measure(w, options.threads, options.rounds) for w in found.values()]
    if options.json:
        print(json.dumps({"machine": report.machine(options.threads, limit), "rows": rows}))
    else:
        print("\n".join(table(rows, limit.flops / 1e9)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
