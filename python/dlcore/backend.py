# SPDX-License-Identifier: Apache-2.0
"""The compiled backends, one for each real type, and the number of threads they may use."""

from __future__ import annotations

from functools import cache

import numpy as np

from . import _core
from .arguments import one_of, positive_int

_threads = 0


@cache
def get(dtype: str = "float32"):
    """The CPU backend that computes in ``dtype`` ("float32" or "float64")."""
    return _core.Backend(real=one_of("dtype", dtype, ("float32", "float64")))


PRECISIONS = _core.PRECISIONS


def describe_precision(backend, precision: str) -> str:
    """How a backend makes products of this precision, and why."""
    plain = f"multiply-adds in {backend.real}"
    if backend.unit is None:
        reason = "" if precision == "float32" else f", as {backend.isa} has no bf16 matrix unit"
        return plain + reason
    terms = backend.terms(precision, 2**20, 2**20, 2**20)
    return f"{terms} bf16 term{'s' if terms > 1 else ''} on {backend.unit}, {plain} where a product is too small to gain"


def formulas():
    """A backend asked only for its lists of activations, rules and losses."""
    return get("float32")


def num_threads(threads: int | None = None) -> int:
    """Threads that nets use unless told otherwise; with an argument, set them first.

    Default: the cores this process may run on, or OMP_NUM_THREADS. Results have the same bits for any number.

    Parameters
    ----------
    threads : int, optional
        At least 1.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.num_threads() >= 1
    True
    """
    global _threads
    if threads is not None:
        _threads = positive_int("num_threads", threads)
    return _threads or _core.default_threads()


def select_device(device: str) -> str:
    """The device to use: ``auto`` and ``cpu`` give the CPU; ``cuda`` must be available.

    Raises
    ------
    RuntimeError
        CUDA asked for and not available; the message says why.
    """
    one_of("device", device, ("auto", "cpu", "cuda"))
    if device == "cuda":
        raise RuntimeError(f"device: expected an available device, got 'cuda' ({_core.cuda_info()['reason']})")
    return "cpu"


def allocate(count: int, dtype: str) -> np.ndarray:
    """A zeroed, aligned array of the backend's own memory."""
    arena = get().allocate(max(1, count) * np.dtype(dtype).itemsize)
    return np.frombuffer(arena, dtype=dtype)[:count]
