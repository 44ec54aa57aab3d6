# SPDX-License-Identifier: Apache-2.0
"""Planned programs with their memory: traced once, then finished with the planner's flags as the variants of a table.

What differs between the variants is `fuse` and `record`, nothing else: inputs, parameters and results are shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .. import backend as backends
from ..graph import Trace, Value, substitute
from ..plan import Plan, finish
from ..plan.record import instruction_bytes
from ..plan.sections import flops

NUMPY = "numpy"
VARIANTS = {"unfused unrecorded": (False, False), "unfused recorded": (False, True), "fused recorded": (True, True)}
NAIVE, UNFUSED, FUSED = VARIANTS


@dataclass(frozen=True)
class Cost:
    """Bytes and flops of one run, from the plan, and the bytes of all the memory that it touches."""

    bytes: int
    flops: float
    live: int


class Program:
    """A plan, run over given arenas and scratch of its own.

    Parameters
    ----------
    backend, plan : Backend, Plan
        What records and runs, and what.
    arenas : mapping
        Arrays by arena name, scratch excepted.
    threads : int
    record : bool
        False: every recording, which then holds one node, is a call of its own: op by op.
    """

    def __init__(self, backend, plan: Plan, arenas: Mapping[str, object], threads: int, record: bool):
        self.plan, self._backend, self._threads, self._record = plan, backend, threads, record
        self._arenas = {**arenas, "scratch": backends.allocate(plan.scratch_bytes, "uint8")}

    def run(self, parts: tuple[str, ...], times: int = 1) -> None:
        """Run parts in order, and that so many times."""
        if self._record:
            self.plan.run(self._arenas, [(parts, times)], self._threads)
            return
        bases = self.plan.bases(self._arenas)
        steps = [[([r], 1)] for part in parts for r in self.plan.recordings[part]]
        for _ in range(times):
            for step in steps:
                self._backend.run(step, bases, self._threads)

    def cost(self, parts: tuple[str, ...]) -> Cost:
        """Of one run of these parts."""
        nodes = [n for part, section in self.plan.sections if part in parts for n in section.nodes]
        live = sum(memoryview(b).nbytes for b in self.plan.bases(self._arenas) if b is not None)
        return Cost(sum(instruction_bytes(self.plan.instructions[n]) for n in nodes), sum(map(flops, nodes)), live)


def variants(backend, trace: Trace, segments, targets, arenas: Mapping[str, object], threads: int) -> dict[str, Program]:
    """A program for each variant; results go to the arenas that ``targets`` names."""
    programs = {}
    for name, (fuse, record) in VARIANTS.items():
        nodes = list(finish(backend, trace, segments, fuse=fuse, record=record, targets=targets).instructions)
        saved = _saved(nodes)
        plan = Plan(backend, substitute(nodes, saved), segments, record=record)
        memory = {v.kind: backends.allocate(v.elements, backend.real) for v in saved.values()}
        programs[name] = Program(backend, plan, {**arenas, **memory}, threads, record)
    return programs


def _saved(nodes) -> dict[Value, Value]:
    """What backward reads of forward, in arenas of its own: backward can then be run alone, many times."""
    written = {v for n in nodes if n.section == "gradients" for v in n.writes() if v.kind == "temporary"}
    read = [v for n in nodes if n.section == "backward" for v in n.reads() if v in written]
    return {v: replace(v, kind=f"saved {v.name}") for v in dict.fromkeys(read)}
