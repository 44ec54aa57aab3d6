# SPDX-License-Identifier: Apache-2.0
"""Planned programs with their memory: traced once, then finished with the planner's flags as the variants of a table.

What differs between the variants is `fuse` and `record`, nothing else: inputs, parameters and results are shared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .. import backend as backends
from ..backend import Memory
from ..graph import Trace
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


class Arrays:
    """Arrays by name, each with a twin where a backend works on it; indexing gives the host's, to read and to write."""

    def __init__(self, backend, **arrays: np.ndarray):
        self.memories, self._shapes = {}, {name: a.shape for name, a in arrays.items()}
        for name, array in arrays.items():
            self.memories[name] = Memory(backend, name, array.size, array.dtype.name)
            self[name][...] = array

    def __getitem__(self, name: str) -> np.ndarray:
        return self.memories[name].array.reshape(self._shapes[name])


class Program:
    """A plan, run over given arenas and scratch of its own; ``arenas``: arrays and memories by arena name."""

    def __init__(self, backend, plan: Plan, arenas: Mapping[str, object], threads: int):
        self.plan, self._threads, self._given = plan, threads, dict(arenas)
        self._scratch = backends.allocate_on(backend, "scratch", max(1, plan.scratch_bytes))

    @property
    def _arenas(self) -> dict[str, object]:
        bases = {name: a.base if isinstance(a, Memory) else a for name, a in self._given.items()}
        return {**bases, "scratch": self._scratch}

    def run(self, parts: tuple[str, ...], times: int = 1) -> None:
        """Run parts in order, and that so many times; waits once, at the end."""
        self.plan.run(self._arenas, [(parts, times)], self._threads)

    def cost(self, parts: tuple[str, ...], copies: int = 1) -> Cost:
        """Of one run of these parts; bytes and flops of one of so many copies that it goes through."""
        nodes = [n for part, section in self.plan.sections if part in parts for n in section.nodes]
        live = sum(b.nbytes for b in self.plan.bases(self._arenas) if b is not None)
        moved = sum(instruction_bytes(self.plan.instructions[n]) for n in nodes)
        return Cost(moved // copies, sum(map(flops, nodes)) / copies, live)


def variants(
    backend, trace: Trace, segments, targets, arenas: Mapping[str, object], threads: int, gemm: str = "auto",
    precision: str = "float32",
) -> dict[str, Program]:  # fmt: skip
    """A program for each variant; results go to the arenas that ``targets`` names."""
    options = {"targets": targets, "gemm": gemm, "precision": precision, "replay": True}
    return {
        name: Program(backend, finish(backend, trace, segments, fuse=fuse, record=record, **options), arenas, threads)
        for name, (fuse, record) in VARIANTS.items()
    }
