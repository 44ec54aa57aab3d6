# SPDX-License-Identifier: Apache-2.0
"""What a contestant is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from workloads import kernels


class Contestant:
    """A library that trains the nets of the layer language, predicts with them or runs single ops, in its own process.

    Parameters
    ----------
    threads : int
        How many it may use.
    """

    precision = "float32"  # contestants are compared within a precision
    actions: tuple[str, ...] = ("train", "infer", "ops")
    kinds: tuple[str, ...] | None = None  # of ops; None: all

    def __init__(self, threads: int):
        self.threads = threads

    @staticmethod
    def supports(workload) -> bool:
        """Can it express this net?"""
        return True

    def build(self, workload, parameters: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray, lr: float, dropout: bool) -> None:
        """Make the net with these initial values and keep the batch; ``dropout=False`` leaves nothing to chance."""
        raise NotImplementedError

    def step(self) -> None:
        """Forward, loss, backward and update on the batch; `wait` finishes it."""
        raise NotImplementedError

    def loss(self) -> float:
        """The loss of the last step, before its update."""
        raise NotImplementedError

    def predictor(self, x: np.ndarray) -> Callable[[], object]:
        """The prepared call that gives the built net's outputs in evaluation mode, of these rows."""
        raise NotImplementedError

    def to_numpy(self, result) -> np.ndarray:
        """What a call has returned as an array of at least float32."""
        return np.asarray(result)

    def logits(self, outputs) -> np.ndarray:
        """The outputs of a predictor: reals, or logits up to a constant of each row."""
        return self.to_numpy(outputs)

    def op(self, kernel, given) -> dict[str, Callable[[], Sequence]]:
        """For each part of a kernel the call that returns its results, in the order of ``kernel.results(part)``.

        ``given`` holds the inputs (`workloads.kernels.given`); forward runs before backward; a call may do its part again.
        """
        raise NotImplementedError

    def ops(self, kernel) -> dict[str, Callable[[], object]]:
        """The calls that are timed: those of `op`, or of a cold kernel calls that go through all its copies."""
        copies = [self.op(kernel, kernels.given(kernel)) for _ in range(kernel.copies)]
        if len(copies) == 1:
            return copies[0]
        return {part: lambda part=part: [calls[part]() for calls in copies] for part in kernel.parts}

    def op_errors(self, kernel) -> dict[str, float]:
        """By part the error from float64, which rounding must explain; inputs are made twice, as calls may change them."""
        calls, truth = self.op(kernel, kernels.given(kernel)), kernels.given(kernel)
        found = {part: [np.array(self.to_numpy(a)) for a in calls[part]()] for part in kernel.parts}
        return kernels.errors(kernel, truth, found, self.precision)

    def many(self, part: str, call: Callable[[], object]) -> Callable[[int], object]:
        """A function of how often a part's call is repeated, which returns when all is finished."""

        def repeat(times: int) -> None:
            for _ in range(times):
                call()
            self.wait()

        return repeat

    def wait(self) -> None:
        """Until everything is finished that was begun."""

    def how(self) -> str:
        """What its name does not say of how it computes here."""
        return ""

    def version(self) -> str:
        raise NotImplementedError
