# SPDX-License-Identifier: Apache-2.0
"""One instruction, run on NumPy arrays.

Each array is copied into memory of its own, shifted by one element, with gaps between its rows and all ones (NaN, -1)
around it: a kernel that reads there spoils its result, one that writes there is caught.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from dlcore import _core

GUARD = 256  # bytes before and behind an operand; a multiple of every alignment
GAP = 3  # elements between rows

DTYPES = {
    "float32": "f32", "float64": "f64", "float16": "f16", "uint8": "u8", "int8": "i8", "uint16": "u16",
    "int16": "i16", "uint32": "u32", "int32": "i32", "uint64": "u64", "int64": "i64",
}  # fmt: skip


@cache
def backend(isa, real):
    return _core.Backend(isa, real)


class ByName:
    """A device's backend whose products of terms are made by these kernels."""

    def __init__(self, backend, gemm):
        self._backend, self.gemm = backend, gemm

    def __getattr__(self, name):
        return getattr(self._backend, name)


def made_of(backend, role, terms):
    """The numbers of a product."""
    by = [_core.GEMMS.index(backend.gemm)] if terms and isinstance(backend, ByName) else []
    return [role, terms, *by]


@dataclass(eq=False)
class Operand:
    """An array and how it is seen; plain arrays (rows, cols) or (members, rows, cols) need none."""

    array: np.ndarray
    dtype: str = ""  # of the view where NumPy has no such type
    in_place: bool = False  # the array's own memory, with its strides; not for results
    strip_cols: int = 0  # the array is (strips, k, ld): the strips of a (k, strip_cols) matrix
    planes_of: tuple = ()  # the array is (strips * steps, planes, 1024), uint16: the planes of a (k, n) matrix
    aligned: bool = False  # begins as parts do
    parts_of: tuple = ()  # the array is (members, parts, rows, pitch), uint16: the parts of matrices of this shape


@dataclass(eq=False)
class Stage:
    kind: str
    function: int
    random_op: int
    numbers: tuple
    operands: dict


def stage(kind, *, function=0, random_op=0, numbers=(), **operands):
    """A stage with arrays, by the names of the contract, in the place of views."""
    return Stage(kind, function, random_op, (*numbers, 0, 0, 0, 0)[:4], operands)


def activation(backend, name, constants=(), kind="activate", from_output=False, **operands):
    numbers = (*constants, 0, 0, 0)[:3]
    return stage(kind, function=backend.activations[name][0], numbers=(*numbers, from_output), **operands)


def room_for_planes(k, n, planes):
    """An operand that pack fills with the bf16 planes of a (k, n) matrix."""
    array = np.full((-(-n // 32) * -(-k // 32), planes, 1024), 0xFFFF, np.uint16)
    return Operand(array, dtype="bf16", planes_of=(k, n))


def from_planes(operand):
    """The bf16 parts of a (k, n) matrix, as float64 (planes, k, n), and the elements around it, to be zero."""
    k, n = operand.planes_of
    strips, planes = -(-n // 32), operand.array.shape[1]
    parts = operand.array.reshape(strips, -1, planes, 2, 16, 16, 2)  # pairs of rows, columns, rows of a pair
    whole = parts.transpose(2, 1, 4, 6, 0, 3, 5).reshape(planes, -1, 32 * strips)
    values = (whole.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return values[:, :k, :n], np.concatenate([whole[:, k:].ravel(), whole[:, :, n:].ravel()])


def room_for_parts(rows, cols, parts, members=1):
    """An operand that pack fills with the bf16 parts of (members) matrices."""
    pitch = -(-cols // _core.PART_ALIGN) * _core.PART_ALIGN
    return Operand(np.full((members, parts, rows, pitch), 0xFFFF, np.uint16), dtype="bf16", parts_of=(rows, cols))


def from_parts(operand):
    """As float64 (members, parts, rows, cols), and the elements behind the last column, to be zero."""
    values = (operand.array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    cols = operand.parts_of[1]
    return values[..., :cols], values[..., cols:]


def strips_of(matrix, strip):
    """(k, n) -> (ceil(n / strip), k, strip), zeros behind the last column: what pack makes."""
    k, n = matrix.shape
    padded = np.zeros((k, -(-n // strip) * strip), matrix.dtype)
    padded[:, :n] = matrix
    return np.ascontiguousarray(padded.reshape(k, -1, strip).swapaxes(0, 1))


class Memory:
    """Operands in guarded buffers; ``bases`` and the views over them."""

    def __init__(self):
        self.bases, self.insides, self._views, self._kept = [], [], {}, []
        self.results = []  # of the bases, scratch left out

    def view(self, operand):
        if operand is None:
            return _core.View()
        key = id(operand)
        if key not in self._views:
            wrapped = operand if isinstance(operand, Operand) else Operand(operand)
            self._kept.append(operand)
            self._views[key] = self._see(wrapped) if wrapped.in_place else self._copy(wrapped)
        return self._views[key]

    def _see(self, operand):
        array = operand.array
        self.bases.append(array)
        self.insides.append(None)
        down, across = (stride // array.itemsize for stride in array.strides)
        return self._made(operand, array.shape, 1, down, across, 0, 0)

    def _copy(self, operand):
        array, item = operand.array, operand.array.itemsize
        ld = array.shape[-1] + (0 if operand.strip_cols or operand.planes_of or operand.parts_of else GAP)
        strides = (array.shape[-2] * ld * item, ld * item, item)[-array.ndim :]
        offset = GUARD + (2 * _core.PART_ALIGN if operand.parts_of or operand.aligned else item)
        if operand.parts_of:
            strides = array.strides
        buffer = aligned(offset + strides[0] * array.shape[0] + GUARD)
        inside = np.ndarray(array.shape, array.dtype, buffer, offset, strides)
        inside[...] = array
        self.results.append(buffer)
        self.bases.append(buffer)
        self.insides.append((array, inside))
        members, member_stride, shape = 1, 0, array.shape
        if operand.strip_cols:
            shape = (array.shape[1], operand.strip_cols)
        elif operand.planes_of:
            shape, ld = operand.planes_of, array.shape[1]
        elif operand.parts_of:
            shape, ld = operand.parts_of, array.shape[1]
            if array.shape[0] > 1:
                members, member_stride = array.shape[0], strides[0]
        elif array.ndim == 3:
            shape = array.shape[1:]
            if array.shape[0] > 1:
                members, member_stride = array.shape[0], strides[0]
        return self._made(operand, shape, members, ld, 1, offset, member_stride)

    def _made(self, operand, shape, members, ld, step, offset, member_stride):
        layout = (
            "strips" if operand.strip_cols else "planes" if operand.planes_of else "parts" if operand.parts_of else "row_major"
        )
        return _core.View(
            arena=len(self.bases) - 1, dtype=operand.dtype or DTYPES[operand.array.dtype.name], layout=layout,
            rows=shape[0], cols=shape[1], ld=ld, step=step, offset=offset, members=members, member_stride=member_stride,
        )  # fmt: skip

    def add_scratch(self, size, members=1):
        buffer = aligned(2 * GUARD + size * members)
        self.bases.append(buffer)
        self.insides.append((None, buffer[GUARD : GUARD + size * members]))
        stride = size if members > 1 else 0
        return _core.View(len(self.bases) - 1, "u8", rows=1, cols=size, offset=GUARD, members=members,
                          member_stride=stride)  # fmt: skip

    def check(self, written, before):
        """Nothing changed outside of the operands, nor in those that are only read."""
        for i, found in enumerate(self.insides):
            if found is None:
                continue
            assert written[i] or (self.bases[i] == before[i]).all(), f"operand {i} was changed"
            outside = np.ones(self.bases[i].size, bool)
            _, inside = found
            np.ndarray(inside.shape + (inside.itemsize,), bool, outside,
                       inside.__array_interface__["data"][0] - self.bases[i].__array_interface__["data"][0],
                       inside.strides + (1,))[...] = False  # fmt: skip
            assert (self.bases[i][outside] == 255).all(), f"memory around operand {i} was written"

    def write_back(self):
        for found in self.insides:
            if found is not None and found[0] is not None:
                found[0][...] = found[1]


def aligned(size):
    """Bytes of ones at a multiple of the contract's alignment."""
    memory = np.full(size + _core.ALIGNMENT, 255, np.uint8)
    start = -memory.__array_interface__["data"][0] % _core.ALIGNMENT
    return memory[start : start + size]


def build(backend, memory, kernel, operands, rows, cols, chain=(), numbers=()):
    """The instruction with its views in memory, scratch included."""
    views = [memory.view(operand) for operand in operands]
    stages = [
        _core.Stage(s.kind, s.function, s.random_op, numbers=s.numbers,
                    **{name: memory.view(array) for name, array in s.operands.items()})
        for s in chain
    ]  # fmt: skip
    instruction = _core.Instruction(kernel, rows, cols, views, stages, numbers)
    size = backend.scratch(instruction)
    if size:
        seen = views + [getattr(s, name) for s in stages for name in ("operand", "a", "out")]
        members = max(view.members for view in seen)
        instruction.scratch = memory.add_scratch(-(-size // _core.ALIGNMENT) * _core.ALIGNMENT, members)
    return instruction


def run_kernel(backend, kernel, operands, rows, cols, chain=(), numbers=(), threads=(1, 2)):
    """Run an instruction; arrays that it writes are changed. Asserts that every thread count gives the same bits."""
    runs = []
    for count in threads:
        memory = Memory()
        instruction = build(backend, memory, kernel, operands, rows, cols, chain, numbers)
        recording = backend.record([([instruction], False, 0, 0)])
        before = [base.copy() for base in memory.bases]
        backend.run([([recording], 1)], memory.bases, count)
        written = recording.written + [False] * len(memory.bases)
        memory.check(written, before)
        runs.append(memory)
    for count, other in zip(threads[1:], runs[1:], strict=True):
        for i, (one, two) in enumerate(zip(runs[0].results, other.results, strict=True)):
            assert (one == two).all(), f"{threads[0]} and {count} threads differ in operand {i}"
    runs[0].write_back()


def pointwise(backend, x, chain, threads=(1, 2)):
    """The value of a chain over x (rows, cols)."""
    y = np.empty_like(x)
    run_kernel(backend, "pointwise", [x], *x.shape[-2:], [*chain, stage("store", out=y)], threads=threads)
    return y


def assert_same_bits(got, want):
    """Equal elements, a NaN being equal to a NaN, and zeros of equal sign."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    same = (got == want) & (np.signbit(got) == np.signbit(want)) | np.isnan(got) & np.isnan(want)
    assert same.all(), f"{int((~same).sum())} of {same.size} elements differ, first at {np.argwhere(~same)[0].tolist()}"
