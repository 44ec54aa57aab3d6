# SPDX-License-Identifier: Apache-2.0
"""Training steps where cores are missing: as many threads as cores, all on one core, or beside a process that spins on one.

`alone` is a step with every core free; `pinned` the same threads held to one core; `beside` with all cores, one of them
taken by another process. The three take turns, and ratios to `alone` are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from contestants import timed
from dlcore.bench import report
from process import Absent, Failed, Process
from workloads import find

SPIN = "while True: pass"
SECONDS = 0.5  # of a measurement
STATES = ("alone", "pinned", "beside")


@contextlib.contextmanager
def held_to(cores: set[int]) -> Iterator[None]:
    """What starts here runs on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def spinning(core: int) -> Iterator[None]:
    """Another process takes a core."""
    with held_to({core}):
        other = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        time.sleep(0.2)
        yield
    finally:
        other.kill()
        other.wait()


def measure(contestant: str, workload: str, cores: list[int], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step by state and round."""
    taken: dict[str, list[float]] = {state: [] for state in STATES}
    with held_to({cores[0]}):
        pinned = Process(contestant, len(cores))
    with contextlib.closing(pinned), contextlib.closing(Process(contestant, len(cores))) as free:
        for process in (pinned, free):
            process.ask("setup", action="train", item=workload)
            process.ask("begin", part="step")
        for _ in range(rounds):
            taken["alone"].append(free.ask("round", seconds=SECONDS)["seconds"])
            taken["pinned"].append(pinned.ask("round", seconds=SECONDS)["seconds"])
            with spinning(cores[-1]):
                taken["beside"].append(free.ask("round", seconds=SECONDS)["seconds"])
    return taken


def row(contestant: str, workload: str, taken: dict[str, list[float]]) -> dict:
    """Median milliseconds, and medians of the rounds' ratios."""
    ratios = {s: [t / a for t, a in zip(taken[s], taken["alone"], strict=True)] for s in STATES[1:]}
    return {
        "row": workload, "contestant": contestant,
        "ms": {s: 1e3 * statistics.median(taken[s]) for s in STATES},
        "ratio": {s: statistics.median(r) for s, r in ratios.items()},
    }  # fmt: skip


def main(argv: list[str]) -> int:
    """1 where a contestant failed."""
    parser = argparse.ArgumentParser(
        prog="contention.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", default="W1,W2,W3,W7", help="of W1 to W8 (default W1,W2,W3,W7)")
    parser.add_argument("--contestants", default="dlcore,torch_eager,jax", help=f"of {', '.join(timed('cpu'))}")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the states take turns (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object on standard output")
    options = parser.parse_args(argv)
    names, contestants = options.workloads.split(","), options.contestants.split(",")
    if unknown := [n for n in names if find(n) is None]:
        parser.error(f"expected --workloads of W1 to W8, got {unknown[0]!r}")
    if unknown := [c for c in contestants if c not in timed("cpu")]:
        parser.error(f"expected --contestants of {', '.join(timed('cpu'))}, got {unknown[0]!r}")
    cores, rows, wrong = sorted(os.sched_getaffinity(0)), [], []
    for workload in map(find, names):
        for contestant in contestants:
            try:
                rows.append(row(contestant, workload.name, measure(contestant, workload.name, cores, options.rounds)))
            except Absent as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            except Failed as error:
                wrong.append(str(error))
                continue
            print(line(rows[-1]), file=sys.stderr if options.json else sys.stdout, flush=True)
    if options.json:
        values = {
            "date": datetime.date.today().isoformat(), "machine": report.machine(len(cores)), "versions": report.versions(),
            "command": report.command("python bench/contention.py", argv), "rows": rows, "wrong": wrong,
        }  # fmt: skip
        print(json.dumps(values))
    for failure in wrong:
        print(f"contention.py: {failure}", file=sys.stderr)
    return int(bool(wrong))


def line(found: dict) -> str:
    ms, ratio = found["ms"], found["ratio"]
    return (
        f"{found['row']:<22}{found['contestant']:<14}alone {ms['alone']:9.3f} ms   one core {ratio['pinned']:6.2f}x   "
        f"beside a busy process {ratio['beside']:6.2f}x"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
