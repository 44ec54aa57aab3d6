# SPDX-License-Identifier: Apache-2.0
"""The emulator finds what it is for: barriers that are missing or not reached by all, races, and indices outside."""

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cases import cuda_kernels, make_case
from checks import rng
from dlcore import _core
from instructions import ByName, activation, assert_same_bits, backend, pointwise, run_kernel, stage
from test_float16 import product_of_halves
from test_terms import product

pytestmark = pytest.mark.skipif(not _core.emulator_built(), reason="built without the emulator")

SCHEDULES = range(6)


def results(fault):
    return [tuple(_core.emulate_fault(fault, schedule)) for schedule in SCHEDULES]


def test_sound_kernel_reverses_under_every_schedule():
    assert set(results("sound")) == {tuple(map(float, reversed(range(64))))}


@pytest.mark.parametrize("kernel", ["sound_copy", "sound_box"])
def test_sound_copy_reverses_under_every_schedule(kernel):
    assert set(results(kernel)) == set(results("sound"))


@pytest.mark.parametrize("fault", ["missing_barrier", "missing_wait", "box_wait_missing"])
def test_what_is_not_there_yet_is_poison(fault):
    for found in results(fault):
        assert any(math.isnan(x) for x in found)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("copy_left", "expected threads to wait for their copies, got one that did not"),
        ("bank_conflict", "expected rows of a matrix in different banks, got a conflict"),
        ("box_arrival_missing", "expected all 128 threads to go on, got 128 at a barrier"),
        ("box_more_bytes", "expected all 128 threads to go on, got 128 at a barrier"),
        ("box_arrival_again", "expected as many arrivals as the barrier waits for, got one more"),
        ("box_fence_missing", "expected a fence before products whose sums were touched, got none"),
        ("box_commit_missing", "expected threads to wait for their products, got a warp that did not"),
        ("box_misaligned", "expected a descriptor whose patterns begin at multiples of 1024 bytes, got another"),
        ("box_outside", "expected a descriptor of shared memory, got one that reaches beyond"),
        ("box_unpublished", "expected a barrier that copies know, got one that was not published"),
        ("box_unacquired", "expected a map that was acquired, got another"),
    ],
)
def test_faults_of_copies_and_matrices_are_found(fault, message):
    for schedule in SCHEDULES:
        with pytest.raises(RuntimeError, match=message):
            _core.emulate_fault(fault, schedule)


@pytest.mark.parametrize("fault", ["box_early", "box_released"])
def test_products_of_a_stage_that_has_not_come_or_was_given_back_are_found(fault):
    """Where copies come as late as they may; by other schedules they may come in time."""
    with pytest.raises(RuntimeError, match="expected products of what has come, got copies on their way"):
        _core.emulate_fault(fault, 0)


def test_race_changes_the_result_with_the_schedule():
    assert len(set(results("race"))) > 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("divergent_barrier", "expected all 64 threads to go on, got 32 at a barrier, 0 in a warp operation and 32 that"),
        ("early_return", "got 63 at a barrier, 0 in a warp operation and 1 that have returned"),
        ("divergent_shuffle", "got 0 at a barrier, 16 in a warp operation and 48 that have returned"),
    ],
)
def test_threads_that_wait_forever_are_counted(fault, message):
    for schedule in SCHEDULES:
        with pytest.raises(RuntimeError, match=message):
            _core.emulate_fault(fault, schedule)
    assert results("sound")  # the next kernel runs well


def sanitized():
    return "__asan_init" in subprocess.run(["nm", "-D", _core.__file__], capture_output=True, text=True).stdout


def test_index_outside_of_shared_memory_is_found():
    if sanitized():
        pytest.skip("the sanitizer ends the process, see below")
    with pytest.raises(RuntimeError, match="write outside of its 256 bytes of shared memory"):
        _core.emulate_fault("outside_shared", 0)


@pytest.mark.parametrize("fault", ["outside_shared", "outside_global"])
def test_index_outside_is_found_by_the_sanitizer(fault):
    if not sanitized():
        pytest.skip("built without DLCORE_SANITIZE=address")
    source = f"from dlcore import _core; _core.emulate_fault({fault!r}, 0)"
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert result.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in result.stderr or "index 64 out of bounds" in result.stderr


ONLY_ON_A_GPU: set[str] = set()  # kernels that the emulator does not know
FAULTS = re.findall(r"__global__ void (\w+)", (Path(__file__).parents[1] / "csrc/cuda/emulator/faults.cu").read_text())


def launch_everything(core):
    for name in _core.KERNELS:
        for rows, cols in ((5, 7), (130, 67), (3, 140)):
            make_case(core, name, rows, cols).run(core)
    x = np.ones((130, 67), np.float32)
    pointwise(core, x, [stage("sum", out=np.empty((1, 67), np.float32))])
    for m, n, k in ((65, 66, 600), (1030, 1050, 3)):  # a depth that is split, and blocks of four tiles
        for role, shapes in enumerate((((m, k), (k, n)), ((m, k), (n, k)), ((k, m), (k, n)))):
            a, b = (np.ones(shape, np.float32) for shape in shapes)
            chain = [stage("store", out=np.empty((m, n), np.float32))]
            run_kernel(core, "product", [a, b], m, n, chain, [role], threads=(1,))
    sizes = {"mma": ((64, 64), (1030, 1030), (130, 4100), (1030, 2100)), "wgmma": ((64, 64), (1030, 1030), (1900, 2035))}
    for gemm, tiles in sizes.items():
        for terms in (1, 3, 6):  # every tile of a tensor core
            for m, n in tiles[: 2 if terms > 1 else 4]:
                for role, (a, b) in zip(_core.ROLES, (((m, 3), (3, n)), ((m, 3), (n, 3)), ((3, m), (3, n))), strict=True):
                    product(ByName(core, gemm), np.ones(a, np.float32), np.ones(b, np.float32), terms, role)
                    if terms == 1 and gemm == "mma":
                        product_of_halves(core, np.ones(a, np.float32), np.ones(b, np.float32), role)


def test_every_kernel_runs_in_the_emulator():
    listed = subprocess.run(["nm", "-D", "--defined-only", _core.__file__], capture_output=True, text=True, check=True).stdout
    symbols = {name for name in re.findall(r"\S+$", listed, re.MULTILINE) if "emulated_f32" in name}
    instances = {name: {s for s in symbols if f"emulated_f32{len(name)}{name}" in s}
                 for name in (*FAULTS, *(kernel for kernel, _ in cuda_kernels()))}  # fmt: skip
    assert {name for name, found in instances.items() if not found} == ONLY_ON_A_GPU
    assert symbols == set().union(*instances.values())
    launch_everything(backend("emulated", "float32"))
    launched = set(_core.emulated_launches())
    assert not [s for name, found in instances.items() for s in found - launched if name not in FAULTS]


def test_unknown_fault_is_refused():
    with pytest.raises(ValueError, match="expected a fault, got 'none'"):
        _core.emulate_fault("none", 0)


def test_pointwise_has_the_bits_of_the_cpu_with_fma():
    """One set of formulas: fma, masks and the order of sums are the same."""
    if "avx2" not in _core.cpu_info()["available"]:
        pytest.skip("no instruction set with FMA here")
    found = []
    for isa in ("avx2", "emulated"):
        core, r = backend(isa, "float32"), rng(1)
        x, y = r.normal(size=(2, 131, 67)).astype(np.float32)
        counters = np.array([[3, 0, 0, 17, 0, 0, 0, 0]])
        total, mean, squares = np.empty((3, 1, 67), np.float32)
        chain = [
            *(activation(core, name, (0.3,)) for name in core.activations),
            stage("dropout", numbers=[0.3], random_op=2, a=counters),
            stage("add", operand=y),
            stage("dot", operand=y, out=total),
            stage("moments", out=mean, out2=squares),
        ]
        found.append((pointwise(core, x, chain), total, mean, squares))
    for got, want in zip(*found, strict=True):
        assert_same_bits(got, want)
