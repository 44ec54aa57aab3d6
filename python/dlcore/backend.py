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


INFO = {"cuda": _core.cuda_info, "emulated": _core.emulator_info}  # the second is for tests


def select_device(device: str) -> str:
    """The device to use: ``auto`` and ``cpu`` give the CPU, ``cuda`` the first GPU, ``cuda:1`` the second.

    Raises
    ------
    ValueError
        No name of a device.
    RuntimeError
        A device that is not there; the message says why, or how many there are.
    """
    kind, colon, number = device.partition(":") if isinstance(device, str) else (device, "", "")
    if kind not in INFO or bool(colon) != number.isdecimal() or (kind == "emulated" and not _core.emulator_built()):
        one_of("device", device, ("auto", "cpu", "cuda"))
        return "cpu"
    about, who = INFO[kind](), "device: expected an available device"
    if not about["available"]:
        raise RuntimeError(f"{who}, got {device!r} ({about['reason']})")
    count = len(about["devices"])
    if int(number or 0) >= count:
        raise RuntimeError(f"{who}, got {device!r} (there are {count}, {kind}:0 to {kind}:{count - 1})")
    return f"{kind}:{int(number)}" if int(number or 0) else kind


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
