# SPDX-License-Identifier: Apache-2.0
"""The compiled backends, one for each device and real type, their memory, and the number of threads they may use."""

from __future__ import annotations

import ctypes
from functools import cache, wraps
from importlib.util import find_spec

import numpy as np

from . import _core
from .arguments import one_of, positive_int

_threads = 0


@cache
def get(dtype: str = "float32", device: str = "cpu"):
    """The backend of a device that computes in ``dtype`` ("float32" or, on the CPU, "float64")."""
    return _core.Backend("" if device == "cpu" else device, one_of("dtype", dtype, ("float32", "float64")))


PRECISIONS, GEMMS = (*_core.PRECISIONS, "float16"), _core.GEMMS
CUBLASLT = "cublaslt"
HALF_GEMMS = ("mma",)  # kernels that multiply float16


def multiplies_float16(backend, gemm: str) -> bool:
    return backend.unit_layout == "parts" and gemm in HALF_GEMMS


def check_precision(who: str, backend, precision: str, gemm: str) -> None:
    """Refuse float16 where products cannot be made of it."""
    if precision == "float16" and not multiplies_float16(backend, gemm):
        where = "on the CPU" if backend.name == "cpu" else f"with gemm {gemm!r}"
        names = ", ".join(map(repr, _core.PRECISIONS))
        hint = "float16 takes device='cuda' and gemm='mma'"
        raise ValueError(f"{who}: precision: expected one of {names} {where}, got 'float16'; {hint}")


def terms(backend, precision: str, m: int, n: int, k: int, gemm: str = "auto") -> int:
    """Terms of 16 bits from which products are made; 0: multiply-adds."""
    if precision == "float16":
        return int(multiplies_float16(backend, gemm))
    return backend.terms(precision, m, n, k, gemm)


def describe_precision(backend, precision: str, gemm: str = "auto") -> str:
    """How a backend makes products of this precision, and why."""
    plain = f"multiply-adds in {backend.real}"
    if gemm == CUBLASLT:
        return f"{backend.real} by cuBLASLt, without tf32"
    if precision == "float16":
        unable = f"{plain}, as float16 takes device='cuda' and gemm='mma'"
        return f"1 f16 term on {backend.unit}, by {gemm}" if multiplies_float16(backend, gemm) else unable
    if backend.name != "cpu" and gemm not in ("mma", "wgmma"):
        by_name = f"{plain}, as {backend.unit} are taken by name only: gemm='mma' or 'wgmma'"
        return plain if precision == "float32" else by_name
    if backend.unit is None:
        reason = "" if precision == "float32" else f", as {backend.isa} has no bf16 matrix unit"
        return plain + reason
    terms = backend.terms(precision, 2**20, 2**20, 2**20, gemm)
    made = f"{terms} bf16 term{'s' if terms > 1 else ''} on {backend.unit}"
    return f"{made}, by {gemm}" if backend.name != "cpu" else f"{made}, {plain} where a product is too small to gain"


def check_gemm(who: str, backend, gemm: str) -> str:
    """The kernels of products, if the backend's device has them."""
    if one_of(f"{who}: gemm", gemm, GEMMS) == CUBLASLT and backend.name != "cpu":
        open_cublaslt()
    try:
        backend.terms("float32", 1, 1, 1, gemm)
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from None
    return gemm


def open_cublaslt() -> None:
    """Open the library where the wheel nvidia-cublas has put it, the newest first: the backend finds what is open by its
    name, and otherwise what the system has."""
    from pathlib import Path  # imported late: 1 MB that most programs never use

    folders = getattr(find_spec("nvidia"), "submodule_search_locations", None) or ()
    files = [path for folder in folders for path in Path(folder).glob("*/lib/libcublasLt.so.1[23]")]
    for path in sorted(files, key=lambda path: path.name, reverse=True):
        try:
            ctypes.CDLL(str(path))
        except OSError:
            continue
        return


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

    Raises
    ------
    ValueError, TypeError
        No integer >= 1.

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


def releasing(method):
    """The method; a MemoryError that it raises has no trace, which would hold on to what was allocated before."""

    @wraps(method)
    def call(*args, **options):
        try:
            return method(*args, **options)
        except MemoryError as error:
            text = str(error)
        raise MemoryError(text)

    return call


def on_device(backend, name: str, make, size: int):
    """``make(size)``; a MemoryError begins with the device and the name of what there is no memory for."""
    try:
        return make(min(size, 2**62))  # more than there is anywhere
    except MemoryError as error:
        raise MemoryError(f"{backend.name}: {name}: {error}") from None


def allocate_on(backend, name: str, size: int):
    """Bytes where a backend's programs work on them: an array of the host, or an arena of the device."""
    make = (lambda size: allocate(size, "uint8")) if backend.name == "cpu" else backend.allocate
    return on_device(backend, name, make, size)


PIECE_BYTES = 64 << 20  # of a data set that are copied at once


def resident(backend, name: str, array):
    """An array where a backend reads it best: where it lies, or a C-contiguous copy on the device."""
    if backend.name == "cpu" or not isinstance(array, np.ndarray):
        return getattr(array, "arena", array)
    arena, row_bytes = allocate_on(backend, name, array.nbytes), array.nbytes // len(array)
    rows = max(1, PIECE_BYTES // row_bytes)
    for first in range(0, len(array), rows):
        arena.write(np.ascontiguousarray(array[first : first + rows]), first * row_bytes)
    return arena


class Memory:
    """A flat array that programs read and write: on the CPU itself, elsewhere with a twin on the device. Each of the two is
    brought up to date when it is asked for, so that nothing is copied between the steps of a loop."""

    def __init__(self, backend, name: str, count: int, dtype: str):
        array = allocate_on(get(), name, count * np.dtype(dtype).itemsize).view(dtype)
        self.name, self._array, self._arena = name, array, None
        self.move(self.room_on(backend))

    def room_on(self, backend):
        """What `move` takes: memory of another backend, if it has its own."""
        return None if backend.name == "cpu" else allocate_on(backend, self.name, self._array.nbytes)

    def move(self, arena) -> None:
        """Take another place; the numbers stay."""
        self._array = self.array
        self._arena = arena

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
