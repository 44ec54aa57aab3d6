# SPDX-License-Identifier: Apache-2.0
"""Arrays in a device's memory: what other libraries hand in, and what `Net.predict` hands out, without a copy."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from . import _core
from . import backend as backends
from .errors import describe, expected

CPU, CUDA, CUDA_HOST, ROCM_HOST, EXTENSION, CUDA_MANAGED = 1, 2, 3, 11, 12, 13  # device types of DLPack
HOSTS = (CPU, CUDA_HOST, ROCM_HOST)
KINDS = {CUDA: "cuda", CUDA_MANAGED: "cuda", EXTENSION: "emulated"}
CODES = {"i": 0, "u": 1, "f": 2, "b": 6}  # of numbers, by NumPy's kind


class DeviceArray:
    """Numbers (rows, cols) in the memory of a device, as `Net.predict` returns them for arrays that lie there.

    Complete when they are returned, so any stream may read them. They outlive the net, and what was made from them outlives
    them. `numpy.asarray` copies them to the host.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    device : str
        As of a net: "cuda", "cuda:1".

    Notes
    -----
    ``torch.from_dlpack(net.predict(x))``, ``cupy.asarray(net.predict(x))``, ``jax.dlpack.from_dlpack(net.predict(x))`` with
    ``x`` on the net's GPU; nothing leaves it.
    """

    def __init__(self, backend, arena, shape: tuple[int, ...], dtype, strides=None, owner: Any = None):
        self.backend, self.arena, self.shape, self.dtype, self.owner = backend, arena, shape, np.dtype(dtype), owner
        self.strides = tuple(strides) if strides else _row_major(shape, self.dtype.itemsize)  # bytes

    @classmethod
    def empty(cls, backend, shape: tuple[int, ...], dtype) -> DeviceArray:
        """A new array of a backend's device."""
        size = prod(shape) * np.dtype(dtype).itemsize
        return cls(backend, backends.on_device(backend, "out", backend.allocate, size), shape, dtype)

    @property
    def device(self) -> str:
        return self.backend.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray({self.dtype} {self.shape} on {self.device})"

    def __getitem__(self, rows: slice) -> DeviceArray:
        """Some rows, in the same memory."""
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            raise TypeError(expected("DeviceArray", "a slice of rows", describe(rows), hint="numpy.asarray copies to the host"))
        first, last, _ = rows.indices(len(self))
        shape = (max(0, last - first), *self.shape[1:])
        arena = self.arena.part(first * self.strides[0] if shape[0] else 0, _span(shape, self.strides, self.itemsize))
        return DeviceArray(self.backend, arena, shape, self.dtype, self.strides, owner=self)

    def reshape(self, *shape: int) -> DeviceArray:
        """The same memory in another shape: axes of length 1 more or less, else of row-major memory."""
        shape = tuple(prod(self.shape) // -prod(shape) if n == -1 else n for n in shape)
        kept, own = (tuple(n for n in s if n != 1) for s in (shape, self.shape))
        steps = tuple(s for n, s in zip(self.shape, self.strides) if n != 1)
        if kept == own:
            left = iter(steps)
            strides = tuple(self.itemsize if n == 1 else next(left) for n in shape)
        elif steps == _row_major(own, self.itemsize):
            strides = _row_major(shape, self.itemsize)
        else:
            raise ValueError(expected("DeviceArray", "row-major memory to reshape", f"strides {self.strides}"))
        return DeviceArray(self.backend, self.arena, shape, self.dtype, strides, owner=self.owner)

    def is_finite(self) -> bool:
        """Is every number (rows, cols) finite in float32? Zero times each is summed on the device, which makes NaN else."""
        view = _core.View(
            0, f"{self.dtype.kind}{8 * self.itemsize}", rows=self.shape[0], cols=self.shape[1],
            ld=self.strides[0] // self.itemsize, step=self.strides[1] // self.itemsize,
        )  # fmt: skip
        cols = self.shape[1]
        sums = [_core.Stage("scale"), _core.Stage("sum", out=_core.View(2, "f32", rows=1, cols=cols))]
        operands = [view, _core.View(), _core.View(1, "i64", rows=1, cols=_core.COUNTERS)]
        gather = _core.Instruction("gather", *self.shape, operands, sums)
        size = self.backend.scratch(gather)
        if size:
            gather.scratch = _core.View(3, "u8", rows=1, cols=size)
        scratch = backends.allocate_on(self.backend, "scratch", size)
        out = np.empty(cols, np.float32)
        recording = self.backend.record([([gather], False, 0, 0)])
        self.backend.run([([recording], 1)], [self.arena, np.zeros(_core.COUNTERS, np.int64), out, scratch])
        return bool(np.isfinite(out).all())

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if copy is False:
            raise ValueError(expected("DeviceArray", "leave to copy to the host", "copy=False"))
        memory = np.empty(_span(self.shape, self.strides, self.itemsize), np.uint8)
        self.arena.read(memory)
        array = np.ndarray(self.shape, self.dtype, memory, 0, self.strides)
        return array if dtype is None else array.astype(dtype, copy=False)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, _, number = self.device.partition(":")
        return (CUDA if kind == "cuda" else EXTENSION, int(number or 0))

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        """A capsule of the same memory, or, for ``dl_device=(1, 0)``, of a copy on the host."""
        check_stream("DeviceArray.__dlpack__", stream, least=-1)
        device = self.__dlpack_device__() if dl_device is None else tuple(dl_device)
        if device not in (self.__dlpack_device__(), (CPU, 0)):
            raise BufferError(expected("DeviceArray", f"dl_device {self.__dlpack_device__()} or {(CPU, 0)}", dl_device))
        moved = device == (CPU, 0)
        if moved and copy is False:
            raise BufferError(expected("DeviceArray", "leave to copy to the host", "copy=False"))
        arena = self.arena
        if moved or copy:
            arena = (backends.get() if moved else self.backend).allocate(self.nbytes)
            arena.write(np.ascontiguousarray(self))
        code = (CODES[self.dtype.kind], 8 * self.itemsize)
        return arena.dlpack(self.shape, code, device, max_version is not None and tuple(max_version) >= (1, 0))

    @property
    def __cuda_array_interface__(self) -> dict:
        pointer = (self.arena.address, False)
        return {"shape": self.shape, "typestr": self.dtype.str, "data": pointer, "strides": None, "stream": None, "version": 3}


def base_of(array):
    """What a program is given: the array itself, or its memory on the device."""
    return array.arena if isinstance(array, DeviceArray) else array


def _row_major(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    return tuple(itemsize * prod(shape[d + 1 :]) for d in range(len(shape)))


def _span(shape, strides, itemsize: int) -> int:
    """Bytes from the first element to the end of the last."""
    return itemsize + sum((n - 1) * s for n, s in zip(shape, strides)) if all(shape) else 0


def check_stream(who: str, stream, least: int = 1) -> None:
    """None or a handle: 1 is CUDA's default stream, 2 that of each thread, -1 in DLPack: nobody has to wait."""
    if stream is None:
        return
    if isinstance(stream, bool) or not isinstance(stream, (int, np.integer)):
        raise TypeError(expected(who, "a stream as an integer or None", describe(stream)))
    if stream == 0 or not least <= stream < 2**64:
        raise ValueError(expected(who, "the handle of a stream, 1 or 2 for the default ones", stream))


def on_device(who: str, array, backend) -> DeviceArray | None:
    """Another library's array in the memory of the backend's device, or None for what is not on a device.

    Raises
    ------
    ValueError, TypeError
        An array on another device than the backend's; numbers that cannot be read where they lie.
    """
    if isinstance(array, (np.ndarray, list, tuple)):
        return None
    if isinstance(array, DeviceArray):
        _check_device(who, array.device, backend)
        return array
    if hasattr(array, "__dlpack__") and hasattr(array, "__dlpack_device__"):
        kind, number = _device_of(who, array)
        return None if kind in HOSTS else _from_dlpack(who, array, backend, KINDS.get(kind, f"device type {kind}"), number)
    interface = getattr(array, "__cuda_array_interface__", None)
    return None if interface is None else _from_interface(who, array, backend, interface)


def _device_of(who: str, array) -> tuple[int, int]:
    try:
        kind, number = array.__dlpack_device__()
        return int(kind), int(number)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        got = f"{describe(array)} ({type(error).__name__}: {error})"
        raise TypeError(expected(who, "__dlpack_device__ to give (type, number)", got)) from None


def _check_device(who: str, name: str, backend) -> None:
    name = name.removesuffix(":0")
    if name != backend.name:
        hint = f"net.to({name!r}) moves the net"
        raise ValueError(expected(who, f"an array on {backend.name}", f"one on {name}", hint=hint))


def _from_dlpack(who: str, array, backend, kind: str, number: int) -> DeviceArray:
    _check_device(who, f"{kind}:{number}", backend)
    try:
        try:
            capsule = array.__dlpack__(stream=backend.stream, max_version=(1, 0))
        except TypeError:  # from before there were versions
            capsule = array.__dlpack__(stream=backend.stream)
        taken = _core.Taken(capsule)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(expected(who, "an array that DLPack passes on", describe(array), hint=str(error))) from None
    code, bits = taken.type
    names = {own: f"{letter}{bits // 8}" for letter, own in CODES.items()}
    strides = taken.strides and tuple(s * bits // 8 for s in taken.strides)
    return _view(
        who, backend, taken.address, taken.shape, names.get(code, f"code {code} of {bits} bits"), strides, (taken, array)
    )


def _from_interface(who: str, array, backend, interface) -> DeviceArray:
    try:
        (address, _), shape = interface["data"], tuple(interface["shape"])
        typestr, strides = interface["typestr"], interface.get("strides")
        strides = None if strides is None else tuple(strides)
        if not all(isinstance(n, int) for n in (address, *shape, *(strides or ()))):
            raise TypeError("an address, a shape or strides that are no integers")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        hint = f"{type(error).__name__}: {error}"
        raise ValueError(expected(who, "a __cuda_array_interface__", describe(interface), hint=hint)) from None
    if interface.get("mask") is not None:
        raise ValueError(expected(who, "an array without a mask", "a masked array"))
    stream = interface.get("stream")
    check_stream(who, stream)
    if backend.name == "cpu":
        _check_device(who, "cuda", backend)
    found = _view(who, backend, address, shape, typestr, strides, array)
    if stream is not None:
        backend.follow(int(stream))
    return found


def _view(who: str, backend, address: int, shape, typestr, strides, owner) -> DeviceArray:
    try:
        dtype = np.dtype(typestr)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in CODES or dtype.itemsize > 8 or not dtype.isnative:
        raise TypeError(expected(who, "numbers of at most 64 bits", f"type {typestr}"))
    strides = _row_major(shape, dtype.itemsize) if strides is None else strides
    if len(strides) != len(shape) or not shape or min(shape) < 1:
        raise ValueError(expected(who, "at least one row and one column", f"shape {shape}, strides {strides}"))
    if min(strides) < 0 or any(s % dtype.itemsize for s in (address, *strides)):
        hint = "copy it to row-major memory"
        raise ValueError(expected(who, "aligned numbers and strides >= 0", f"strides {strides} at {address:#x}", hint=hint))
    size = _span(shape, strides, dtype.itemsize)
    if not 0 < address < 2**63 or size >= 2**48:
        raise ValueError(expected(who, "an address on the device", f"{size} bytes at {address:#x}"))
    try:
        arena = backend.borrow(address, size)
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from None
    return DeviceArray(backend, arena, shape, dtype, strides, owner=owner)
