# SPDX-License-Identifier: Apache-2.0
"""What this machine can do at most, measured: multiply-adds a second, and bytes a second by size and mix of what moves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from .. import _core
from .kernels import Mix

SECONDS = 0.03  # of processor time in one attempt: what other processes take does not count
ATTEMPTS = 16  # the best one counts: a peak is what the machine does when neither neighbours nor a twin thread disturb it
FMA_ROUNDS = 4_000_000  # of one call: ten milliseconds, so that the clocks around it cost nothing
CALL_BYTES = 512 << 20
GROUP = 512  # bytes that the probe of memory takes of a stream at once; more than any instruction set needs
LARGEST = 256 << 20  # bytes that no cache holds: a larger amount of memory is no slower
LEVELS = (256 << 10, 8 << 20, 128 << 20)  # bytes of a thread: its second-level cache, the last level, memory


@dataclass(frozen=True)
class Peak:
    """Limits of so many threads together.

    Attributes
    ----------
    flops : float
        Multiplications and additions a second, float32.
    read : tuple of (bytes, bytes per second)
        Bandwidth of reading again and again an amount of memory, from small to large.
    """

    threads: int
    flops: float
    read: tuple[tuple[int, float], ...]

    def bandwidth(self, live: int) -> float:
        """Of the smallest measured amount of memory that holds ``live`` bytes."""
        return next((rate for size, rate in self.read if live <= size), self.read[-1][1])

    def floor(self, flops: float, moved: int, live: int) -> float:
        """Seconds that a run takes at least: at the multiply-add peak, or at the bandwidth."""
        return max(flops / self.flops, moved / self.bandwidth(live))

    def share(self, seconds: float, flops: float, moved: int, live: int) -> float:
        """The larger of the shares of the multiply-add peak and of the bandwidth that a run has reached.

        Bytes written count as bytes read, so a kernel that mostly writes cannot reach 1.
        """
        return self.floor(flops, moved, live) / seconds


@cache
def measure(threads: int, isa: str = "") -> Peak:
    """The limits of an instruction set ("": the chosen one)."""
    flops = _best(threads, lambda _: _core.fma_probe(isa, FMA_ROUNDS))
    read = []
    for size in LEVELS:
        memory = [np.ones(size // 4, np.float32) for _ in range(threads)]  # ones: pages of their own, not the zero page
        times = max(1, CALL_BYTES // size)
        read.append((size * threads, _best(threads, lambda i, m=memory, n=times: _read(isa, m[i], n))))
    return Peak(threads, flops, tuple(read))


class Streams:
    """The machine as a contestant: it passes over so much memory in some mix, by all threads, and computes nothing.

    Parameters
    ----------
    threads : int
    mix : Mix
    live : int
        Bytes of all streams together; above `LARGEST` that many.
    isa : str
        Instruction set; "" is the chosen one.

    Attributes
    ----------
    bytes : int
        Read and written by one pass.
    """

    def __init__(self, threads: int, mix: Mix, live: int, isa: str = ""):
        length = GROUP * max(1, round(min(live, LARGEST) / (mix.streams * threads * GROUP)))  # of a stream, of a thread
        self.bytes, self._isa, self._shares = length * threads * mix.passes, isa, []
        for _ in range(threads):
            read, written, updated = ([np.ones(length // 4, np.float32) for _ in range(n)]
                                      for n in (mix.reads, mix.writes, mix.updates))  # fmt: skip
            self._shares.append((updated + read, updated + written))
        self._pool = ThreadPoolExecutor(threads)

    def run(self, times: int) -> None:
        """So many passes."""
        list(self._pool.map(lambda share: _core.memory_probe(self._isa, *share, times), self._shares))


def rate(threads: int, isa: str = "") -> float:
    """Multiplications and additions a second of all threads together, by the wall clock: what others take is missing."""
    with ThreadPoolExecutor(threads) as pool:
        begin = time.perf_counter()
        done = sum(pool.map(lambda _: _core.fma_probe(isa, FMA_ROUNDS), range(threads)))
        return done / (time.perf_counter() - begin)


def _read(isa: str, memory: np.ndarray, times: int) -> float:
    _core.memory_probe(isa, [memory], [], times)
    return float(memory.nbytes * times)


def _best(threads: int, work: Callable[[int], float]) -> float:
    """Units a second of all threads together; ``work(thread)`` does some and returns how many."""
    return max(_attempt(threads, work) for _ in range(ATTEMPTS))


def _attempt(threads: int, work: Callable[[int], float]) -> float:
    barrier = threading.Barrier(threads)

    def run(i: int) -> float:
        work(i)
        barrier.wait()
        begin, units, used = time.thread_time(), 0.0, 0.0
        while used < SECONDS:
            units += work(i)
            used = time.thread_time() - begin
        return units / used

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(run, range(threads)))
