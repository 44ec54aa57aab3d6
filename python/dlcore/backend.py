# SPDX-License-Identifier: Apache-2.0
"""The compiled backends, one for each device and real type, their memory, and the number of threads they may use."""

from __future__ import annotations

from functools import cache

import numpy as np

from . import _core
from .arguments import one_of, positive_int

_threads = 0


@cache
def get(dtype: str = "float32", device: str = "cpu"):
    """The backend of a device that computes in ``dtype`` ("float32" or, on the CPU, "float64")."""
    return _core.Backend("" if device == "cpu" else device, one_of("dtype", dtype, ("float32", "float64")))


PRECISIONS, GEMMS = _core.PRECISIONS, _core.GEMMS


def describe_precision(backend, precision: str, gemm: str = "auto") -> str:
    """How a backend makes products of this precision, and why."""
    plain = f"multiply-adds in {backend.real}"
    if backend.name != "cpu" and gemm != "mma":
        return plain if precision == "float32" else f"{plain}, as {backend.unit} are taken by name only: gemm='mma'"
    if backend.unit is None:
        reason = "" if precision == "float32" else f", as {backend.isa} has no bf16 matrix unit"
        return plain + reason
    terms = backend.terms(precision, 2**20, 2**20, 2**20, gemm)
    made = f"{terms} bf16 term{'s' if terms > 1 else ''} on {backend.unit}"
    return f"{made}, by {gemm}" if backend.name != "cpu" else f"{made}, {plain} where a product is too small to gain"


def check_gemm(who: str, backend, gemm: str) -> str:
    """The kernels of products, if the backend's device has them."""
    one_of(f"{who}: gemm", gemm, GEMMS)
    try:
        backend.terms("float32", 1, 1, 1, gemm)
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from None
    return gemm


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
    if device == "emulated" and _core.emulator_built():  # for tests
        return device
    one_of("device", device, ("auto", "cpu", "cuda"))
    cuda = _core.cuda_info()
    if device == "cuda" and not cuda["available"]:
        raise RuntimeError(f"device: expected an available device, got 'cuda' ({cuda['reason']})")
    return "cuda" if device == "cuda" else "cpu"


def allocate(count: int, dtype: str) -> np.ndarray:
    """A zeroed, aligned array of the backend's own memory."""
    arena = get().allocate(max(1, count) * np.dtype(dtype).itemsize)
    return np.frombuffer(arena, dtype=dtype)[:count]


def allocate_on(backend, name: str, size: int):
    """Bytes where a backend's programs work on them: an array of the host, or an arena of the device."""
    if backend.name == "cpu":
        return allocate(size, "uint8")
    try:
        return backend.allocate(size)
    except MemoryError as error:
        raise MemoryError(f"{backend.name}: {name}: {error}") from None


def resident(backend, array: np.ndarray | None):
    """A data set where a backend reads it fastest: copied to a device once, if it is C-contiguous."""
    if backend.name == "cpu" or array is None or not array.flags.c_contiguous:
        return array
    arena = allocate_on(backend, "data", array.nbytes)
    arena.write(array)
    return arena


class Memory:
    """A flat array that programs read and write: on the CPU itself, elsewhere with a twin on the device. Each of the two is
    brought up to date when it is asked for, so that nothing is copied between the steps of a loop."""

    def __init__(self, backend, name: str, count: int, dtype: str):
        self.name, self._array = name, allocate(count, dtype)
        self.move(backend)

    def move(self, backend) -> None:
        """Belong to another backend; the numbers stay."""
        self._array = self.array if hasattr(self, "_arena") else self._array
        self._arena = None if backend.name == "cpu" else allocate_on(backend, self.name, self._array.nbytes)
        self._behind = "device"

    @property
    def array(self) -> np.ndarray:
        """The host's side, to read and to write."""
        if self._arena is not None and self._behind == "host":
            self._arena.read(self._array)
        self._behind = "device"
        return self._array

    @property
    def base(self):
        """What a program is given, to read and to write."""
        if self._arena is None:
            return self._array
        if self._behind == "device":
            self._arena.write(self._array)
        self._behind = "host"
        return self._arena
