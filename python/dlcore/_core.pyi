# SPDX-License-Identifier: Apache-2.0
"""The planner's door to the kernels (private). csrc/backend.h is the contract in full."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypedDict, final

_DTypeName = Literal["f32", "f64", "f16", "bf16", "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"]
_LayoutName = Literal["row_major", "strips", "planes", "parts"]
_Section = tuple[Iterable[Instruction], bool, int, int]
"""(instructions, serial: one thread and no barrier, outer: 0, or runs of items that need no barrier between)"""

class _CpuInfo(TypedDict):
    vendor: str
    instruction_sets: list[str]  # of the processor and the operating system
    chosen: str | None  # what Backend() takes; None where DLCORE_CPU asks for one that is not available
    available: list[str]  # kernels that run here, the best last
    forced: str | None  # DLCORE_CPU at import

class _DeviceInfo(TypedDict):
    built: bool
    available: bool
    architectures: list[str]
    devices: list[str]
    reason: str  # why there is none

KERNELS: tuple[str, ...]
STAGES: tuple[str, ...]
DTYPES: tuple[str, ...]
LAYOUTS: tuple[str, ...]
PRECISIONS: tuple[str, ...]  # of products
GEMMS: tuple[str, ...]  # kernels of products on a GPU
PARTS: dict[int, int]  # by the terms of a product: bf16 parts of its operands
ROLES: tuple[str, ...]  # of product; the index is numbers[0]

CHUNK_ROWS: int  # reductions over rows are partial results of this many rows, merged in order
LOCAL_ARENA: int  # of views that live inside a block of a section
LOCAL_BYTES: int  # of a block, at most
COLUMN_ALIGN: int  # column blocks start at multiples of this
PART_ALIGN: int  # elements: rows of parts are padded to a multiple
MASK_ALIGN: int  # columns: rows of the bits of a mask are whole multiples
ALIGNMENT: int  # bytes, of arenas and placed values
METRICS: int  # numbers in metrics
COUNTERS: int  # numbers in counters
RESULTS: int  # numbers in a row of results
HYPER: int  # numbers a group in a row of hyper
LOSS_SCALE: int  # numbers in loss_scale
UPDATE_FIRST: int  # number of update at which the segments begin
METRIC: dict[str, int]
COUNTER: dict[str, int]
LOSS_SCALE_INDEX: dict[str, int]
RESULT: dict[str, int]
HYPER_INDEX: dict[str, int]
UPDATE: dict[str, int]
SEGMENT: dict[str, int]  # its length is the count of numbers a segment

@final
class View:
    """A block of memory without a pointer; arena -1 is absent."""

    def __init__(
        self,
        arena: int = -1,
        dtype: str = "f32",
        layout: str = "row_major",
        rows: int = 0,
        cols: int = 0,
        ld: int | None = None,
        step: int = 1,
        offset: int = 0,
        members: int = 1,
        member_stride: int = 0,
    ) -> None:
        """``ld`` (None: cols) and ``step`` in elements, ``offset`` and ``member_stride`` in bytes."""

    @property
    def arena(self) -> int: ...
    @property
    def dtype(self) -> _DTypeName: ...
    @property
    def layout(self) -> _LayoutName: ...
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def ld(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def members(self) -> int: ...
    @property
    def member_stride(self) -> int: ...

@final
class Stage:
    """One step of a chain."""

    def __init__(
        self,
        kind: str,
        function: int = 0,
        random_op: int = 0,
        operand: View = ...,
        operand_scale: View = ...,
        operand_shift: View = ...,
        a: View = ...,
        b: View = ...,
        c: View = ...,
        out: View = ...,
        out2: View = ...,
        numbers: Sequence[float] = (0, 0, 0, 0),
    ) -> None:
        """``function``: number of the activation; at most four ``numbers``."""

    @property
    def kind(self) -> str: ...
    @property
    def function(self) -> int: ...
    @property
    def random_op(self) -> int: ...
    @property
    def operand(self) -> View: ...
    @property
    def operand_scale(self) -> View: ...
    @property
    def operand_shift(self) -> View: ...
    @property
    def a(self) -> View: ...
    @property
    def b(self) -> View: ...
    @property
    def c(self) -> View: ...
    @property
    def out(self) -> View: ...
    @property
    def out2(self) -> View: ...
    @property
    def numbers(self) -> tuple[float, float, float, float]: ...

@final
class Instruction:
    """A kernel with its views, chain and numbers."""

    scratch: View  # as many bytes as Backend.scratch says

    def __init__(
        self,
        kernel: str,
        rows: int,
        cols: int,
        operands: Sequence[View],
        chain: Sequence[Stage] = (),
        numbers: Sequence[float] = (),
        scratch: View = ...,
    ) -> None:
        """``rows`` and ``cols`` of the value that enters the chain."""

    @property
    def kernel(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def operands(self) -> list[View]: ...
    @property
    def chain(self) -> list[Stage]: ...
    @property
    def numbers(self) -> list[float]: ...

@final
class Arena:
    """Zeroed, aligned memory; of the host, with the buffer protocol: ``numpy.frombuffer(arena, dtype)``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """TypeError: Backend.allocate makes them."""

    @property
    def nbytes(self) -> int: ...
    @property
    def address(self) -> int: ...
    def part(self, offset: int, bytes: int) -> Arena:
        """Some of its bytes, in the same memory, which lives as long as they do."""

    def dlpack(self, shape: Sequence[int], type: tuple[int, int], device: tuple[int, int], versioned: bool) -> Any:
        """A DLPack capsule of row-major numbers from its first byte on, of type (code, bits); the memory lives as long."""

    def write(self, data: Any, offset: int = 0) -> None:
        """Copy the bytes of a C-contiguous array to ``offset``."""

    def read(self, into: Any, offset: int = 0) -> None:
        """Fill a C-contiguous array with bytes from ``offset`` on."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Feed:
    """Pinned memory of the host, with the buffer protocol, and as much on a device, which gets its bytes while kernels run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """TypeError: Backend.feed makes them."""

    @property
    def arena(self) -> Arena:
        """The memory on the device."""

    def send(self, bytes: int) -> None:
        """Begin to copy so many bytes to the device; what is sent may not change before `settle`."""

    def settle(self) -> None:
        """Wait for what was sent."""

    def expect(self) -> None:
        """Let the next run wait for what was sent."""

    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Taken:
    """Somebody's DLPack tensor, given back when this dies."""

    def __init__(self, capsule: Any) -> None:
        """ValueError for what is no capsule, or one that nobody can read; it counts as used then."""

    @property
    def address(self) -> int:
        """Of the first number, the byte offset included."""

    @property
    def device(self) -> tuple[int, int]: ...
    @property
    def type(self) -> tuple[int, int]:
        """(code, bits)"""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...] | None:
        """In elements; None: row major."""

@final
class Recording:
    """Checked instructions that can be run over any bases of the right sizes, from any thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """TypeError: Backend.record makes them."""

    @property
    def sizes(self) -> list[int]:
        """Bytes needed of each arena."""

    @property
    def written(self) -> list[bool]:
        """Which arenas are written."""

    @property
    def calls(self) -> int:
        """Instructions executed since the last reset."""

    @property
    def bytes(self) -> int:
        """Bytes they moved: rows x cols x itemsize of every view, of data sets and tables the rows in use."""

    def reset_counters(self) -> None:
        """Set calls and bytes to 0."""

@final
class Backend:
    """The kernels of one instruction set or device, and real type."""

    def __init__(self, isa: str = "", real: str = "float32") -> None:
        """``isa`` "": that of DLCORE_CPU, else the best; also "cuda", "cuda:1" ..., and "emulated" where that is built.
        ``real``: "float32" or, on the CPU, "float64". RuntimeError where the device is not available."""

    @property
    def name(self) -> str:
        """Of the device: "cpu", "cuda", "cuda:1"."""

    @property
    def isa(self) -> str: ...
    @property
    def real(self) -> str: ...
    @property
    def unit(self) -> str | None:
        """What multiplies bf16: "amx", "stand-in" (the tests' own), "tensor cores", or None."""

    @property
    def unit_layout(self) -> _LayoutName:
        """In which that reads operands: planes, the second alone, or parts, both."""

    @property
    def lanes(self) -> int:
        """Reals in a vector."""

    @property
    def strip(self) -> int:
        """Columns of a strip."""

    @property
    def activations(self) -> dict[str, tuple[int, bool]]:
        """Name -> (number, is the derivative a function of the output)."""

    @property
    def rules(self) -> dict[str, tuple[int, int]]:
        """Name -> (number, state arrays)."""

    @property
    def losses(self) -> dict[str, int]: ...
    def scratch(self, instruction: Instruction) -> int:
        """Bytes of scratch the instruction needs."""

    def depth(self, instruction: Instruction) -> int:
        """Rows of the depth of a product that an item takes, 0 where items are chunks of rows, -1 where neither."""

    def layout(self, role: str, m: int, n: int, k: int, kept: bool = False) -> _LayoutName:
        """The layout in which a product of this shape reads its second operand fastest; ``kept``: once packed, for many."""

    def terms(self, precision: str, m: int, n: int, k: int, gemm: str = "auto") -> int:
        """Of the fastest product of this shape that errs no more than the precision allows; 0: no bf16 terms.

        ``gemm``: whose kernels, one of GEMMS. ValueError where the device has them not.
        """

    def record(self, sections: Iterable[_Section]) -> Recording:
        """Check the instructions and keep copies; ValueError for what could not run safely."""

    @property
    def room(self) -> int:
        """Bytes of a device's memory that are free."""

    @property
    def stream(self) -> int:
        """Handle of the stream on which a device runs everything."""

    def follow(self, stream: int) -> None:
        """Let the next run wait for what is on somebody's stream by now."""

    def holder(self, address: int) -> int:
        """Number of the device on which an address lies; -1: on none."""

    def feed(self, bytes: int) -> Feed:
        """Memory through which a device is fed; MemoryError where there is none."""

    def borrow(self, address: int, bytes: int) -> Arena:
        """Somebody's memory on a device, for runs that read it; ValueError where it does not lie there."""

    def allocate(self, bytes: int) -> Arena:
        """MemoryError where the machine has not that much."""

    def run(
        self,
        program: Iterable[tuple[Iterable[Recording], int]],
        bases: Sequence[Any],
        threads: int = 1,
    ) -> None:
        """Run each (recordings, times) in order over one buffer, array or None for each arena, without the GIL.

        A strided array stands for its first element and the memory it spans. On a device, host memory is copied there
        before and, where it is written, back afterwards; the emulator takes ``threads`` for the order of its threads.
        Called while another thread is
        running, it does not wait but uses one thread; the results have the same bits.
        """

    def prepare(
        self, program: Iterable[tuple[Iterable[Recording], int]], bases: Sequence[Any], names: Sequence[str] = ()
    ) -> Prepared:
        """A program with its bases held, for many runs of the same. ``names`` of the bases are for messages."""

@final
class Prepared:
    """A program over bases that are held from run to run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """TypeError: Backend.prepare makes them."""

    def set(self, index: int, base: Any) -> None:
        """Hold another base from now on."""

    def accept(self, index: int, base: Any, limit: int = 0) -> bool:
        """Hold another array as a base that is only read, if it differs in its address only and its numbers are plain.

        Plain are finite numbers in [0, limit - 1], any finite ones where the limit is 0. False where the array is of another
        type or kind, not contiguous or not plain: nothing is done then.
        """

    def run(self, threads: int = 1, times: Sequence[int] = ()) -> None:
        """As Backend.run; ValueError where a base is missing or too small. ``times`` of each part, where it is not that of
        before: 0 takes the memory that runs need, and runs nothing."""

def cpu_info() -> _CpuInfo: ...
def all_finite(array: Any) -> bool:
    """Is every number of a C-contiguous float32 or float64 array finite?"""

def cuda_info() -> _DeviceInfo: ...
def emulator_info() -> _DeviceInfo: ...
def emulator_built() -> bool:
    """Was this built with DLCORE_EMULATE?"""

def emulated_launches() -> dict[str, int]:
    """How often each kernel has been launched in the emulator, by its symbol."""

def emulate_fault(fault: str, schedule: int) -> list[float]:
    """What a kernel with a planted fault makes under a schedule; RuntimeError where the emulator finds it."""

def emulator_count(what: str) -> int:
    """How many "allocations", "launches", "loads" of kernels, "copies", "captures" or "replays" there were; how many things
    are "waiting" on streams; bytes "used" of the current device; the number of the current "device"."""

def emulator_set(what: str, value: int) -> None:
    """Set the "limit" of bytes of each device, the current "device", whether there is a "library" of products (0: no)
    or were "loads" (0: none), or which of the next "allocations" or "launches" is to fail, from 0."""

def emulator_stream() -> int:
    """A stream of somebody else, on which nothing runs before somebody waits for it."""

def emulator_write(stream: int, address: int, bytes: bytes) -> None:
    """Put a copy of bytes to an address on such a stream."""

def emulate_capability(capability: int) -> None:
    """The emulated GPU's from now on: 90 (as it begins) for compute capability 9.0."""

def emulate_cut(product: Sequence[int]) -> list[int]:
    """Of a product (m, n, k, terms, gemm = mma): [rows, columns of a tile, tiles down, across, splits, depth of a split]."""

def emulate_place(product: Sequence[int], block: int) -> list[int]:
    """The [row, column, depth] at which a block of such a product begins."""

def emulate_swizzle(row: int, chunk: int, across: int) -> int:
    """The place in shared memory of a chunk of 16 bytes of a tile with so many chunks in a row."""

def emulate_descriptor(address: int, leading: int) -> int:
    """The 64 bits by which products of warpgroups find a matrix in shared memory, with bytes between blocks of columns."""

def fma_probe(isa: str, rounds: int) -> float:
    """Multiply and add in registers for so many rounds, without the GIL; how many operations that were."""

def memory_probe(isa: str, read: Sequence[Any], written: Sequence[Any], times: int) -> None:
    """So many times write the mean of contiguous float32 buffers into others of their size, or into some of them in place;
    only read them where none is written. Without the GIL."""

def default_threads() -> int:
    """OMP_NUM_THREADS at import, else the cores this process may use."""
