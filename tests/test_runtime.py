# SPDX-License-Identifier: Apache-2.0
"""Recordings and the threads that run them: concurrency, the GIL, fork, exit, counters, and equal bits throughout."""

import ctypes
import platform
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from cases import CASES, counters, make_case
from checks import rng
from dlcore import _core
from instructions import Memory, assert_same_bits, build, run_kernel, stage


def matrix(arena, rows, cols, dtype="f32", **more):
    return _core.View(arena, dtype, rows=rows, cols=cols, **more)


def addition(rows=64, cols=32, x=0, y=1, out=2):
    """out = x + y over arenas of float32."""
    chain = [_core.Stage("add", operand=matrix(y, rows, cols)), _core.Stage("store", out=matrix(out, rows, cols))]
    return _core.Instruction("pointwise", rows, cols, [matrix(x, rows, cols)], chain)


def record(backend, *instructions, serial=False, block_rows=0, row_bytes=0):
    return backend.record([(instructions, serial, block_rows, row_bytes)])


def ticking(backend):
    """Advances counters (arena 0) by one draw."""
    views = [matrix(0, 1, _core.COUNTERS, "i64"), *[_core.View()] * 4]
    return record(backend, _core.Instruction("tick", 0, 0, views, numbers=(1, 0, 0)))


@pytest.fixture
def core():
    return _core.Backend()


def heavy(backend):
    """Several instructions of one recording, and the bases to run them over: a small net's worth of work."""
    r = rng(1)
    x, w, y = (r.normal(size=s).astype(np.float32) for s in ((300, 200), (200, 150), (300, 150)))
    total = np.zeros((1, 150), np.float32)
    memory = Memory()
    product = build(backend, memory, "product", [x, w], 300, 150, [stage("store", out=y)], [0])
    smooth = build(backend, memory, "softmax", [y], 300, 150, [stage("store", out=y), stage("sum", out=total)])
    return record(backend, product, smooth), memory


# -------------------------------------------------------------------------------------------------- recordings
def test_recording_runs_over_other_bases(core):
    recording = record(core, addition())
    for seed in range(3):
        x, y = rng(seed).normal(size=(2, 64, 32)).astype(np.float32)
        out = np.empty_like(x)
        core.run([([recording], 1)], [x, y, out])
        assert_same_bits(out, x + y)


def test_recording_keeps_its_own_copy(core):
    instruction = addition()
    recording = record(core, instruction)
    instruction.scratch = matrix(9, 1, 1)
    del instruction
    x = np.ones((64, 32), np.float32)
    out = np.empty_like(x)
    core.run([([recording], 1)], [x, x, out])
    assert (out == 2).all()


def test_recording_says_what_it_needs(core):
    recording = record(core, addition(out=4))
    size = 64 * 32 * 4
    assert recording.sizes == [size, size, 0, 0, size]
    assert recording.written == [False, False, False, False, True]


def test_program_runs_recordings_in_order_and_times(core):
    x = np.ones((64, 32), np.float32)
    double, add = record(core, addition(x=0, y=0, out=0)), record(core, addition(x=0, y=1, out=0))
    core.run([([double, add], 3), ([double], 0), ([double], 1)], [x, np.full_like(x, 10)])
    assert (x == (((1 * 2 + 10) * 2 + 10) * 2 + 10) * 2).all()


def test_counters_count_calls_and_bytes(core, threads):
    recording = record(core, addition(), addition(x=2, y=2))
    bases = [np.zeros((64, 32), np.float32) for _ in range(3)]
    core.run([([recording], 5)], bases, threads)
    assert recording.calls == 10
    assert recording.bytes == 10 * 3 * 64 * 32 * 4
    recording.reset_counters()
    assert recording.calls == recording.bytes == 0


def test_any_buffer_is_a_base(core):
    recording = record(core, addition(1, 8))
    x, y = np.arange(8, dtype=np.float32), np.ones(8, np.float32)
    for out in (bytearray(32), memoryview(bytearray(32)), core.allocate(32), np.empty(32, np.uint8)):
        core.run([([recording], 1)], [x.tobytes(), memoryview(y).toreadonly(), out])
        assert (np.frombuffer(out, np.float32) == x + 1).all()


def test_allocation_is_zeroed_aligned_and_bounded(core):
    for size in (0, 1, 63, 4096, 2**21, 2**22 + 1):
        arena = core.allocate(size)
        assert arena.nbytes == size
        assert arena.address % _core.ALIGNMENT == 0
        assert not np.frombuffer(arena, np.uint8).any()
    with pytest.raises(MemoryError):
        core.allocate(2**40 * 2**20)
    with pytest.raises(ValueError, match="allocate: expected 0 bytes or more, got -1"):
        core.allocate(-1)


# ---------------------------------------------------------------------------------------------------- sections
def test_sections_of_row_blocks_give_equal_bits(core):
    bases = [rng(2).normal(size=(300, 50)).astype(np.float32) for _ in range(3)]
    steps = [addition(300, 50), addition(300, 50, x=2, y=0, out=2), addition(300, 50, x=2, y=2, out=1)]
    want = None
    for block_rows, serial, threads in ((0, False, 1), (0, False, 2), (0, True, 2), (64, False, 2), (64, False, 3),
                                        (128, False, 2), (320, False, 2), (640, True, 1)):  # fmt: skip
        found = [base.copy() for base in bases]
        core.run([([record(core, *steps, serial=serial, block_rows=block_rows)], 2)], found, threads)
        want = want or found
        for got, expected in zip(found, want, strict=True):
            assert_same_bits(got, expected)


def local(rows, cols, row_bytes, offset=0):
    return _core.View(_core.LOCAL_ARENA, rows=rows, cols=cols, ld=row_bytes // 4, offset=offset)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_local_values_live_for_a_block(core, threads):
    x = rng(3).normal(size=(1000, 24)).astype(np.float32)
    y = np.zeros_like(x)
    kept = [local(1000, 24, 320, offset=at) for at in (0, 128)]
    store = lambda out: [_core.Stage("store", out=out)]  # noqa: E731
    steps = [
        _core.Instruction("pointwise", 1000, 24, [matrix(0, 1000, 24)], [_core.Stage("scale", numbers=[2.0]), *store(kept[0])]),
        _core.Instruction("pointwise", 1000, 24, [kept[0]], [_core.Stage("add", operand=matrix(0, 1000, 24)), *store(kept[1])]),
        _core.Instruction("pointwise", 1000, 24, [kept[1]], [_core.Stage("add", operand=kept[0]), *store(matrix(1, 1000, 24))]),
    ]  # fmt: skip
    core.run([([record(core, *steps, block_rows=128, row_bytes=320)], 1)], [x, y], threads)
    assert_same_bits(y, (x * 2 + x) + x * 2)


@pytest.mark.parametrize(
    ("view", "options", "message"),
    [
        (local(300, 8, 64), {}, "expected a section of row blocks for views of the local arena, got none"),
        (local(300, 8, 64), {"block_rows": 64, "row_bytes": 128}, "expected local views of 300 rows, 128 bytes apart, .*"),
        (local(300, 8, 64, 36), {"block_rows": 64, "row_bytes": 64}, "expected local views inside their rows, .*"),
        (matrix(0, 300, 8), {"block_rows": 63}, "section 0: expected blocks of a multiple of 64 rows, got 63"),
        (matrix(0, 300, 8), {"block_rows": -64}, "section 0: expected blocks of a multiple of 64 rows, got -64"),
        (matrix(0, 300, 8), {"block_rows": 128, "row_bytes": 8256}, "section 0: expected at most 1048576 bytes in a block .*"),
    ],
)
def test_local_values_out_of_place_are_refused(core, view, options, message):
    chain = [_core.Stage("store", out=matrix(1, 300, 8))]
    instruction = _core.Instruction("pointwise", 300, 8, [view], chain)
    with pytest.raises(ValueError, match=f"{message}$"):
        record(core, instruction, **options)


@pytest.mark.parametrize("kernel", CASES)
def test_members_equal_runs_of_their_own(backend, kernel):
    for rows, cols in ((3, 5), (70, 33)):
        alone = [make_case(backend, kernel, rows, cols, seed) for seed in range(3)]
        arrays = zip(*(case.operands for case in alone), strict=True)
        together = [None if found[0] is None else np.stack(found) for found in arrays]
        first = alone[0]
        run_kernel(backend, kernel, together, first.rows, first.cols, numbers=first.numbers)
        for member, case in enumerate(alone):
            case.run(backend)
            for got, want in zip(together, case.operands, strict=True):
                if want is not None:
                    assert_same_bits(got[member], want)


# ----------------------------------------------------------------------------------------------------- threads
@pytest.mark.parametrize("kernel", CASES)
def test_any_thread_count_gives_equal_bits(backend, kernel):
    for rows, cols in ((1, 1), (65, 129), (300, 40)):
        make_case(backend, kernel, rows, cols).run(backend, threads=(1, 2, 3, 8))


def test_large_thread_counts_are_cut_to_the_work(core):
    x = np.ones((64, 32), np.float32)
    out = np.empty_like(x)
    core.run([([record(core, addition())], 3)], [x, x, out], 10**6)
    assert (out == 2).all()


def test_python_threads_may_run_at_the_same_time(core):
    recording, memory = heavy(core)
    core.run([([recording], 1)], memory.bases, 1)
    want = [base.copy() for base in memory.bases]
    start = threading.Barrier(8)

    def work(count):
        own = [base.copy() for base in memory.bases]
        start.wait()
        for _ in range(10):
            core.run([([recording], 2)], own, count)
        return own

    with ThreadPoolExecutor(8) as executor:
        for found in executor.map(work, [1, 2, 3, 2, 1, 2, 2, 2]):
            for got, expected in zip(found, want, strict=True):
                assert (got == expected).all()


@contextmanager
def ticking_all_the_time(core, base, times):
    """Another thread that runs a program of so many ticks again and again."""
    recording, stop = ticking(core), threading.Event()

    def work():
        while not stop.is_set():
            core.run([([recording], times)], [base])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def seconds(limit):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        yield


def test_gil_is_released_while_running(core):
    count, times = counters(), 200_000
    with ticking_all_the_time(core, count, times):
        # Without the GIL released, whole runs only would be seen.
        seen = any(count[0, _core.COUNTER["draws"]] % times for _ in seconds(30))
    assert seen


def test_base_cannot_be_resized_while_running(core):
    buffer = bytearray(8 * _core.COUNTERS)

    def grow():
        for _ in seconds(30):
            buffer.append(0)

    with ticking_all_the_time(core, buffer, 200_000), pytest.raises(BufferError):
        grow()


def test_prepared_program_takes_arrays_like_those_before_and_refuses_others(core):
    x, y, out = np.ones((4, 3), np.float32), np.full((4, 3), 2, np.float32), np.zeros((4, 3), np.float32)
    prepared = core.prepare([([record(core, addition(4, 3))], 1)], [x, y, out])
    other, wider = np.zeros_like(out), np.full((4, 4), 9, np.float32)
    prepared.set(2, other)
    prepared.set(1, wider[:, :3])
    prepared.run()
    assert (out == 0).all() and (other.ravel() == 10).all()
    read_only, count = out.copy(), sys.getrefcount(other)
    read_only.flags.writeable = False
    for bad, error in ((read_only, ValueError), (object(), TypeError)):
        with pytest.raises(error):
            prepared.set(2, bad)
    prepared.set(1, y)
    prepared.run()
    assert (other == 3).all() and sys.getrefcount(other) == count
    prepared.set(2, other[:2])
    with pytest.raises(ValueError, match="expected at least 48 bytes in base 2, got 24"):
        prepared.run()


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="needs glibc on x86-64")
def test_rounding_mode_of_the_caller_changes_no_bit(core):
    libm = ctypes.CDLL("libm.so.6")
    upward = 0x800
    recording, memory = heavy(core)
    core.run([([recording], 1)], memory.bases, 1)
    want = [base.copy() for base in memory.bases]
    assert libm.fesetround(upward) == 0
    try:
        for count in (1, 2):
            core.run([([recording], 1)], memory.bases, count)
            assert libm.fegetround() == upward
            for got, expected in zip(memory.bases, want, strict=True):
                assert (got == expected).all()
    finally:
        libm.fesetround(0)


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_numbers_that_are_not_finite_are_found_wherever_they_are(real):
    limits = np.finfo(real)
    x = np.tile(np.array([0, -0.0, limits.max, limits.min, limits.tiny, limits.smallest_subnormal, 1], real), 1500)
    assert _core.all_finite(x)
    for at in (0, 1, 7, 4095, 4096, x.size - 1):
        for bad in (np.nan, -np.nan, np.inf, -np.inf):
            y = x.copy()
            y[at] = bad
            assert not _core.all_finite(y)
