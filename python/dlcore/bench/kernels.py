# SPDX-License-Identifier: Apache-2.0
"""Single ops that libraries are compared on: their shapes, one set of inputs, and how far a result is from the truth.

This file imports nothing of dlcore but its NumPy: the workers of bench/peers.py load it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from types import SimpleNamespace

import numpy as np

from . import plain, plain_step

LAYERS = {
    "product": plain.Linear, "linear_relu": plain.LinearRelu, "batch_norm_relu_dropout": plain.NormReluDropout,
    "layer_norm": plain.LayerNorm, "dropout": plain.Dropout, "linear_norm_relu_dropout": plain.LinearNormReluDropout,
}  # fmt: skip
PARAMETERS = {
    "product": ("weight",), "linear_relu": ("0.weight", "0.bias"), "batch_norm_relu_dropout": ("0.weight", "0.bias"),
    "layer_norm": ("weight", "bias"), "dropout": (), "linear_norm_relu_dropout": ("0.weight", "1.weight", "1.bias"),
}  # fmt: skip
PRODUCTS = ("product", "product_nt", "product_tn")  # y = a b, a b^T, a^T b: a layer's output, dx and dw
PARTS = {
    **dict.fromkeys(LAYERS, ("forward", "backward")), **dict.fromkeys(PRODUCTS, ("forward",)), "cross_entropy": ("both",),
    **dict.fromkeys(plain_step.STATES, ("update",)),
}  # fmt: skip
LR = 1e-3
READS = {"batch_norm_relu_dropout": (2, 4), "layer_norm": (1, 2)}  # forward and backward; of other kinds 1, see `mix`
# Roundoff of a factor; sums are float32.
UNITS = {"float32": plain.UNIT, "bf16": 2.0**-8, "bf16x3": 2.0**-16, "float16": 2.0**-11, "tf32": 2.0**-11}
SIGMAS = 5  # of a share of kept elements
COLD_BYTES = 256 << 20  # more than twice what the second-level cache of any GPU holds (B200: 126 MB)
LARGE, STRIDE = 1 << 33, 31  # multiply-adds of a product of which so many rows are checked: all remainders, all tiles


@dataclass(frozen=True)
class Mix:
    """How memory is passed over: streams that are read, written, or updated in place, side by side."""

    reads: int = 1
    writes: int = 0
    updates: int = 0

    @property
    def streams(self) -> int:
        return self.reads + self.writes + self.updates

    @property
    def passes(self) -> int:
        """Streams, those in place twice: they are read and written."""
        return self.streams + self.updates


@dataclass(frozen=True)
class Kernel:
    """One op at one size.

    Attributes
    ----------
    kind : str
        Of `PARTS`; an update rule is a kind.
    shape : tuple of int
        (rows, outputs, inputs) of layers with products, (m, n, k) of products, (rows, columns), or (elements, tensors) of an
        update.
    gpu : bool
        A row of GPUs alone.
    cold : bool
        Timed over copies in turn, so many that no cache holds what comes next.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    gpu: bool = False
    cold: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """What is timed on its own."""
        return PARTS[self.kind]

    @property
    def inputs(self) -> int:
        """Columns of x."""
        return self.shape[-1]

    @property
    def outputs(self) -> int:
        """Columns of y."""
        return self.shape[1]

    @property
    def copies(self) -> int:
        """Sets of arrays that take turns."""
        return 1 + COLD_BYTES // touched(self, self.parts[0]) if self.cold else 1

    def results(self, part: str) -> tuple[str, ...]:
        """Names of what a part returns, in order."""
        fixed = {"forward": ("y",), "both": ("loss", "dx"), "update": ("w",)}
        return fixed.get(part) or ("dx", *PARAMETERS[self.kind])


def _sized(kind: str, *shapes: tuple[int, ...]) -> list[Kernel]:
    return [Kernel(f"{kind}_{'x'.join(map(str, shape))}", kind, shape) for shape in shapes]


_ROWS = ((128, 512), (4096, 1024), (65536, 64))
KERNELS = {
    k.name: k
    for k in (
        *_sized("product", *((n, n, n) for n in (512, 1024, 2048))),
        *_sized("linear_relu", (128, 512, 784), (512, 1024, 1024), (4096, 1024, 1024), (65536, 64, 64)),
        *_sized("batch_norm_relu_dropout", *_ROWS),
        *_sized("layer_norm", *_ROWS),
        *_sized("cross_entropy", (128, 10), (4096, 1000)),
        *_sized("dropout", (4096, 4096)),
        *(Kernel(f"{rule}_{n // 10**6}M", rule, (n, 1)) for rule in plain_step.STATES for n in (10**6, 10**7)),
        Kernel("adamw_200x50k", "adamw", (200 * 50_000, 200)),
    )
}


def _gpu_kernels() -> list[Kernel]:
    """Rows of the goals for GPUs: products in all three roles, of squares and of layers; what is beside the products of such
    a layer; ops past the second-level cache, and small ones with it cold."""
    products = [(n, n, n) for n in (4096, 8192)] + [(8192, 1024, 1024), (32768, 512, 512)]
    made = [
        *_sized("product", *products), *_sized("product_nt", *products),
        *_sized("product_tn", *((k, n, m) if m > n else (m, n, k) for m, n, k in products)),
        *_sized("linear_relu", (8192, 1024, 1024)), *_sized("linear_norm_relu_dropout", (8192, 1024, 1024)),
        *_sized("batch_norm_relu_dropout", (32768, 1024)), *_sized("layer_norm", (32768, 1024)),
        *_sized("cross_entropy", (32768, 1000)),
        Kernel("adamw_32M", "adamw", (32 * 10**6, 1)), Kernel("adamw_1000x64", "adamw", (64_000, 1000)),
    ]  # fmt: skip
    small = ("batch_norm_relu_dropout_4096x1024", "layer_norm_4096x1024", "cross_entropy_4096x1000", "adamw_1M")
    cold = [replace(KERNELS[name], name=f"{name}_cold", cold=True) for name in small]
    return [replace(k, gpu=True) for k in (*made, *cold)]


KERNELS |= {k.name: k for k in _gpu_kernels()}


def names(device: str) -> list[str]:
    """Of the kernels that are timed on a device."""
    return [name for name, k in KERNELS.items() if device != "cpu" or not k.gpu]


def given(kernel: Kernel, seed: int = 5) -> SimpleNamespace:
    """Inputs, all float32: x, dy and ``parameters`` by path of a layer; x and target of a loss; lists w and g of an update."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape, np.float32)

    if kernel.parts == ("update",):
        size, tensors = kernel.shape
        return SimpleNamespace(**{name: [normal(size // tensors) for _ in range(tensors)] for name in ("w", "g")})
    if kernel.kind in PRODUCTS:
        m, n, k = kernel.shape
        a, b = ((k, m) if kernel.kind == "product_tn" else (m, k)), ((n, k) if kernel.kind == "product_nt" else (k, n))
        return SimpleNamespace(x=normal(*a), parameters={"weight": normal(*b) * np.float32(k**-0.5)}, dy=normal(m, n))
    x = normal(kernel.shape[0], kernel.inputs)
    x[x == 0] = 1  # what is 0 in y has been dropped
    if kernel.kind == "cross_entropy":
        return SimpleNamespace(x=x, target=rng.integers(0, kernel.inputs, len(x)))
    scale = np.float32(kernel.inputs**-0.5)
    parameters = {
        path: normal(kernel.inputs, kernel.outputs) * scale if len(kernel.shape) == 3 and path == PARAMETERS[kernel.kind][0]
        else 1 + np.float32(0.3) * normal(kernel.outputs)
        for path in PARAMETERS[kernel.kind]
    }  # fmt: skip
    return SimpleNamespace(x=x, dy=normal(kernel.shape[0], kernel.outputs), parameters=parameters)


def layer(kernel: Kernel, at: SimpleNamespace, dtype: str = "float32") -> plain.Plain:
    """The NumPy version of a layer."""
    parameters = {path: value.astype(dtype) for path, value in at.parameters.items()}
    return LAYERS[kernel.kind](at.x.astype(dtype), at.dy.astype(dtype), parameters)


def checked_rows(kernel: Kernel) -> slice:
    """Of the result of a product: all, or of a large one every thirty-first."""
    return slice(None, None, STRIDE if prod(kernel.shape) > LARGE else 1)


def product(kernel: Kernel, at: SimpleNamespace) -> np.ndarray:
    """The `checked_rows` of a product in float64."""
    a, b = at.x.T if kernel.kind == "product_tn" else at.x, at.parameters["weight"]
    return a[checked_rows(kernel)].astype("float64") @ (b.T if kernel.kind == "product_nt" else b).astype("float64")


def update(kernel: Kernel, at: SimpleNamespace, dtype: str = "float32") -> plain_step.Update:
    """The NumPy version of an update rule, over all tensors as one, with the states of a new optimizer."""
    w, g = (np.concatenate(arrays).astype(dtype) for arrays in (at.w, at.g))
    return plain_step.Update(kernel.kind, w, g, [np.zeros_like(w) for _ in range(plain_step.STATES[kernel.kind])])


def errors(kernel: Kernel, at: SimpleNamespace, found: Mapping[str, Sequence], precision: str) -> dict[str, float]:
    """By part the worst relative error from float64.

    Parameters
    ----------
    kernel : Kernel
    at : SimpleNamespace
        The inputs, of `given`.
    found : mapping
        By part the results in the order of `Kernel.results`; of an update the new values of w, tensor after tensor.
    precision : str
        Of the factors of products: float32 or bf16.

    Raises
    ------
    ValueError
        An error that rounding does not explain, or a dropout that keeps another share than it should.
    """
    if kernel.parts == ("update",):
        found = {"update": [np.concatenate(found["update"])]}
    if kernel.kind in PRODUCTS:
        found = {"forward": [found["forward"][0][checked_rows(kernel)]]}
    want, depth = _truth(kernel, at, found)
    allowed, worst = max(plain.tolerance(depth), plain.tolerance(1, UNITS[precision])), {}
    for part, results in found.items():
        named = dict(zip(kernel.results(part), results, strict=True))
        worst[part] = max(plain.error(named[n], want[part][n]) for n in named)
        if not worst[part] <= allowed:
            raise ValueError(f"{kernel.name} {part}: expected an error within {allowed:.3g}, got {worst[part]:.3g}")
    return worst


def _truth(kernel: Kernel, at: SimpleNamespace, found) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """By part the results in float64 by name, and the length of the longest sum on the way."""
    if kernel.parts == ("update",):
        rule = update(kernel, at, "float64")
        rule(plain_step.numbers(kernel.kind, LR, 0))
        return {"update": {"w": rule.w}}, 1
    if kernel.kind in PRODUCTS:
        return {"forward": {"y": product(kernel, at)}}, max(at.x.shape)
    if kernel.kind == "cross_entropy":
        version = plain.CrossEntropy(at.x.astype("float64"), at.target)
        version.both()
        return {"both": version.results("both")}, max(at.x.shape)
    version = layer(kernel, at, "float64")
    _take_masks(kernel, version, found["forward"][0])
    for part in kernel.parts:
        getattr(version, part)()
    return {part: version.results(part) for part in kernel.parts}, version.depth("forward")


def _take_masks(kernel: Kernel, version: plain.Plain, y: np.ndarray) -> None:
    """Give the truth the masks of the result that it judges; a dropout must keep the share of elements that it should."""
    if hasattr(version, "p_drop"):
        version.kept = np.ones(y.shape, bool)
        version.forward()
        alive, keep = np.count_nonzero(version.y), 1 - version.p_drop
        share = np.count_nonzero(y) / alive
        if abs(share - keep) > SIGMAS * (keep * (1 - keep) / alive) ** 0.5:
            raise ValueError(f"{kernel.name}: expected a share of {keep:g} kept, got {share:.4g} of {alive} elements")
        version.kept = y != 0
    version.active = y > 0


def mix(kernel: Kernel, part: str) -> Mix:
    """What a fused kernel passes over: each array that a part needs once; x of batch normalisation twice, as its moments
    come before its use, and dy with it."""
    if kernel.parts == ("update",):
        return Mix(reads=1, updates=1 + plain_step.STATES[kernel.kind])
    reads = 2 if len(kernel.shape) == 3 else READS.get(kernel.kind, (1, 1))[part == "backward"]
    return Mix(reads=reads, writes=1)


def bytes_and_flops(kernel: Kernel, part: str) -> tuple[int, int]:
    """The least traffic of a fused kernel, read and written, and the operations of its products."""
    if len(kernel.shape) == 3:
        m, n, k = kernel.shape
        times = 2 if part == "backward" else 1  # two products; x, w and their gradients; dy and the mask of y
        return 4 * times * (m * k + k * n + m * n), 2 * times * m * n * k
    size = kernel.shape[0] if kernel.parts == ("update",) else prod(kernel.shape)
    return 4 * size * mix(kernel, part).passes, 0


def touched(kernel: Kernel, part: str) -> int:
    """Bytes of the arrays of a part: those that pass twice count once."""
    if len(kernel.shape) == 3:
        return bytes_and_flops(kernel, part)[0]
    used, twice = mix(kernel, part), kernel.kind == "batch_norm_relu_dropout"
    size = kernel.shape[0] if kernel.parts == ("update",) else prod(kernel.shape)
    return 4 * size * (used.reads // (2 if twice else 1) + used.writes + used.updates)
