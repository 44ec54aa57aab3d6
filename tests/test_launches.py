# SPDX-License-Identifier: Apache-2.0
"""Every kernel is launched, at small odd shapes: what the emulator's list of kernels and the sanitizers of a GPU go by."""

import re
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import dlcore as dl
from cases import cuda_kernels, make_case
from checks import rng
from conftest import has_kernels
from dlcore import _core
from dlcore import backend as backends
from instructions import ByName, backend, pointwise, run_kernel, stage
from test_float16 import product_of_halves
from test_terms import product

# m and n that need each tile of a tensor core; the first with a depth of several stages, then of three.
DEEP = (65, 129, 333)
TILES = {
    "mma": ((64, 64), (1030, 1030), (130, 4100), (1030, 2100)),
    "wgmma": ((64, 64), (1030, 1030), (1900, 2035)),
}  # fmt: skip


def ones(role, m, n, k):
    """The operands of a product, all of whose sums are k."""
    shapes = {"nn": ((m, k), (k, n)), "nt": ((m, k), (n, k)), "tn": ((k, m), (k, n))}[role]
    return [np.ones(shape, np.float32) for shape in shapes]


def instruction(name):
    def launch(core):
        for rows, cols in ((5, 7), (130, 67), (3, 140)):  # rows of losses are wide from 129 columns on
            make_case(core, name, rows, cols).run(core)

    return launch


def column_sums(core):
    total = np.empty((1, 67), np.float32)
    pointwise(core, np.ones((130, 67), np.float32), [stage("sum", out=total)])
    assert (total == 130).all()


def multiply_adds(role, gemm="auto"):
    def launch(core):
        for m, n, k in ((65, 66, 600), (1030, 1050, 3)):  # a depth that is split, and blocks of four tiles
            out = np.empty((m, n), np.float32)
            numbers = [_core.ROLES.index(role), 0, _core.GEMMS.index(gemm)]
            run_kernel(core, "product", ones(role, m, n, k), m, n, [stage("store", out=out)], numbers, threads=(1,))
            assert (out == k).all()

    return launch


def tensor_cores(gemm, terms, role):
    def launch(core):
        for m, n, k in (DEEP, *((m, n, 3) for m, n in TILES[gemm][: 2 if terms > 1 else 4])):
            assert (product(ByName(core, gemm), *ones(role, m, n, k), terms, role) == k).all()

    return launch


def halves(role):
    def launch(core):
        for m, n, k in (DEEP, *((m, n, 3) for m, n in TILES["mma"])):
            assert (product_of_halves(core, *ones(role, m, n, k), role) == k).all()

    return launch


def net(gemm):
    """An epoch of batches of two sizes, captured as graphs, with what a layer may hold; then an evaluation."""

    def launch(core):
        body = dl.Sequential(dl.SiLU(), dl.Linear(33, 33), dl.Dropout(0.1))
        layers = [dl.Linear(20, 33), dl.BatchNorm(33), dl.ReLU(), dl.Residual(body), dl.LayerNorm(33), dl.Linear(33, 5)]
        made = dl.Net(layers, seed=1, device=core.name, gemm=gemm)
        x, y = rng(1).normal(size=(75, 20)).astype(np.float32), rng(2).integers(0, 5, 75)
        made.fit(x, y, epochs=1, batch_size=32, optimizer=dl.Adam(0.01, clip_norm=1.0), verbose=0)
        assert np.isfinite(made.evaluate(x, y)["loss"])

    return launch


LAUNCHES = {
    **{name: instruction(name) for name in _core.KERNELS},
    "column_sums": column_sums,
    **{f"product_{role}": multiply_adds(role) for role in _core.ROLES},
    "net_simt": net("simt"),
    **{f"cublaslt_{role}": multiply_adds(role, "cublaslt") for role in _core.ROLES},
    "net_cublaslt": net("cublaslt"),
    **{f"mma_f16_{role}": halves(role) for role in _core.ROLES},
    **{f"{g}_{terms}_{role}": tensor_cores(g, terms, role) for g in TILES for terms in (1, 3, 6) for role in _core.ROLES},
    **{f"net_{gemm}": net(gemm) for gemm in TILES},
}


@cache
def launched_by(name):
    """Symbols of the kernels that a launch runs in the emulator."""
    before = _core.emulated_launches()
    LAUNCHES[name](backend("emulated", "float32"))
    return {symbol for symbol, count in _core.emulated_launches().items() if count > before.get(symbol, 0)}


def absence(device, name):
    """Why a device has not the kernels of a launch; "" where it has them."""
    gemm = next((gemm for gemm in ("cublaslt", "wgmma", "mma") if gemm in name), "simt")
    if gemm == "cublaslt":
        try:
            backends.check_gemm("launch", backends.get(device=device), gemm)
        except ValueError as error:
            return str(error)
        return ""
    return "" if gemm == "simt" or has_kernels(device, gemm) else f"{device} has no {gemm}"


@pytest.mark.parametrize("name", LAUNCHES)
def test_kernels_are_launched(other_device, name):
    if reason := absence(other_device, name):
        pytest.skip(reason)
    if other_device == "emulated":
        assert launched_by(name) or name.startswith("cublaslt")  # a product of the library is no kernel of ours
    else:
        LAUNCHES[name](backend(other_device, "float32"))


ONLY_ON_A_GPU: set[str] = set()  # kernels that the emulator does not know
FAULTS = re.findall(r"__global__ void (\w+)", (Path(__file__).parents[1] / "csrc/cuda/emulator/faults.cu").read_text())


@pytest.mark.emulated
def test_every_kernel_is_launched():
    listed = subprocess.run(["nm", "-D", "--defined-only", _core.__file__], capture_output=True, text=True, check=True).stdout
    symbols = {name for name in re.findall(r"\S+$", listed, re.MULTILINE) if "emulated_f32" in name}
    instances = {name: {s for s in symbols if f"emulated_f32{len(name)}{name}" in s}
                 for name in (*FAULTS, *(kernel for kernel, _ in cuda_kernels()))}  # fmt: skip
    assert {name for name, found in instances.items() if not found} == ONLY_ON_A_GPU
    assert symbols == set().union(*instances.values())
    launched = set().union(*(launched_by(name) for name in LAUNCHES))
    assert not [s for name, found in instances.items() for s in found - launched if name not in FAULTS]
