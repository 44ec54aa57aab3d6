# SPDX-License-Identifier: Apache-2.0
"""The contestants by name. A new one is a file with a subclass of `Contestant` and a line here.

Modules are imported only in the contestant's own process; what its environment must hold before Python starts stands
here, so that the driver imports no peer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module


@dataclass(frozen=True)
class Entry:
    """Module and class of a contestant, and its environment."""

    module: str
    cls: str
    environment: dict[str, str] = field(default_factory=dict)

    def load(self) -> type:
        return getattr(import_module(f"contestants.{self.module}"), self.cls)


REGISTRY = {
    "dlcore": Entry("dlcore_", "Dlcore"),
    "torch_eager": Entry("torch_", "TorchEager"),
    "numpy": Entry("numpy_", "Numpy"),
    "torch_float64": Entry("torch_", "TorchFloat64"),
}
REFERENCE = "torch_eager"  # ratios are to it, and answers are checked against it
TRUTH = "torch_float64"  # errors are to it; it is not timed
