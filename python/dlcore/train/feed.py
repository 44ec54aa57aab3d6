# SPDX-License-Identifier: Apache-2.0
"""Where programs read a data set: on the host as it is; on a device in its memory, or through it piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .. import backend as backends
from ..inputs import Rows
from ..plan import Batch, Source

RESIDENT_SHARE = 0.5  # of a device's free memory that a data set may take; a larger one is streamed

Sizes = list[tuple[int, int]]  # (rows of a batch, how many), in the order of an epoch


@dataclass
class Piece:
    """Batches of one size that programs find in ``arenas``, the first of them at row ``position``."""

    size: int
    batches: int
    position: int
    arenas: dict


class Resident:
    """All rows at once; an order picks those of a batch."""

    def __init__(self, net, rows: Rows, sizes: Sizes, ordered: bool):
        self.net, self.rows, self.sizes, self.ordered = net, rows, sizes, ordered
        backend = net.backend
        self.sources = {name: self._source(a) for name, a in rows.arenas().items() if a is not None}
        self.arenas = {name: a if a is None else backends.resident(backend, name, a) for name, a in rows.arenas().items()}

    def _source(self, array) -> Source:
        copied = self.net.backend.name != "cpu" and isinstance(array, np.ndarray)
        return Source.of(array).contiguous() if copied else Source.of(array)

    def batch(self, size: int) -> Batch:
        order_rows = len(self.rows) if self.ordered else 0
        return Batch(size, **self.sources, ordered=self.ordered, order_rows=order_rows, **self.net.input_affine())

    def pieces(self, order: np.ndarray | None) -> Iterator[Piece]:
        position = 0
        for size, batches in self.sizes:
            yield Piece(size, batches, position, {**self.arenas, "order": order})
            position += size * batches


class Streamed:
    """Some batches at a time, in one of two buffers: while kernels read one, the other is filled."""

    def __init__(self, net, rows: Rows, sizes: Sizes, accumulate: int):
        self.net, self.rows, self.sizes, self.accumulate = net, rows, sizes, accumulate
        self.arrays = {name: a for name, a in rows.arenas().items() if a is not None}
        row_bytes = sum(a.nbytes // len(a) for a in self.arrays.values())
        budget = min(backends.PIECE_BYTES, int(net.backend.room * RESIDENT_SHARE / 2))
        least = accumulate * max(size for size, _ in sizes)
        self.capacity = min(len(rows), max(least, budget // row_bytes))
        self.buffers = [self._buffer() for _ in range(2)]
        self.arenas = self._arenas(0)

    def _buffer(self) -> dict:
        sizes = {name: self.capacity * a.nbytes // len(a) for name, a in self.arrays.items()}
        return {name: backends.on_device(self.net.backend, name, self.net.backend.feed, n) for name, n in sizes.items()}

    def _arenas(self, i: int) -> dict:
        return {name: self.buffers[i % 2][name].arena if name in self.arrays else None for name in self.rows.arenas()}

    def batch(self, size: int) -> Batch:
        sources = {name: Source.of(a).contiguous(self.capacity) for name, a in self.arrays.items()}
        return Batch(size, **sources, **self.net.input_affine())

    def pieces(self, order: np.ndarray | None) -> Iterator[Piece]:
        from concurrent.futures import ThreadPoolExecutor  # imported late: 1 MB that most programs never use

        cuts = list(self._cuts())
        with ThreadPoolExecutor(1) as pool:
            filled = pool.submit(self._fill, 0, order, *cuts[0])
            for i, (size, batches, _) in enumerate(cuts):
                filled.result()
                if i + 1 < len(cuts):
                    filled = pool.submit(self._fill, i + 1, order, *cuts[i + 1])
                for feed in self.buffers[i % 2].values():
                    feed.expect()
                yield Piece(size, batches, 0, self._arenas(i))

    def _cuts(self) -> Iterator[tuple[int, int, int]]:
        """(rows of a batch, batches, first row) of each piece: whole updates, as many as a buffer holds."""
        first = 0
        for size, count in self.sizes:
            most = self.capacity // (size * self.accumulate) * self.accumulate
            for done in range(0, count, most):
                batches = min(most, count - done)
                yield size, batches, first
                first += size * batches

    def _fill(self, i: int, order: np.ndarray | None, size: int, batches: int, first: int) -> None:
        rows = slice(first, first + size * batches)
        for name, array in self.arrays.items():
            feed, shape = self.buffers[i % 2][name], (size * batches, *array.shape[1:])
            feed.settle()
            into = np.frombuffer(feed, array.dtype)[: np.prod(shape)].reshape(shape)
            if order is None:
                into[...] = array[rows]
            elif array.flags.c_contiguous:
                np.take(array, order[rows], axis=0, out=into, mode="clip")
            else:
                into[...] = array[order[rows]]
            feed.send(into.nbytes)


def feed(net, rows: Rows, sizes: Sizes, *, ordered: bool = False, accumulate: int = 1) -> Resident | Streamed:
    """The rows where programs of the net's device read them best."""
    if net.backend.name == "cpu" or not isinstance(rows.x, np.ndarray):
        return Resident(net, rows, sizes, ordered)
    if sum(a.nbytes for a in rows.arenas().values() if a is not None) <= net.backend.room * RESIDENT_SHARE:
        try:
            return Resident(net, rows, sizes, ordered)
        except MemoryError:
            pass  # less was free than it seemed
    return Streamed(net, rows, sizes, accumulate)
