# SPDX-License-Identifier: Apache-2.0
"""What a case measures: programs that differ by the planner's flags, NumPy beside them, and the check of answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from ..errors import expected
from . import plain
from .kernels import UNITS
from .programs import NAIVE, NUMPY, Cost, Program


class WrongAnswer(RuntimeError):
    """A result that no timing is worth."""


Results = dict[str, np.ndarray]


class Subject:
    """One case, ready to run.

    Attributes
    ----------
    name : str
    device : str
        Where the programs run; NumPy is timed beside those of the CPU only.
    parts : dict
        Part that is timed -> parts of the plan that it runs.
    programs : dict of str to Program
        By variant.
    plain : object, optional
        The NumPy version: a method for each part, and ``results(part)``.
    precision : str
        Of products.
    copies : int
        Sets of arrays that one run of a program goes through; the first is checked.
    """

    name: str
    device: str = "cpu"
    parts: ClassVar[dict[str, tuple[str, ...]]] = {}
    programs: dict[str, Program]
    plain = None
    precision, copies = "float32", 1

    def reset(self) -> None:
        """Bring everything that the programs write in place back to its beginning."""

    def results(self, part: str) -> Results:
        """The arrays that a part has just written."""
        raise NotImplementedError

    def wanted(self, found: dict[str, Results]) -> dict[str, tuple[Results, int]]:
        """By part the results in float64 and the length of their longest sum; ``found`` lends its masks."""
        raise NotImplementedError

    def plain_results(self, found: dict[str, Results]) -> dict[str, Results]:
        """The NumPy version's results, by part."""
        raise NotImplementedError

    def run(self, variant: str, part: str, times: int) -> None:
        """Run a part of a variant so many times."""
        if variant == NUMPY:
            function = getattr(self.plain, part)
            for _ in range(times):
                function()
        else:
            self.programs[variant].run(self.parts[part], times)

    def contestants(self, part: str) -> dict[str, Callable[[int], None]]:
        """Functions of the number of repetitions, by variant."""
        beside = self.plain is not None and self.device == "cpu" and self.copies == 1
        names = [NUMPY] * beside + list(self.programs)
        return {name: lambda times, name=name: self.run(name, part, times) for name in names}

    def cost(self, variant: str, part: str) -> Cost | None:
        """Bytes and flops of one set of arrays, and the bytes of all; not known of NumPy."""
        return None if variant == NUMPY else self.programs[variant].cost(self.parts[part], self.copies)

    def check(self) -> dict[tuple[str, str], float]:
        """Worst relative error by (variant, part).

        Raises
        ------
        WrongAnswer
            Fused and unfused differ in a bit, or an error is larger than rounding explains.
        """
        all_found = {variant: self._found(variant) for variant in self.programs}
        first = all_found[NAIVE]
        for variant, found in all_found.items():
            self._require_equal(variant, found, first)
        wanted, errors = self.wanted(first), {}
        if self.plain is not None:
            all_found = {NUMPY: self.plain_results(first), **all_found}
        for part, (want, depth) in wanted.items():
            allowed = self.tolerance(depth)
            for variant, found in all_found.items():
                name, worst = max(((n, plain.error(found[part][n], w)) for n, w in want.items()), key=lambda e: e[1])
                errors[variant, part] = worst
                if not worst <= allowed and variant != NUMPY:
                    got = f"a relative error of {worst:.3g} ({variant}, {part})"
                    raise WrongAnswer(expected(f"bench {self.name}", f"{name} within {allowed:.3g} of the truth", got))
        self.reset()
        return errors

    def tolerance(self, depth: int) -> float:
        """The largest relative error that rounding explains."""
        return max(plain.tolerance(depth), plain.tolerance(1, UNITS[self.precision]))

    def _found(self, variant: str) -> dict[str, Results]:
        self.reset()
        found = {}
        for part in self.parts:
            self.run(variant, part, 1)
            found[part] = {name: array.copy() for name, array in self.results(part).items()}
        return found

    def _require_equal(self, variant: str, found, first) -> None:
        for part, results in first.items():
            for name, array in results.items():
                if array.tobytes() != found[part][name].tobytes():
                    differ = int((array != found[part][name]).sum())
                    got = f"{differ} of {array.size} elements of {name} ({variant}, {part}) with other bits"
                    raise WrongAnswer(expected(f"bench {self.name}", f"the bits of {NAIVE}", got))
