# SPDX-License-Identifier: Apache-2.0
"""The contestants: those that are installed are right, and what is wrong is refused."""

import importlib

import pytest

from benches import compare, need
from dlcore import _core
from dlcore.bench import kernels, plain_step, workloads

contestants, peers, process = map(importlib.import_module, ("contestants", "peers", "process"))
LIBRARIES = {"dlcore": "dlcore", "dlcore_bf16": "dlcore", "dlcore_bf16x3": "dlcore", "torch_bf16": "torch", "jax": "optax",
             "tensorflow": "tensorflow", "onnxruntime": "onnxruntime", "sklearn": "sklearn", "numpy": "numpy"}  # fmt: skip
NORMS = ("batch_norm_relu_dropout_128x512", "layer_norm_128x512")
KERNELS = ("linear_relu_128x512x784", "cross_entropy_128x10", *NORMS)
LACKING = {  # what a contestant takes no part in
    **dict.fromkeys(("dlcore_bf16", "dlcore_bf16x3", "tensorflow", "sklearn"), KERNELS), "onnxruntime": ("train", *KERNELS),
    "torch_bf16": ("cross_entropy_128x10", *NORMS),
}  # fmt: skip


@pytest.mark.parametrize("name", LIBRARIES)
def test_contestants_that_are_installed_are_right(name):
    need(LIBRARIES[name], required=False)
    w = workloads.find("W7")
    truth = [plain_step.PlainStep(w, workloads.parameters(w), *workloads.batch(w, *which), w.lr, "float64")
             for which in ((), (64, 7))]  # fmt: skip
    wanted = {"train": [truth[0].step() for _ in range(3)], "infer": truth[1].forward().ravel().tolist()}
    with process.Pool(1).started([name]) as started:
        contestant = started[name]
        allowed = compare.TOLERANCES[contestant.ask("hello")["precision"]]
        lacking = []
        for action, want in wanted.items():
            found = contestant.ask("check", action=action, item="W7", steps=3)
            lacking += [action] if "reason" in found else []
            assert "reason" in found or compare.difference(found["values"], want, action) <= allowed, action
        for kernel in KERNELS:
            found = contestant.ask("check", action="ops", item=kernel)  # it raises where errors are too large
            lacking += [kernel] if "reason" in found else []
            assert "reason" in found or set(found["errors"]) == set(kernels.KERNELS[kernel].parts)
        assert sorted(lacking) == sorted(LACKING.get(name, ()))


def test_our_bf16_says_whether_a_unit_computes_it():
    unit = _core.Backend("", "float32").unit
    with process.Pool(1).started(["dlcore", "dlcore_bf16", "dlcore_bf16x3"]) as started:
        said = {name: contestant.ask("hello") for name, contestant in started.items()}
    assert {name: s["precision"] for name, s in said.items()} == {
        "dlcore": "float32", "dlcore_bf16": "bf16", "dlcore_bf16x3": "bf16",
    }  # fmt: skip
    assert said["dlcore"]["how"] == ""
    for name, terms in (("dlcore_bf16", "1 bf16 term on"), ("dlcore_bf16x3", "3 bf16 terms on")):
        assert (terms if unit else "multiply-adds in float32, as") in said[name]["how"]


@pytest.mark.skipif(_core.cuda_info()["available"], reason="there is a GPU")
def test_contestants_of_a_gpu_are_left_out_without_one(capsys):
    assert peers.main(["--device", "cuda", "--contestants", "dlcore", "--threads", "1"]) == 1
    said = capsys.readouterr()
    assert [line.split(":")[:2] for line in said.out.splitlines()] == [["left out", " dlcore"], ["left out", " torch_eager"]]
    assert said.err == "peers.py: expected a contestant on cuda, got none\n"


# ----------------------------------------------------------------------------------------------------- kernels
def numpy_results(kernel):
    given = kernels.given(kernel)
    version = kernels.layer(kernel, given)
    found = {}
    for part in kernel.parts:
        getattr(version, part)()
        found[part] = [version.results(part)[n].copy() for n in kernel.results(part)]
    return given, found


@pytest.mark.parametrize("kind", kernels.LAYERS)
def test_a_wrong_result_of_a_kernel_is_refused(kind):
    kernel = kernels.Kernel("it", kind, (70, 33, 33) if kind.startswith(("product", "linear")) else (70, 33))
    given, found = numpy_results(kernel)
    assert max(kernels.errors(kernel, given, found, "float32").values()) < 1e-5
    found[kernel.parts[-1]][0][3, 4] += 0.01
    with pytest.raises(ValueError, match=f"it {kernel.parts[-1]}: expected an error within"):
        kernels.errors(kernel, given, found, "float32")


def test_a_dropout_that_keeps_too_much_is_refused():
    kernel = kernels.Kernel("it", "dropout", (70, 33))
    given, found = numpy_results(kernel)
    found["forward"] = [2 * given.x]
    with pytest.raises(ValueError, match=r"it: expected a share of 0\.5 kept, got 1 of 2310 elements"):
        kernels.errors(kernel, given, found, "float32")


def test_bf16_products_may_err_by_the_roundoff_of_their_factors():
    kernel = kernels.Kernel("it", "product", (8, 8, 512))
    given, found = numpy_results(kernel)
    found["forward"][0] *= 1.003
    assert kernels.errors(kernel, given, found, "bf16")["forward"] == pytest.approx(0.003, rel=1e-2)
    with pytest.raises(ValueError, match="expected an error within"):
        kernels.errors(kernel, given, found, "float32")
