# SPDX-License-Identifier: Apache-2.0
"""Products by cuBLASLt, beside those of dlcore: roles, chains, whole nets, other memory, and where it is not installed.

The emulator has a stand-in of the library, which refuses what it would refuse.
"""

import ctypes
import sys

import numpy as np
import pytest

import dlcore as dl
from checks import assert_close, rng
from dlcore import _core, ops
from dlcore import backend as backends
from instructions import activation, assert_same_bits, run_kernel, stage

GEMM = _core.GEMMS.index(backends.CUBLASLT)
SHAPES = [(1, 1, 1), (3, 5, 7), (64, 64, 64), (65, 31, 130), (130, 129, 63), (7, 200, 600)]  # m, n, k


@pytest.fixture
def library(other_device):
    """A device with the library."""
    try:
        backends.check_gemm("test", backends.get(device=other_device), backends.CUBLASLT)
    except ValueError as error:
        pytest.skip(str(error))
    return other_device


@pytest.fixture
def core(library):
    return _core.Backend(library)


def operands(role, m, n, k, members=None):
    r, leading = rng(1), () if members is None else (members,)
    a = r.normal(size=(*leading, *((k, m) if role == "tn" else (m, k)))).astype(np.float32)
    b = r.normal(size=(*leading, *((n, k) if role == "nt" else (k, n)))).astype(np.float32)
    return a, b


def matrices(role, a, b):
    """A (m, k) and B (k, n) in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return a.swapaxes(-1, -2) if role == "tn" else a, b.swapaxes(-1, -2) if role == "nt" else b


@pytest.mark.parametrize("role", _core.ROLES)
def test_products_match_oracle_and_those_of_dlcore(core, role):
    for m, n, k in SHAPES:
        (a, b), found = operands(role, m, n, k), []
        for gemm in (GEMM, _core.GEMMS.index("simt")):
            c = np.empty((m, n), np.float32)
            run_kernel(core, "product", [a, b], m, n, [stage("store", out=c)], [_core.ROLES.index(role), 0, gemm])
            found.append(c)
        wide_a, wide_b = matrices(role, a, b)
        for c in found:
            assert_close(c, wide_a @ wide_b, depth=k, scale=np.abs(wide_a) @ np.abs(wide_b))


def test_chains_run_behind_a_product(core):
    """Stored before and after, with a reduction that is merged."""
    for m, n, k in SHAPES:
        a, b = operands("nn", m, n, k)
        bias, plain, y = rng(2).normal(size=(1, n)).astype(np.float32), *np.empty((2, m, n), np.float32)
        sums = np.empty((1, n), np.float32)
        chain = [stage("store", out=plain), stage("affine", b=bias), activation(core, "relu"), stage("store", out=y)]
        run_kernel(core, "product", [a, b], m, n, [*chain, stage("sum", out=sums)], [0, 0, GEMM])
        alone = np.empty_like(y)
        run_kernel(core, "product", [a, b], m, n, [stage("store", out=alone)], [0, 0, GEMM])
        assert_same_bits(plain, alone)
        assert_same_bits(y, np.maximum(plain + bias, 0))
        assert_close(sums, y.astype(np.float64).sum(axis=0, keepdims=True), depth=m, scale=np.abs(y).sum(axis=0))


@pytest.mark.parametrize("bias", [False, True])
def test_members_have_products_of_their_own(core, bias):
    m, n, k = 5, 9, 70
    a, b = operands("nt", m, n, k, members=3)
    c, chain = np.empty((3, m, n), np.float32), [stage("scale", numbers=(2.0,))] if bias else []
    run_kernel(core, "product", [a, b], m, n, [*chain, stage("store", out=c)], [_core.ROLES.index("nt"), 0, GEMM])
    wide_a, wide_b = matrices("nt", a, b)
    assert_close(c, (2 if bias else 1) * wide_a @ wide_b, depth=k, scale=2 * np.abs(wide_a) @ np.abs(wide_b))


def trained(device, gemm, threads=1, **options):
    """Losses of a few steps, outputs of batches of two sizes, and the plan."""
    layers = [dl.Linear(20, 33), dl.BatchNorm(33), dl.ReLU(), dl.Dropout(0.3), dl.Linear(33, 64), dl.GELU(), dl.Linear(64, 5)]
    net = dl.Net(layers, seed=3, device=device, gemm=gemm, threads=threads)
    step = net.compile(dl.SoftmaxCrossEntropy(), dl.Adam(0.01), 64, **options)
    x, y = rng(2).normal(size=(150, 20)).astype(np.float32), rng(3).integers(0, 5, 150)
    losses = [step(x[i : i + 64], y[i : i + 64]) for i in (0, 40, 80)]
    return np.array(losses), np.concatenate([net.predict(x[:rows]) for rows in (7, 150, 7)]), step.plan


def test_nets_train_by_the_library(library):
    losses, outputs, plan = trained(library, "cublaslt")
    want, wanted, _ = trained(library, "simt")
    assert [n.numbers[1:] for n in plan.instructions if n.op is ops.Product] == [(0.0, float(GEMM))] * 8
    assert_close(losses, want, depth=1000)
    assert np.linalg.norm(outputs - wanted) <= 1e-4 * np.linalg.norm(wanted)
    for options in ({"threads": 2}, {"record": False}):
        others = trained(library, "cublaslt", **options)
        np.testing.assert_array_equal(losses, others[0])
        np.testing.assert_array_equal(outputs, others[1])
    assert str(plan).splitlines()[-1] == "precision float32: float32 by cuBLASLt, without tf32"
    assert str(plan).count("product.cublaslt ") == 8


def test_a_net_moves_to_another_device(library, second_device):
    net = dl.Net([dl.Linear(20, 33), dl.ReLU(), dl.Linear(33, 5)], seed=1, device=library, gemm="cublaslt")
    x = rng(4).normal(size=(9, 20)).astype(np.float32)
    want = net.predict(x)
    np.testing.assert_array_equal(net.to(second_device).predict(x), want)


# ----------------------------------------------------------------------------------------------------- refusals
def test_a_device_without_the_library_is_refused(other_device, emulator):
    if other_device != "emulated":
        pytest.skip("the library may be there")
    emulator.emulator_set("library", 0)
    said = r"gemm: expected cuBLASLt for 'cublaslt', got no libcublasLt.so.13 or .12; pip install nvidia-cublas"
    with pytest.raises(ValueError, match=f"^Net: {said}"):
        dl.Net([dl.Linear(2, 2)], device=other_device, gemm="cublaslt")
    net = dl.Net([dl.Linear(2, 2)], device=other_device)
    assert net.predict(np.ones((1, 2), np.float32)).shape == (1, 2)


def test_the_cpu_has_no_such_library():
    with pytest.raises(ValueError, match=r"^Net: gemm: expected 'auto' on the CPU, got 'cublaslt'"):
        dl.Net([dl.Linear(2, 2)], gemm="cublaslt")


def test_terms_are_not_of_the_library(core):
    a, b = operands("nn", 3, 3, 3)
    with pytest.raises(ValueError, match="terms: expected 0 for 'cublaslt', got 6"):
        run_kernel(core, "product", [a, b], 3, 3, [stage("store", out=np.empty((3, 3), np.float32))], [0, 6, GEMM])


def test_the_wheel_is_found_newest_first(tmp_path, monkeypatch):
    """What cannot be opened is passed over."""
    opened = []

    def open_(path):
        opened.append(path)
        if "so.13" in path:
            raise OSError("no")

    for name in ("cublas/lib/libcublasLt.so.12", "cu13/lib/libcublasLt.so.13", "cu13/lib/libcublas.so.13"):
        (tmp_path / "nvidia" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "nvidia" / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", open_)
    backends.open_cublaslt()
    ours = [path for path in opened if path.startswith(str(tmp_path))]
    assert [path.rpartition("/")[2] for path in ours] == ["libcublasLt.so.13", "libcublasLt.so.12"]
