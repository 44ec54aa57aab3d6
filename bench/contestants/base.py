# SPDX-License-Identifier: Apache-2.0
"""What a contestant is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Contestant:
    """A library that trains the nets of the layer language, in its own process.

    Parameters
    ----------
    threads : int
        How many it may use.
    """

    precision = "float32"  # contestants are compared within a precision

    def __init__(self, threads: int):
        self.threads = threads

    @staticmethod
    def supports(workload) -> bool:
        """Can it train this net?"""
        return True

    def build(self, workload, parameters: Sequence[np.ndarray], x: np.ndarray, y: np.ndarray, lr: float, dropout: bool) -> None:
        """Make the net with these initial values and keep the batch; ``dropout=False`` leaves nothing to chance."""
        raise NotImplementedError

    def step(self) -> None:
        """Forward, loss, backward and update on the batch; finished when it returns."""
        raise NotImplementedError

    def loss(self) -> float:
        """The loss of the last step, before its update."""
        raise NotImplementedError

    def version(self) -> str:
        raise NotImplementedError
