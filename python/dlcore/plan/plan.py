# SPDX-License-Identifier: Apache-2.0
"""The plan: placed values, sections, recordings, and the listing that shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..graph import Node, Value
from ..ops import Product
from .copies import PART
from .depth_first import sections
from .listing import listing
from .place import Block, in_place, lifetimes, place
from .precision import precision_line
from .record import Lowering, instruction_bytes
from .sections import Section, flops, worth_sharing

TABLE_OFFSETS = {"counters": 0, "metrics": 64, "grad_scale": 128}
TABLE_BYTES = 192


class Bound:
    """A recorded plan over arenas that are held from run to run. Made with all the memory that its runs take."""

    def __init__(self, plan: Plan, arenas: Mapping[str, object], program):
        self.plan = plan
        (call,) = plan.calls_of(program, apart=True)
        self._prepared = plan.prepare(call, arenas)
        self.parts, self._once = len(call) - plan.begins, [1] * plan.begins
        self._prepared.run(times=[0] * len(call))

    def run(self, arenas: Mapping[str, object], times, threads: int) -> None:
        """Run the parts of the program so many times; arenas that are not given stay."""
        for i, name in enumerate(self.plan.arenas):
            if name in arenas:
                self._prepared.set(i, arenas[name])
        self._prepared.run(threads, [*self._once, *times])


@dataclass(frozen=True)
class Segment:
    """Where a parameter lies in the parameter (and gradient) arena, in elements."""

    offset: int
    size: int


class Plan:
    """What the passes made of one net for one batch size: instructions over arena offsets.

    Attributes
    ----------
    sections : list of (part, Section)
        In running order; the parts of a training step are ``gradients`` and ``update``, the seam between them.
    recordings : dict
        For each part the recordings to run in order: one when recorded, one a node when not.
    arenas : tuple of str
        Arena names in the order of their ids, the order of the bases that the backend is given.
    precision, gemm : str
        Of products, as asked for; the listing says what became of them.
    scratch_bytes, calls, bytes, flops
        Size of the scratch arena, and what one run of every part calls, moves and computes.
    """

    def __init__(
        self, backend, nodes: list[Node], segments: Mapping, *, precision: str = "float32", gemm: str = "auto",
        record: bool = True, replay: bool = False,
    ):  # fmt: skip
        self._backend, self._segments, self._recorded = backend, segments, record
        self.precision, self.gemm = precision, gemm
        self._lowering = Lowering(backend, {}, self._offset)
        self._offsets: dict[object, int] = {}
        self._constant_offsets: dict[Value, int] = {}
        self.constants = self._pack_constants(nodes)
        own = {n: backend.scratch(self._lowering.instruction(n)) for n in nodes}
        self.parts = tuple(dict.fromkeys(n.section for n in nodes))
        self.begins = PART in self.parts
        self.sections = self._sections(nodes, own)
        self._lowering.local = {v: (at, s.row_bytes) for _, s in self.sections for v, at in s.local.items()}
        ordered = [n for _, s in self.sections for n in s.nodes]
        self._lowering.places = in_place(ordered, self._lowering.local)
        self.blocks = self._blocks(own, replay)
        self._offsets, self.scratch_bytes = place(self.blocks)
        self.instructions = {n: self._lower(n, own[n]) for _, s in self.sections for n in s.nodes}
        self.recordings = {part: self._record((part,), record) for part in self.parts}
        self._joined: dict[tuple, list] = {}
        self.arenas = tuple(self._lowering.arenas)
        self.calls = len(self.instructions)
        self.bytes = sum(map(instruction_bytes, self.instructions.values()))
        self.flops = sum(map(flops, self.instructions))

    def run(self, arenas: Mapping[str, object], program=((("gradients",), 1),), threads: int = 1) -> None:
        """Run parts over the given arenas; ``program`` is a list of (parts in order, times)."""
        bases = self.bases(arenas)
        for call in self.calls_of(program):
            self._backend.run(call, bases, threads)

    def prepare(self, call: list, arenas: Mapping[str, object]):
        """One call bound to its arenas, for many runs."""
        return self._backend.prepare(call, self.bases(arenas), self.arenas)

    def calls_of(self, program, apart: bool = False) -> list[list]:
        """What the backend is handed: one call with the whole program, or, unrecorded, one call a kernel.

        Weights are packed before the first of its lists, in the same one where that runs once, unless ``apart``.
        """
        if self.begins:
            (parts, times), *more = program
            alone = apart or times != 1
            program = [((PART,), 1), *program] if alone else [((PART, *parts), 1), *more]
        lists = [(self._recordings(parts), times) for parts, times in program]
        lists = [(recordings, times) for recordings, times in lists if recordings and times]
        if self._recorded:
            return [lists] if lists else []
        return [[([r], 1)] for recordings, times in lists for _ in range(times) for r in recordings]

    def _recordings(self, parts: tuple) -> list:
        """Of some parts in order; on a device one of them all, so that a step is one graph."""
        if not self._recorded or self._backend.name == "cpu" or len(set(parts)) < len(parts):
            return [r for part in parts for r in self.recordings[part]]
        if parts not in self._joined:
            self._joined[parts] = self._record(parts, True)
        return self._joined[parts]

    def bases(self, arenas: Mapping[str, object]) -> list:
        """The buffers of this plan's arenas in the order of their ids."""
        return [self.constants if name == "constants" else arenas[name] for name in self.arenas]

    def __str__(self) -> str:
        sizes = {"scratch": self.scratch_bytes, "constants": self.constants.nbytes}
        counts = {"calls": self.calls, "bytes": self.bytes, "flops": self.flops}
        lines = listing(self.sections, self._offset, lambda n: instruction_bytes(self.instructions[n]), sizes, counts)
        return f"{lines}\n{precision_line(self.instructions, self._backend, self.precision, self.gemm)}"

    def _offset(self, value: Value) -> int:
        value = self._lowering.places.get(value, value)
        if value.kind == "temporary":
            return self._offsets.get(value, 0)
        if value.kind == "copies":
            element = self._segments[value.parameter].offset * value.ld if value.parameter else 0
            return element * self._lowering.itemsize(value)
        if value.kind in ("parameter", "gradient"):
            return self._segments[value.parameter].offset * self._lowering.itemsize(value) if value.parameter else 0
        if value.kind == "table":
            return TABLE_OFFSETS[value.name]
        return self._constant_offsets[value] if value.kind == "constant" else value.offset

    def _pack_constants(self, nodes) -> np.ndarray:
        """All constants of the plan in one array of reals, each on its own cache line."""
        dtype, parts, offset = np.dtype(self._backend.real), [np.zeros(0, self._backend.real)], 0
        for v in sorted({v for n in nodes for v in n.reads() if v.kind == "constant"}, key=lambda v: v.name):
            self._constant_offsets[v] = offset
            padded = np.zeros(-(-v.elements * dtype.itemsize // 64) * 64 // dtype.itemsize, dtype)
            padded[: v.elements] = v.constant
            parts.append(padded)
            offset += padded.nbytes
        return np.concatenate(parts)

    def _blocks(self, own, replay: bool) -> list[Block]:
        """Lifetimes, stretched over sections whose row chunks run through all nodes without a barrier, and to the end for
        what the last part reads from those before it, when that part may run again."""
        nodes, first, last = [], [], []
        for _, section in self.sections:
            start, count = len(nodes), len(section.nodes)
            for i in range(start, start + count):
                first.append(start if section.block_rows else i)
                last.append(start + count - 1 if section.block_rows else i)
            nodes.extend(section.nodes)
        blocks = lifetimes(nodes, lambda v: v.elements * self._lowering.itemsize(v), own.__getitem__, self._lowering.places)
        blocks = [b for b in blocks if b.key not in self._lowering.local]
        again = len(nodes) - sum(n.section == self.parts[-1] for n in nodes) if replay else len(nodes)
        end = {b.key: len(nodes) - 1 if b.first < again <= b.last else last[b.last] for b in blocks}
        return [replace(b, first=first[b.first], last=end[b.key]) for b in blocks]

    def _sections(self, nodes: list[Node], own) -> list[tuple[str, Section]]:
        """Sections in order, each with its part."""
        inside = {part: [n for n in nodes if n.section == part] for part in self.parts}
        if not self._recorded or self._backend.name != "cpu":
            return [(part, Section((n,))) for part in self.parts for n in inside[part]]
        phases = {n: 1 if own[n] == 0 and not any(s.op.reduces for s in n.chain) else 2 for n in nodes}
        found = [(part, s) for part in self.parts for s in self._cut(nodes, inside[part], phases)]
        if worth_sharing([s for _, s in found], phases):
            return found
        return [(part, Section(tuple(n for p, s in found if p == part for n in s.nodes), serial=True)) for part in self.parts]

    def _cut(self, nodes: list[Node], inside: list[Node], phases: Mapping[Node, int]) -> list[Section]:
        depths = {n: self._backend.depth(self._lowering.instruction(n)) for n in inside if n.op is Product}
        others = set(nodes).difference(inside)
        return sections(inside, phases, depths, {v for n in others for v in n.reads()}, self._lowering.itemsize)

    def _lower(self, node: Node, scratch_bytes: int):
        return self._lowering.instruction(node, (self._offsets[node], scratch_bytes) if scratch_bytes else None)

    def _record(self, parts: tuple, record: bool) -> list:
        sections = [
            ([self.instructions[n] for n in s.nodes], s.serial, s.block_rows, s.row_bytes)
            for part, s in self.sections
            if part in parts
        ]
        if record:
            return [self._backend.record(sections)] if sections else []
        return [self._backend.record([s]) for s in sections]
