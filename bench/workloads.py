# SPDX-License-Identifier: Apache-2.0
"""The nets W1 to W8, the kernels, the timer and the NumPy versions of dlcore.bench, for processes that must not import
dlcore.

The files are found beside the installed package and imported under another name, so a peer's process holds the peer,
NumPy and nothing of dlcore that is compiled.
"""

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

ALONE = "dlcore_bench_alone"


def _alone(module: str) -> ModuleType:
    if ALONE not in sys.modules:
        spec = find_spec("dlcore")
        if spec is None or not spec.submodule_search_locations:
            raise ImportError("bench: expected dlcore to be installed, got none; run pip install . first")
        package = ModuleType(ALONE)
        package.__path__ = [str(Path(folder) / "bench") for folder in spec.submodule_search_locations]
        sys.modules[ALONE] = package
    return importlib.import_module(f"{ALONE}.{module}")


timing = _alone("timing")
plain_step = _alone("plain_step")
kernels = _alone("kernels")
_nets = _alone("workloads")
WORKLOADS, TIMING_LR, Workload, on = _nets.WORKLOADS, _nets.TIMING_LR, _nets.Workload, _nets.on
batch, find, flat, parameters = _nets.batch, _nets.find, _nets.flat, _nets.parameters
