# SPDX-License-Identifier: Apache-2.0
"""Timing: calls in blocks, contestants in rounds that take turns, medians, and ratios round by round.

A machine is never quiet for long. Whatever slows one round slows all contestants of that round, so a ratio is taken
inside each round and the median over the rounds is reported. This file imports nothing of dlcore: the workers of
bench/peers.py load it alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

BLOCK_SECONDS = 0.008  # of a block of calls: long against the clock's step and the scheduler's tick
WARM_SECONDS = 0.02
SETTLE_SECONDS = 0.03  # between two contestants: threads of the one before stop spinning (OpenBLAS: tens of ms)
NOISE = 0.03  # a gain below this is none


class Timer:
    """Seconds of one call of ``function(times)``, which repeats itself ``times`` times.

    Parameters
    ----------
    function : callable
        What is timed. It is called until it is warm and a block of calls is long enough.
    clock : callable
        Seconds; a test brings its own.
    """

    def __init__(self, function: Callable[[int], object], clock: Callable[[], float] = time.perf_counter):
        self._function, self._clock, self.times = function, clock, 1
        begin = clock()
        while (seconds := self._block()) < BLOCK_SECONDS or clock() - begin < WARM_SECONDS:
            if seconds < BLOCK_SECONDS:
                enough = int(self.times * BLOCK_SECONDS / max(seconds, 1e-9)) + 1
                self.times = max(self.times + 1, min(enough, 8 * self.times))

    def __call__(self, seconds: float) -> float:
        """The median of the blocks that fit into so many seconds, at least two."""
        end, blocks = self._clock() + seconds, []
        while len(blocks) < 2 or self._clock() < end:
            blocks.append(self._block() / self.times)
        return statistics.median(blocks)

    def _block(self) -> float:
        begin = self._clock()
        self._function(self.times)
        return self._clock() - begin


def interleave(contestants: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds by contestant and round; who begins changes from round to round."""
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            time.sleep(SETTLE_SECONDS)
            seconds[name].append(contestants[name]())
    return seconds


@dataclass(frozen=True)
class Summary:
    """Median of the rounds, and their interquartile range as a share of it."""

    seconds: float
    spread: float


def summary(rounds: list[float]) -> Summary:
    """Median and spread of the rounds.

    >>> summary([1.0, 2.0, 4.0])
    Summary(seconds=2.0, spread=0.75)
    """
    middle = statistics.median(rounds)
    if len(rounds) < 2:
        return Summary(middle, 0.0)
    first, _, third = statistics.quantiles(rounds, n=4, method="inclusive")
    return Summary(middle, (third - first) / middle)


@dataclass(frozen=True)
class Gain:
    """How many times faster: the median over the rounds, and what three quarters of the rounds exceed."""

    times: float
    low: float


def gain(base: list[float], other: list[float]) -> Gain:
    """What the other gains over ``base``, round by round.

    >>> gain([2.0, 2.0, 2.0], [1.0, 2.0, 0.5])
    Gain(times=2.0, low=1.5)
    """
    ratios = [b / o for b, o in zip(base, other, strict=True)]
    low = ratios[0] if len(ratios) < 2 else statistics.quantiles(ratios, n=4, method="inclusive")[0]
    return Gain(statistics.median(ratios), low)


def ratio(base: list[float], other: list[float]) -> float:
    """How many times faster than ``base`` the other is: the median over the rounds of base / other.

    >>> ratio([2.0, 3.0, 40.0], [1.0, 1.0, 10.0])
    3.0
    """
    return gain(base, other).times
