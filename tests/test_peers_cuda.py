# SPDX-License-Identifier: Apache-2.0
"""Contestants of GPUs where there is none: their classes over the CPU, a cuBLASLt of NumPy, Triton's interpreter; rows that
are cold, clocks, and the goals beside made results."""

import ctypes
import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from benches import ABOUT, FOLDER, LIMITS, Scripted, ScriptedPool, compare, need, process, python
from dlcore import _core
from dlcore.bench import gpu, kernels, published, timing, workloads

contestants, floors, peers = map(importlib.import_module, ("contestants", "floors", "peers"))

KERNELS = [
    kernels.Kernel(kind, kind, (40, 24, 48), gpu=True)
    for kind in (*kernels.PRODUCTS, "linear_relu", "linear_norm_relu_dropout")
]
COLD = kernels.Kernel("layer_norm", "layer_norm", (40, 24), gpu=True, cold=True)


@pytest.fixture
def torch_cuda(monkeypatch):
    """The module of GPUs over the CPU, where a capture is its warm calls and a replay the call."""
    need("torch")
    torch, module = importlib.import_module("torch"), importlib.import_module("contestants.torch_cuda")
    fakes = {"is_available": lambda: True, "Stream": object, "set_stream": lambda _: None, "synchronize": lambda: None}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    monkeypatch.setattr(module.TorchCuda, "device", "cpu")
    monkeypatch.setattr(module.TorchCudaCompile, "compiled", lambda self, function: function)
    monkeypatch.setattr(module.Graphed, "captured", lambda self, call: [call() for _ in range(3)] and call)
    return module


@pytest.mark.parametrize("workload", ["W1", "W2", "W3"])
def test_a_captured_step_begins_with_the_given_values(workload, torch_cuda):
    w, losses = workloads.find(workload), {}
    for name, made_by in (("captured", torch_cuda.TorchCudaCompile), ("truth", torch_cuda.TorchEager)):
        contestant = made_by(1)
        contestant.build(w, workloads.parameters(w), *workloads.batch(w, 64), w.lr, dropout=False)
        losses[name] = [contestant.step() or contestant.loss() for _ in range(compare.STEPS)]
    assert compare.difference(losses["captured"], losses["truth"], "train") < 1e-5


TORCH = ("TorchCuda", "TorchCudaTf32", "TorchCudaBf16", "TorchCudaCompileBf16")


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
@pytest.mark.parametrize("name", TORCH)
def test_torch_of_a_gpu_is_right(name, kernel, torch_cuda):
    errors = getattr(torch_cuda, name)(1).op_errors(kernel)
    assert tuple(errors) == kernel.parts
    assert (max(errors.values()) > 1e-4) == name.endswith("Bf16")


@pytest.mark.parametrize("name", TORCH[2:])
def test_bf16_steps_of_torch_are_right(name, torch_cuda):
    w, losses = workloads.find("W2"), {}
    for made_by in (getattr(torch_cuda, name), torch_cuda.TorchEager):
        contestant = made_by(1)
        contestant.build(w, workloads.parameters(w), *workloads.batch(w, 64), w.lr, dropout=False)
        losses[made_by.precision] = [contestant.step() or contestant.loss() for _ in range(3)]
    assert 0 < compare.difference(losses["bf16"], losses["float32"], "train") < compare.TOLERANCES["bf16"]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
def test_jax_in_bf16_is_right(kernel, monkeypatch):
    need("optax", required=False)
    jax, module = importlib.import_module("jax"), importlib.import_module("contestants.jax_")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert max(module.JaxCudaBf16(1).op_errors(kernel).values()) > 1e-4 > max(module.JaxCuda(1).op_errors(kernel).values())


def test_bf16_steps_of_jax_are_right(monkeypatch):
    need("optax", required=False)
    jax, module = importlib.import_module("jax"), importlib.import_module("contestants.jax_")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    w, losses = workloads.find("W2"), {}
    for made_by in (module.JaxCudaBf16, module.JaxCuda):
        contestant = made_by(1)
        contestant.build(w, workloads.parameters(w), *workloads.batch(w, 64), w.lr, dropout=False)
        losses[made_by.precision] = [contestant.step() or contestant.loss() for _ in range(3)]
    assert 0 < compare.difference(losses["bf16"], losses["float32"], "train") < compare.TOLERANCES["bf16"]


class NumpyLt:
    """cuBLASLt's functions that a product takes: layouts (type, rows, columns, ld) of column-major matrices."""

    def __init__(self):
        self.made, self.limit = [None], None

    def _keep(self, out, *made):
        self.made.append(list(made))
        ctypes.cast(out, ctypes.POINTER(ctypes.c_void_p))[0] = len(self.made) - 1
        return 0

    def cublasLtCreate(self, out):
        return self._keep(out)

    def cublasLtMatmulDescCreate(self, out, compute, scale):
        return self._keep(out, compute, {3: 0, 4: 0})

    def cublasLtMatmulDescSetAttribute(self, desc, attribute, value, size):
        assert size.value == 4
        self.made[desc.value][1][attribute] = value._obj.value
        return 0

    def cublasLtMatrixLayoutCreate(self, out, kind, rows, cols, ld):
        return self._keep(out, kind, rows.value, cols.value, ld.value)

    def cublasLtMatmulPreferenceCreate(self, out):
        return self._keep(out)

    def cublasLtMatmulPreferenceSetAttribute(self, preference, attribute, value, size):
        self.limit = value._obj.value
        return 0

    def cublasLtMatmulAlgoGetHeuristic(self, handle, desc, a, b, c, d, preference, asked, found, count):
        count._obj.value = 2
        found[1].state = 1  # it cannot be run
        return 0

    def _matrix(self, at, layout):
        kind, rows, cols, ld = self.made[layout.value]
        assert ld == rows
        bits = np.ctypeslib.as_array(ctypes.cast(at, ctypes.POINTER(ctypes.c_uint16)), (rows * cols * (2 if kind == 0 else 1),))
        return kind, bits, (cols, rows)

    def cublasLtMatmul(self, handle, desc, one, a, left, b, right, zero, c, lc, d, ld, algorithm, workspace, size, stream):
        values = []
        for at, layout, transposed in ((a, left, self.made[desc.value][1][3]), (b, right, self.made[desc.value][1][4])):
            kind, bits, shape = self._matrix(at, layout)
            real = bits.view(np.float32) if kind == 0 else (bits.astype(np.uint32) << 16).view(np.float32)
            values.append(real.reshape(shape) if transposed else real.reshape(shape).T)
        kind, bits, shape = self._matrix(d, ld)
        result = np.ascontiguousarray((values[0] @ values[1]).T)
        assert result.shape == shape
        bits[:] = (result.view(np.uint32) >> 16).ravel() if kind == 14 else result.view(np.uint16).ravel()
        return 0


@pytest.mark.parametrize("kernel", KERNELS[:3], ids=lambda k: k.name)
@pytest.mark.parametrize("name", ["CublasLt", "CublasLtTf32", "CublasLtBf16"])
def test_cublaslt_is_asked_for_the_right_product(name, kernel, torch_cuda, monkeypatch):
    torch, module = importlib.import_module("torch"), importlib.import_module("contestants.cublaslt")
    library = NumpyLt()
    monkeypatch.setattr(module, "library", lambda: library)
    monkeypatch.setattr(module.CublasLt, "_seconds", lambda self, call: call() and 1.0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: type("Stream", (), {"cuda_stream": 0}))
    contestant = getattr(module, name)(1)
    error = max(contestant.op_errors(kernel).values())
    assert (error > 1e-4) == (contestant.precision == "bf16")
    assert next(made[0] for made in library.made[1:] if len(made) == 2) == contestant.compute
    assert library.limit == module.WORKSPACE


def test_triton_is_right_in_its_interpreter():
    need("triton", required=False)
    code = f"""
import sys; sys.path[:0] = [{str(FOLDER)!r}]
import torch
torch.cuda.is_available = lambda: True
for name in ("Stream", "set_stream", "synchronize"):
    setattr(torch.cuda, name, lambda *_: None)
from contestants import torch_cuda, triton_
from workloads import kernels
torch_cuda.TorchCuda.device = "cpu"
torch_cuda.Graphed.captured = lambda self, call: call
kernel, size = triton_.tiles.fn, dict(bm=16, bn=16, bk=16)  # where the fastest would be found by measuring
class Tiles:
    def __getitem__(self, grid):
        return lambda *given, **options: kernel[grid(size)](*given, **options, **size)
triton_.tiles = Tiles()
# The interpreter multiplies the bits of bf16 as integers, so it is given float32 of the same values.
triton_.TritonBf16.operand = lambda self, array: self.tensor(array).to(torch.bfloat16).float()
for kind in kernels.PRODUCTS:
    print(kind, triton_.TritonBf16(1).op_errors(kernels.Kernel(kind, kind, (40, 23, 50), True))["forward"] > 1e-4)
print("cross_entropy", max(triton_.Triton(1).op_errors(kernels.Kernel("x", "cross_entropy", (7, 10))).values()) < 1e-5)
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    options = {"capture_output": True, "text": True, "timeout": 300, "env": environment, "check": False}
    done = subprocess.run([sys.executable, "-c", code], **options)
    assert done.stdout.split() == ["product", "True", "product_nt", "True", "product_tn", "True", "cross_entropy", "True"], done


@pytest.mark.emulated
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: k.name)
@pytest.mark.parametrize("name", ["Cuda", "Mma", "Wgmma", "MmaBf16", "WgmmaBf16", "MmaBf16x3", "WgmmaBf16x3", "CublasLt"])
def test_dlcore_of_a_device_is_right(name, kernel, monkeypatch):
    module = importlib.import_module("contestants.dlcore_device")
    monkeypatch.setattr(module.DlcoreCuda, "device", "emulated")
    contestant = getattr(module, f"Dlcore{name}")(1)
    error = max(contestant.op_errors(kernel).values())
    low, high = {"float32": (0, 1e-6), "tf32": (1e-6, 1e-4), "bf16": (1e-4, 2e-2)}[contestant.precision]
    assert low <= error < high
    calls = contestant.ops(kernel)
    for part in kernel.parts:
        contestant.many(part, calls[part])(2)


def test_contestants_of_a_gpu_can_be_loaded_or_say_why():
    """Each is a class of its module; where its library has no GPU it is absent, which is told."""
    names = ["dlcore_wgmma_bf16", "torch_compile_bf16", "cublaslt_bf16", "jax_bf16", "triton_bf16"]
    assert set(names) < set(contestants.timed("cuda"))
    if _core.cuda_info()["available"]:
        pytest.skip("there is a GPU")
    said = []
    found, wrong = compare.present(process.Pool(1, "cuda"), names, said.append)
    assert (found, wrong) == ({}, [])
    assert [line.split(":")[1].strip() for line in said] == names
    assert all("Error:" in line for line in said)


# ---------------------------------------------------------------------------------------------------- rows
def test_a_gpu_has_rows_of_its_own():
    on_cpu, on_gpu = ({k for _, k in peers.items("ops", None, device)} for device in ("cpu", "cuda"))
    assert not any(kernels.KERNELS[name].gpu for name in on_cpu)
    assert {k.name for k in kernels.KERNELS.values() if k.gpu} | {"adamw_1M"} == on_gpu - on_cpu
    nets = {net for _, net in peers.items("train", None, "cuda")}
    assert nets - {net for _, net in peers.items("train", None)} == set(workloads.GPU_WORKLOADS)
    with pytest.raises(peers.UsageError):
        peers.items("train", "G1")
    for action in ("train", "ops"):
        for _, item in peers.items(action, None, "cuda"):
            for part in compare.parts(action, item):
                assert floors.Floor(floors.work(action, item, part), LIMITS)(0) > 0


def test_rows_that_are_cold_go_through_more_than_any_cache(monkeypatch):
    cold = [k for k in kernels.KERNELS.values() if k.cold]
    assert len(cold) == 4
    for k in cold:
        assert floors.ops(k.name, k.parts[0]).live > kernels.COLD_BYTES > 2 * (126 << 20)
        assert kernels.KERNELS[k.name.removesuffix("_cold")].copies == 1
    monkeypatch.setattr(kernels, "COLD_BYTES", 20_000)
    alone = sys.modules["dlcore_bench_alone.kernels"]
    monkeypatch.setattr(alone, "COLD_BYTES", 20_000)
    made_by, seen = importlib.import_module("contestants.numpy_").Numpy(1), []
    kernel = alone.Kernel("it", "layer_norm", (40, 24), True, True)
    monkeypatch.setattr(made_by, "op", lambda k, at: seen.append(at.x) or {part: lambda: None for part in k.parts})
    assert made_by.ops(kernel)["forward"]() == [None] * kernel.copies
    assert len(seen) == kernel.copies == 3 and len({x.ctypes.data for x in seen}) == 3


def test_large_products_are_checked_in_all_their_tiles():
    k = replace(KERNELS[0], shape=(8192, 8192, 8192))
    rows = np.arange(8192)[kernels.checked_rows(k)]
    assert len(rows) < 300 and set(rows // 128) == set(range(64)) and set(rows % 128) == set(range(128))
    assert kernels.checked_rows(KERNELS[0]) == slice(None, None, 1)


# -------------------------------------------------------------------------------------------------- clocks
def test_clocks_stand_before_and_after_each_round():
    readings = iter(range(100))
    pool = ScriptedPool(Scripted("dlcore"), Scripted("numpy"))
    watch = timing.Watch(lambda: 1.0, sleep=lambda _: None)
    machine = compare.Machine(LIMITS, watch, clocks=lambda: {"sm_mhz": next(readings)})
    _, seen, _ = compare.measure(pool, "train", "W7_tiny", ABOUT, {n: {"step": 0.0} for n in pool.processes}, machine, 2)
    clocks = seen["W7_tiny"]["clocks"]
    assert [[b["sm_mhz"], a["sm_mhz"]] for b, a in clocks["dlcore"] + clocks["numpy"]] == [[0, 1], [6, 7], [2, 3], [4, 5]]


def test_clocks_are_nothing_without_a_gpu():
    found = gpu.Clocks()()
    assert found == {} or found["sm_mhz"] > 0


# --------------------------------------------------------------------------------------------------- goals
def test_published_numbers_are_found_by_name():
    assert published.find("NVIDIA H100 80GB HBM3").float32 == 67e12
    assert published.find("NVIDIA H200").bandwidth == 4.8e12
    assert published.find("") is None
    share = published.find("NVIDIA H200").share
    assert share(1.0, 989.4e12 / 2, 0, terms=1) == pytest.approx(0.5)
    assert share(1.0, 989.4e12 / 12, 0, terms=6) == pytest.approx(0.5)
    assert share(2.0, 0, int(4.8e12)) == pytest.approx(0.5)


def peers_result(rows, **changes):
    machine = {
        "device": "cuda", "gpu": {"name": "NVIDIA H200"}, "published": published.about("NVIDIA H200"),
        "read_gb_per_second": {"1 KiB": 9000, "2 KiB": 4400}, "peak_gflops": 60e3,
    }  # fmt: skip
    return {"date": "2026-01-31", "command": "python bench/peers.py", "machine": machine, "rows": rows, **changes}


def measured(row, contestant, ms, precision="float32"):
    return {"row": row, "contestant": contestant, "ms": ms, "rounds_ms": [ms, ms], "precision": precision, "error": 1e-6}


def test_goals_of_a_gpu_stand_beside_what_was_measured(tmp_path):
    adamw = [measured("adamw_32M update", name, ms) for name, ms in (("dlcore", 0.2), ("torch_eager", 0.25), ("jax", 0.3))]
    old = [measured("adamw_32M update", name, 9.0) for name in ("dlcore", "torch_eager")]
    layer = "8192x1024x1024"
    names = (f"linear_relu_{layer} forward", f"product_{layer} forward")
    times = {"dlcore_wgmma_bf16": (0.031, 0.030), "cublaslt_bf16": (0.04, 0.02)}
    fused = [measured(row, who, ms, "bf16") for who in times for row, ms in zip(names, times[who], strict=True)]
    step = [measured("G2_mid", name, ms, "bf16") for name, ms in (("dlcore_mma_bf16", 0.1), ("torch_compile_bf16", 0.2))]
    for i, values in enumerate([peers_result(old, date="2026-01-30"), peers_result(adamw + fused), peers_result(step)]):
        (tmp_path / f"{i}_peers.json").write_text(json.dumps(values))
    (tmp_path / "other.json").write_text(json.dumps({"command": "python bench/cliffs.py"}))
    found = json.loads(python("goals_cuda.py", tmp_path, "--json").stdout)["goals"]
    lines = {(g["family"], g["rows"][0] if g["rows"] else ""): g for g in found}
    line = lines["AdamW, 32 M", "adamw_32M update"]
    assert (line["ours"], line["peer"], line["verdict"]) == ("dlcore", "torch_eager", "aim met")
    assert line["times"] == pytest.approx(1.25)
    assert line["published"] == pytest.approx(32e6 * 28 / 2e-4 / 4.8e12)
    assert line["measured"] == pytest.approx(32e6 * 28 / 2e-4 / 4.4e12)
    line = lines["product, bias, relu", names[0]]
    assert line["over"] == pytest.approx(31 / 30) and line["times"] == pytest.approx(40 / 31)
    line = lines["bf16 product, 1024 wide", names[1]]
    assert line["times"] == pytest.approx(2 / 3) and line["verdict"] == "missed"
    assert line["published"] == pytest.approx(2 * 8192 * 1024**2 / 3e-5 / 989.4e12)
    line = lines["mid step", "G2_mid"]
    assert line["verdict"] == "missed" and 0.1 < line["published"] < 0.55
    assert sum(g["verdict"] == "not measured" for g in found) == len(found) - 4
    assert "not measured" in python("goals_cuda.py", tmp_path / "none").stdout


def test_every_row_of_the_goals_can_be_measured():
    goals = importlib.import_module("goals_cuda")
    can = {compare.name_of(action, item, part) for action in ("train", "ops") for _, item in peers.items(action, None, "cuda")
           for part in compare.parts(action, item)}  # fmt: skip
    for goal in goals.GOALS:
        assert {row.removeprefix("-") for row in (*goal.rows, *goal.base)} <= can, goal.family
        assert set(goal.peers) | set(goals.OURS[goal.by]) <= set(contestants.timed("cuda"))
