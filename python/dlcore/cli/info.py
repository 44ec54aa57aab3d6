# SPDX-License-Identifier: Apache-2.0
"""``dlcore info``: what this installation is and may use."""

from __future__ import annotations

import platform
from typing import Any

from .. import __version__, _core
from ..backend import describe_precision, get, num_threads
from .output import Output
from .parser import JSON, Parser

GEMM = {
    "auto": "simt, until a kernel below has passed its tests on a GPU",
    "simt": "multiply-adds in float32",
    "mma": "6, 3 or 1 bf16 terms by precision on tensor cores of compute capability 8.0 or later, not yet run on a GPU",
    "wgmma": "the same on those of compute capability 9.0 alone, not yet run on a GPU",
    "cublaslt": "NVIDIA's library in float32 where it is installed (pip install nvidia-cublas), not yet run on a GPU",
}


def run(argv: list[str]) -> int:
    """Print it; 1 where DLCORE_CPU asks for an instruction set that is not available."""
    parser = Parser("info", "Version, processor, threads and GPU.", "dlcore info --json", {}, [JSON])
    options = parser.given(argv)
    cpu, cuda = _core.cpu_info(), _core.cuda_info()
    values = {
        "version": __version__, "threads": num_threads(),
        "cpu": {**cpu, "machine": platform.machine()}, "precision": _precisions(cpu["chosen"]),
        "cuda": {**cuda, "gemm": GEMM}, "python": platform.python_version(),
        "numpy": _numpy_version(), "system": platform.platform(),
    }  # fmt: skip
    Output(options.get("json", False)).result(values, _text(values))
    if cpu["chosen"] is None:
        available = ", ".join(cpu["available"])
        raise ValueError(f"DLCORE_CPU: expected one of {available} on this processor, got {cpu['forced']!r}")
    return 0


def _precisions(chosen: str | None) -> dict[str, str]:
    return {name: describe_precision(get(), name) for name in _core.PRECISIONS} if chosen else {}


def _numpy_version() -> str:
    import numpy

    return numpy.__version__


def _text(values: dict[str, Any]) -> str:
    cpu, cuda = values["cpu"], values["cuda"]
    chosen = cpu["chosen"] or "none"
    why = f"DLCORE_CPU={cpu['forced']}" if cpu["forced"] else f"best of {', '.join(cpu['available'])}"
    devices = ", ".join(map(str, cuda["devices"])) or "none"
    lines = {
        "dlcore": values["version"],
        "processor": f"{cpu['vendor']} {cpu['machine']}: {' '.join(cpu['instruction_sets'])}",
        "kernels": f"{chosen} ({why})",
        **values["precision"],
        "threads": str(values["threads"]),
        "cuda": f"devices: {devices}" if cuda["available"] else f"off ({cuda['reason']})",
        **({f"  {name}": how for name, how in GEMM.items()} if cuda["available"] else {}),
        "python": f"{values['python']}, NumPy {values['numpy']}",
        "system": values["system"],
    }
    return "\n".join(f"{name:<11}{value}" for name, value in lines.items())
