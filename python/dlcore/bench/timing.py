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
SHARE = 0.8  # of the best rate of a probe: below it another process has had the machine
READINGS = 10  # of the probe before the first round, to know its best rate
REPEATS = 3  # rounds that may run again, for each that is asked for
PAUSE_SECONDS = 1.0  # before a round runs again
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


class Watch:
    """Tells rounds in which something else took the machine, by the rate of a probe before and after each.

    Parameters
    ----------
    probe : callable
        The rate of all threads, such as multiply-adds a second.
    sleep : callable
        Pauses for some seconds; a test brings its own.

    Attributes
    ----------
    rates : list of float
        The lower rate beside each round that counts.
    repeated : int
        Rounds that ran again.
    """

    def __init__(self, probe: Callable[[], float], sleep: Callable[[float], object] = time.sleep):
        self._probe, self._sleep = probe, sleep
        self.best = max(probe() for _ in range(READINGS))
        self.begin(0)

    def begin(self, rounds: int) -> None:
        """Forget the rounds so far, not the best rate, before so many others.

        REPEATS times as many may run again; after that slow ones stay, and their rates show it.
        """
        self.rates: list[float] = []
        self.repeated, self._repeats = 0, REPEATS * rounds

    def guard(self, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """The first result of ``measure`` beside which the machine was all there."""
        while True:
            before = self._rate()
            taken = measure() if self._good(before) else None
            rate = min(before, self._rate())
            if taken is not None and self._good(rate):
                self.rates.append(rate)
                return taken
            self.repeated += 1
            self._sleep(PAUSE_SECONDS)

    def _rate(self) -> float:
        self._sleep(SETTLE_SECONDS)
        rate = self._probe()
        self.best = max(self.best, rate)
        return rate

    def _good(self, rate: float) -> bool:
        return rate >= SHARE * self.best or self.repeated >= self._repeats


def interleave(contestants: dict[str, Callable[[], float]], rounds: int, watch: Watch | None = None) -> dict[str, list[float]]:
    """Seconds by contestant and round; who begins changes from round to round."""
    names = list(contestants)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        order = names[i % len(names) :] + names[: i % len(names)]
        measure = lambda order=order: {name: _settled(contestants[name]) for name in order}  # noqa: E731
        for name, taken in (watch.guard(measure) if watch else measure()).items():
            seconds[name].append(taken)
    return seconds


def _settled(contestant: Callable[[], float]) -> float:
    time.sleep(SETTLE_SECONDS)
    return contestant()


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
    """How many times faster: the median over the rounds, and what three quarters of them exceed, and one quarter."""

    times: float
    low: float
    high: float


def gain(base: list[float], other: list[float]) -> Gain:
    """What the other gains over ``base``, round by round.

    >>> gain([2.0, 2.0, 2.0], [1.0, 2.0, 0.5])
    Gain(times=2.0, low=1.5, high=3.0)
    """
    ratios = [b / o for b, o in zip(base, other, strict=True)]
    if len(ratios) < 2:
        return Gain(*3 * ratios)
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Gain(middle, low, high)


def ratio(base: list[float], other: list[float]) -> float:
    """How many times faster than ``base`` the other is: the median over the rounds of base / other.

    >>> ratio([2.0, 3.0, 40.0], [1.0, 1.0, 10.0])
    3.0
    """
    return gain(base, other).times
