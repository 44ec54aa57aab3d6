# SPDX-License-Identifier: Apache-2.0
"""One valid instruction of every kernel, of any shape: what is tested of all of them alike."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from checks import rng
from dlcore import _core
from instructions import activation, run_kernel, stage


@dataclass
class Case:
    kernel: str
    operands: list
    rows: int
    cols: int
    numbers: tuple = ()

    def run(self, backend, chain=(), threads=(1, 2)):
        run_kernel(backend, self.kernel, self.operands, self.rows, self.cols, chain, self.numbers, threads)


class Arrays:
    """Random arrays of the backend's real type."""

    def __init__(self, backend, seed):
        self.real, self.strip, self.rng = np.dtype(backend.real), backend.strip, rng(seed)
        self.rules = backend.rules

    def normal(self, rows, cols):
        return self.rng.normal(size=(rows, cols)).astype(self.real)

    def positive(self, rows, cols):
        return self.rng.uniform(0.5, 2, size=(rows, cols)).astype(self.real)

    def empty(self, rows, cols):
        return np.full((rows, cols), np.nan, self.real)


def counters(draws=0, updates=0, position=0, seed=0):
    array = np.zeros((1, _core.COUNTERS), np.int64)
    for name, value in {"draws": draws, "updates": updates, "position": position, "seed": seed}.items():
        array[0, _core.COUNTER[name]] = value
    return array


def metrics(**values):
    array = np.zeros((1, _core.METRICS))
    for name, value in values.items():
        array[0, _core.METRIC[name]] = value
    return array


def product(x, m, n):
    return Case("product", [x.normal(m, 19), x.normal(19, n)], m, n, (0,))


def pointwise(x, m, n):
    return Case("pointwise", [x.normal(m, n)], m, n)


def pack(x, m, n):
    return Case("pack", [x.normal(m, n), x.empty(m, n), x.empty(n, m)], m, n, (0, 1))


def gather(x, m, n):
    order = x.rng.permutation(m + 5).astype(np.int64)[None]
    return Case("gather", [x.normal(m + 5, n), order, counters(position=3)], m, n)


def gather_index(x, m, n):
    order = x.rng.permutation(m + 5).astype(np.int64)[None]
    data = x.rng.integers(-100, 100, size=(m + 5, n))
    return Case("gather_index", [data, order, counters(position=3), np.zeros((m, n), np.int32)], m, n)


def moments_finish(x, m, n):
    inputs = [x.normal(1, n), x.positive(1, n), x.normal(1, n), x.normal(1, n), x.normal(1, n), x.positive(1, n)]
    return Case("moments_finish", [*inputs, *(x.empty(1, n) for _ in range(4))], m, n, (m, 1e-5, 0.1))


def norm_backward_finish(x, m, n):
    inputs = [x.normal(1, n) for _ in range(5)]
    return Case("norm_backward_finish", [*inputs, *(x.empty(1, n) for _ in range(5))], m, n, (m,))


def layer_norm(x, m, n):
    return Case("layer_norm", [x.normal(m, n), x.normal(1, n), x.normal(1, n), x.empty(m, 1), x.empty(m, 1)], m, n, (1e-5,))


def layer_norm_backward(x, m, n):
    inputs = [x.normal(m, n), x.normal(m, n), x.normal(1, n), x.normal(m, 1), x.positive(m, 1)]
    return Case("layer_norm_backward", [*inputs, x.empty(1, n), x.empty(1, n)], m, n)


def softmax_cross_entropy(x, m, n):
    target = x.rng.integers(0, n, size=(m, 1)).astype(np.int32)
    operands = [x.normal(m, n), target, x.positive(m, 1), x.positive(1, n), metrics(loss=1.5)]
    return Case("softmax_cross_entropy", operands, m, n, (0.1, 1))


def loss(x, m, n):
    target = x.rng.integers(0, 2, size=(m, n)).astype(x.real)
    return Case("loss", [x.normal(m, n), target, x.positive(m, 1), metrics(loss=1.5)], m, n, (1, 1, 0.5, 2))


def grad_scale(x, m, n):
    return Case("grad_scale", [metrics(weight=m), x.normal(1, m * n), np.zeros((1, 2)), None], 0, 0, (0.5,))


def update(x, m, n):
    arrays = [x.normal(1, m * n), x.normal(1, m * n), x.normal(1, m * n), x.positive(1, m * n)]
    hyper = x.rng.uniform(0.1, 0.9, size=(3, 2 * _core.HYPER))
    half = m * n // 2
    numbers = (x.rules["adam"][0], 0.7, 1, 2, 2, 0, half, 0, 1, half, m * n - half, 1, 0)
    return Case("update", [*arrays, np.array([[0.3, 1.0]]), hyper, counters(updates=2), None, None], 0, 0, numbers)


def tick(x, m, n):
    operands = [counters(draws=7, updates=2), metrics(loss=3.0, weight=2.0), np.array([[0.3, 1.0]])]
    return Case("tick", [*operands, np.zeros((4, _core.RESULTS)), None], 0, 0, (1, 1, m))


def softmax(x, m, n):
    return Case("softmax", [x.normal(m, n)], m, n)


CASES = {
    make.__name__: make
    for make in (
        product, pointwise, pack, gather, gather_index, moments_finish, norm_backward_finish, layer_norm,
        layer_norm_backward, softmax_cross_entropy, loss, grad_scale, update, tick, softmax,
    )
}  # fmt: skip
# Kernels that a chain may follow.
CHAINED = (
    "product", "pointwise", "pack", "gather", "layer_norm", "layer_norm_backward", "softmax_cross_entropy", "loss",
    "softmax",
)  # fmt: skip


def make_case(backend, name, rows, cols, seed=0):
    return CASES[name](Arrays(backend, seed), rows, cols)


def long_chain(backend, rows, cols, real):
    """One of each kind of stage, and what it writes."""
    y, z, stored = rng(20).normal(size=(3, rows, cols)).astype(real)
    a, b, c, *sums = rng(21).normal(size=(7, 1, cols)).astype(real)
    chain = [
        stage("affine", a=a, b=b),
        activation(backend, "gelu"),
        stage("moments", out=sums[0], out2=sums[1]),
        stage("dropout", random_op=1, numbers=[0.25], a=counters(draws=9, seed=2**40 + 1)),
        stage("add", operand=y),
        stage("store", out=stored),
        activation(backend, "tanh", (), "activate_grad", operand=z, operand_scale=a, operand_shift=c),
        stage("sum", out=sums[2]),
        stage("add", operand=z),
        stage("dot", operand=y, operand_scale=b, operand_shift=a, out=sums[3]),
        stage("affine2", operand=z, a=a, b=b, c=c),
        stage("scale", numbers=[0.3]),
    ]
    assert {s.kind for s in chain} | {"activate", "activate_grad"} == set(_core.STAGES)
    return chain, [stored, *sums]


# Chains whose first stages are done before the sums are stored, and what ends such a beginning: a second activation, an
# operand that is scaled, a reduction.
SHORT_CHAINS = (
    "shift", "affine shift relu store", "scale shift add relu store", "relu_grad store sum", "affine affine affine relu",
    "relu_grad shift affine add store moments", "relu shift store", "add add store", "scaled_add relu store",
    "tanh_grad shift", "tanh_grad store sum", "relu_grad tanh_grad relu_grad store", "shift tanh store",
    "store sum moments", "shift store relu store sum",
)  # fmt: skip


def made_stage(backend, name, given, out, real):
    """A stage by a short name; ``given``: two (1, n) arrays and one (m, n); ``out``: receives its results."""
    first, second, x = given
    kind, _, gradient = name.partition("_")
    if name in ("store", "sum", "moments"):
        arrays = [np.empty(x.shape if name == "store" else first.shape, real) for _ in range(1 + (name == "moments"))]
        out += arrays
        return stage(name, **dict(zip(("out", "out2"), arrays, strict=False)))
    if kind in ("relu", "tanh"):
        return activation(
            backend, kind, kind="activate_grad" if gradient else "activate", from_output=bool(gradient),
            **({"operand": x} if gradient else {}),
        )  # fmt: skip
    if kind in ("add", "scaled"):
        return stage("add", operand=x, **({"operand_scale": first} if gradient else {}))
    return stage("affine", **{"shift": {"b": first}, "scale": {"a": first}, "affine": {"a": first, "b": second}}[name])


def cuda_kernels():
    """(kernel, file in csrc/cuda) of every kernel but the emulator's faults."""
    folder = Path(__file__).resolve().parents[1] / "csrc" / "cuda"
    for path in sorted(folder.rglob("*.cu*")):
        if "emulator" not in path.parts:
            for name in re.findall(r"__global__[^;{]*?(\w+)\(const Instruction", path.read_text()):
                yield name, path.relative_to(folder).as_posix()
