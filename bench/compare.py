# SPDX-License-Identifier: Apache-2.0
"""A comparison: who takes part, whether their answers are right, and rows of rounds that take turns.

A ratio is to the reference of the same precision, round by round; dlcore's lead over each contestant likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import floors
from contestants import REFERENCES, TRUTH
from dlcore.bench import timing
from dlcore.bench.kernels import KERNELS, Mix
from dlcore.bench.peak import Peak, Streams
from leads import OURS, ROWS
from process import Absent, Failed, Pool, Process, ask_all, ask_one

STEPS = 5
TOLERANCES = {"float32": 5e-4, "bf16": 5e-2, "tf32": 6e-3}  # of losses after a few steps, and of outputs
ROUND_SECONDS = {"train": 0.3, "infer": 0.1, "ops": 0.2}
FLOOR = "floor"  # takes turns with the contestants where bytes bind a row


@dataclass(frozen=True)
class Machine:
    """What the measurement needs of the machine: its peaks, the watch over the rounds, what moves bytes as a row does, without
    which they move at the bandwidth of the peaks, and what a GPU's clocks are."""

    peak: Peak
    watch: timing.Watch
    streams: Callable[[Mix, int], Streams] | None = None
    clocks: Callable[[], dict] = dict


def parts(action: str, item: str) -> tuple[str, ...]:
    """What is timed of a net or a kernel."""
    return {"train": ("step",), "infer": ROWS}.get(action) or KERNELS[item].parts


def name_of(action: str, item: str, part: str) -> str:
    """A row's name."""
    return {"train": item, "infer": f"{item} batch {part}"}.get(action, f"{item} {part}")


def present(pool: Pool, names: Iterable[str], say: Callable[[str], None]) -> tuple[dict[str, dict], list[str]]:
    """Version and precision of the contestants that are there, and what is wrong with others; where a library is not
    installed its contestant is left out."""
    found, wrong = {}, []
    with pool.started(names) as processes:
        for process in processes.values():
            process.send("hello")
        for name, process in processes.items():
            try:
                found[name] = process.answer("hello")
            except Absent as error:
                say(f"left out: {error}")
            except Failed as error:
                wrong.append(str(error))
    return found, wrong


def difference(got: list[float], want: list[float], action: str) -> float:
    """Of losses the worst relative difference, of outputs the worst as a share of the largest; infinite for a NaN."""
    largest = max(map(abs, want))
    scales = [max(abs(w), 1e-3) if action == "train" else largest for w in want]
    worst = [abs(g - w) / scale for g, w, scale in zip(got, want, scales, strict=True)]
    return max(worst) if all(e == e for e in worst) else float("inf")


def check(pool: Pool, action: str, item: str, about: dict[str, dict], say) -> tuple[dict[str, dict], list[str]]:
    """By contestant the errors of its parts, where they are right; and what is wrong with the others."""
    judge = () if action == "ops" else (TRUTH,)
    errors, wrong = {}, []
    with pool.started([*judge, *about]) as processes:
        answers = ask_all(processes, wrong, item, "check", action=action, item=item, steps=STEPS)
    if any(name not in answers for name in judge):
        return {}, wrong
    for name, known in about.items():
        found = answers.get(name, {"reason": "it has failed"})
        if "reason" in found:
            say(f"check {action} {item} {name}: left out, {found['reason']}")
            continue
        if judge:
            error, allowed = difference(found["values"], answers[TRUTH]["values"], action), TOLERANCES[known["precision"]]
            if error > allowed:
                wrong.append(f"{item} {name}: expected an error within {allowed:g}, got {error:.3g}")
                continue
            found = {"errors": dict.fromkeys(parts(action, item), error)}
        errors[name] = found["errors"]
        say(f"check {action} {item} {name}: ok, from float64 {max(errors[name].values()):.1e}")
    return errors, wrong


def measure(
    pool: Pool, action: str, item: str, about, errors, machine: Machine, rounds: int
) -> tuple[list[dict], dict, list[str]]:
    """Rows of those that have passed the check, what the watch saw by row, and what failed."""
    rows, seen, wrong = [], {}, []
    with pool.started(errors) as processes:
        ask_all(processes, wrong, item, "setup", action=action, item=item)
        for part in parts(action, item):
            row = name_of(action, item, part)
            for name in list(processes):  # one after another: each finds how many calls fill a block
                ask_one(processes, wrong, row, name, "begin", part=part)
            work, clocks = floors.work(action, item, part), Clocks(machine.clocks)
            floor = floors.Floor(work, machine.peak, machine.streams)
            seconds = _rounds(processes, wrong, row, machine.watch, rounds, ROUND_SECONDS[action], floor, clocks)
            least = seconds.pop(FLOOR, None) or [floor(0)] * rounds
            memory = {name: answer["rss_mb"] for name, answer in ask_all(processes, wrong, row, "memory").items()}
            if not memory:
                break
            seconds, exact = {n: seconds[n] for n in memory}, {n: e[part] for n, e in errors.items()}
            rows += table_rows(row, seconds, about, exact, memory, least, floor.bound)
            seen[row] = {"gflops": [r / 1e9 for r in machine.watch.rates], "repeated": machine.watch.repeated, **clocks.seen}
            if floor.measured:
                seen[row]["gb_per_second"] = [work.bytes / 1e9 / s for s in least]
    return rows, seen, wrong


class Clocks:
    """By contestant the clocks before and after each of its rounds, where a device tells them."""

    def __init__(self, read: Callable[[], dict]):
        self._read, self.seen = read, {}

    def beside(self, name: str, turn: Callable[[str], float]) -> float:
        before, seconds, after = self._read(), turn(name), self._read()
        if before and after:
            self.seen.setdefault("clocks", {}).setdefault(name, []).append([before, after])
        return seconds


def _rounds(
    processes: dict[str, Process],
    wrong: list[str],
    row: str,
    watch: timing.Watch,
    rounds: int,
    seconds: float,
    floor: floors.Floor,
    clocks: Clocks,
) -> dict[str, list[float]]:
    """Seconds by contestant and round, the floor one of them where it is measured; who fails in one is taken out, and its
    rounds are no numbers from then on."""

    def turn(name: str) -> float:
        answer = ask_one(processes, wrong, row, name, "round", seconds=seconds) if name in processes else {}
        return answer.get("seconds", float("nan"))

    watch.begin(rounds)
    turns = {name: lambda name=name: clocks.beside(name, turn) for name in processes}
    if turns and floor.measured:
        turns[FLOOR] = lambda: floor(seconds)
    return timing.interleave(turns, rounds, watch) if turns else {}


def table_rows(row: str, seconds: dict[str, list[float]], about, errors, memory, floor: list[float], bound: str) -> list[dict]:
    """A row for each contestant, the fastest first; ratio and lead are None where their precision has no other side.

    ``floor``: seconds of it by round, and what binds it.
    """
    rows = []
    for name, taken in seconds.items():
        precision, result = about[name]["precision"], timing.summary(taken)
        base, ours = (seconds.get(n) if n in about and about[n]["precision"] == precision else None
                      for n in (REFERENCES[precision], OURS.get(precision)))  # fmt: skip
        over = precision != "float32" and OURS["float32"] in seconds
        of_floor = timing.ratio(floor, taken) if precision == "float32" else None
        rows.append({
            "row": row, "contestant": name, "version": about[name]["version"], "precision": precision,
            "how": about[name].get("how", ""), "rounds_ms": [1e3 * t for t in taken],
            "ms": 1e3 * result.seconds, "spread": result.spread, "ratio": base and timing.ratio(base, taken),
            "lead": vars(timing.gain(taken, ours)) if ours and name != OURS[precision] else None,
            "over_float32": vars(timing.gain(seconds[OURS["float32"]], taken)) if over else None, "error": errors[name],
            "floor_ms": 1e3 * timing.summary(floor).seconds if of_floor else None, "of_floor": of_floor,
            "bound": bound if of_floor else None, "rss_mb": memory[name],
        })  # fmt: skip
    return sorted(rows, key=lambda r: r["ms"])
