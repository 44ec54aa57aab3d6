# SPDX-License-Identifier: Apache-2.0
"""A comparison: who takes part, whether their answers are right, and rows of rounds that take turns.

A ratio is to the reference of the same precision, round by round; dlcore's lead over each contestant likewise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import floors
from contestants import REFERENCES, TRUTH
from dlcore.bench import timing
from dlcore.bench.kernels import KERNELS
from dlcore.bench.peak import Peak
from process import Absent, Failed, Process

STEPS = 5
TOLERANCES = {"float32": 5e-4, "bf16": 5e-2}  # of losses after a few steps, and of outputs
ROUND_SECONDS = {"train": 0.3, "infer": 0.1, "ops": 0.2}
ROWS = ("1", "64", "4096")  # of a prediction
OURS = "dlcore"


@dataclass(frozen=True)
class Machine:
    """What the measurement needs of the machine: threads, peaks, the watch over the rounds, and the device."""

    threads: int
    peak: Peak
    watch: timing.Watch
    device: str = "cpu"


def parts(action: str, item: str) -> tuple[str, ...]:
    """What is timed of a net or a kernel."""
    return {"train": ("step",), "infer": ROWS}.get(action) or KERNELS[item].parts


def name_of(action: str, item: str, part: str) -> str:
    """A row's name."""
    return {"train": item, "infer": f"{item} batch {part}"}.get(action, f"{item} {part}")


def present(names, threads: int, say: Callable[[str], None], device: str = "cpu") -> dict[str, dict]:
    """Version and precision of the contestants whose library is there; the others are left out with their reason."""
    found = {}
    for name in names:
        with Process(name, threads, device) as process:
            try:
                found[name] = process.ask("hello")
            except Absent as error:
                say(f"left out: {error}")
    return found


def difference(got: list[float], want: list[float], action: str) -> float:
    """Of losses the worst relative difference, of outputs the worst as a share of the largest; infinite for a NaN."""
    largest = max(map(abs, want))
    scales = [max(abs(w), 1e-3) if action == "train" else largest for w in want]
    worst = [abs(g - w) / scale for g, w, scale in zip(got, want, scales, strict=True)]
    return max(worst) if all(e == e for e in worst) else float("inf")


def check(
    action: str, item: str, about: dict[str, dict], threads: int, say, device: str = "cpu"
) -> tuple[dict[str, dict], list[str]]:
    """By contestant the errors of its parts, where they are right; and what is wrong with the others."""
    truth = None if action == "ops" else _checked(TRUTH, action, item, threads)["values"]
    errors, wrong = {}, []
    for name, known in about.items():
        try:
            found = _checked(name, action, item, threads, device)
        except Failed as error:
            wrong.append(f"{item} {error}")
            continue
        if "reason" in found:
            say(f"check {action} {item} {name}: left out, {found['reason']}")
            continue
        if truth is not None:
            error, allowed = difference(found["values"], truth, action), TOLERANCES[known["precision"]]
            if error > allowed:
                wrong.append(f"{item} {name}: expected an error within {allowed:g}, got {error:.3g}")
                continue
            found = {"errors": dict.fromkeys(parts(action, item), error)}
        errors[name] = found["errors"]
        say(f"check {action} {item} {name}: ok, from float64 {max(errors[name].values()):.1e}")
    return errors, wrong


def _checked(name: str, action: str, item: str, threads: int, device: str = "cpu") -> dict:
    with Process(name, threads, device) as process:
        lacking = process.ask("lacks", action=action, item=item)
        return lacking if lacking["reason"] else process.ask("check", action=action, item=item, steps=STEPS)


def measure(action: str, item: str, about, errors, machine: Machine, rounds: int) -> tuple[list[dict], dict, list[str]]:
    """Rows of those that have passed the check, what the watch saw by row, and what failed."""
    rows, seen, wrong = [], {}, []
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(Process(name, machine.threads, machine.device)) for name in errors}
        processes = _asked(processes, wrong, "setup", action=action, item=item)
        for part in parts(action, item):
            processes = _asked(processes, wrong, "begin", part=part)
            seconds = _rounds(processes, machine.watch, rounds, ROUND_SECONDS[action])
            memory = {name: p.ask("memory")["rss_mb"] for name, p in processes.items()}
            row = name_of(action, item, part)
            floor = floors.milliseconds(action, item, part, machine.peak)
            rows += table_rows(row, seconds, about, {n: e[part] for n, e in errors.items()}, memory, floor)
            seen[row] = {"gflops": [r / 1e9 for r in machine.watch.rates], "repeated": machine.watch.repeated}
    return rows, seen, wrong


def _asked(processes: dict[str, Process], wrong: list[str], do: str, **arguments) -> dict[str, Process]:
    """Those that can answer; the errors of the others are added to ``wrong``."""
    able = {}
    for name, process in processes.items():
        try:
            process.ask(do, **arguments)
            able[name] = process
        except Failed as error:
            wrong.append(f"{' '.join(arguments.values())} {error}")
    return able


def _rounds(processes: dict[str, Process], watch: timing.Watch, rounds: int, seconds: float) -> dict[str, list[float]]:
    watch.begin(rounds)
    turns = {name: lambda p=p: p.ask("round", seconds=seconds)["seconds"] for name, p in processes.items()}
    return timing.interleave(turns, rounds, watch)


def table_rows(row: str, seconds: dict[str, list[float]], about, errors, memory, floor_ms: float) -> list[dict]:
    """A row for each contestant, the fastest first; ratio and lead are None where their precision has no other side."""
    rows = []
    for name, taken in seconds.items():
        precision, result = about[name]["precision"], timing.summary(taken)
        base, ours = (seconds.get(n) if n in about and about[n]["precision"] == precision else None
                      for n in (REFERENCES[precision], OURS))  # fmt: skip
        rows.append({
            "row": row, "contestant": name, "version": about[name]["version"], "precision": precision,
            "ms": 1e3 * result.seconds, "spread": result.spread, "ratio": base and timing.ratio(base, taken),
            "lead": vars(timing.gain(taken, ours)) if ours and name != OURS else None, "error": errors[name],
            "floor_ms": floor_ms if precision == "float32" else None, "rss_mb": memory[name],
        })  # fmt: skip
    return sorted(rows, key=lambda r: r["ms"])


def best_peer(rows: list[dict], precision: str = "float32") -> dict | None:
    """Of one row's contestants of a precision the fastest beside dlcore."""
    peers = [r for r in rows if r["precision"] == precision and r["contestant"] != OURS]
    return min(peers, key=lambda r: r["ms"], default=None)
