# SPDX-License-Identifier: Apache-2.0
"""The list of cases: a subject for every kernel of `kernels` and every net of `workloads`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..layers import BatchNorm, Dropout, LayerNorm, Linear, ReLU, Sequential
from . import kernels, plain
from .infer import InferSubject
from .kernels import Kernel
from .ops import CrossEntropySubject, LayerSubject, UpdateSubject
from .products import ProductSubject
from .step import StepSubject
from .subject import Subject
from .workloads import on


@dataclass(frozen=True)
class Case:
    """A name, its group ("ops", "step" or "infer"), and how to make its subject for a number of threads and a device."""

    name: str
    group: str
    make: Callable[..., Subject]

    def subject(self, threads: int, device: str = "cpu", **products) -> Subject:
        """``products``: gemm and precision, where they are not the usual ones."""
        return self.make(self.name, threads, device, **products)


def norm_relu_dropout(cols: int) -> Sequential:
    return Sequential(BatchNorm(cols), ReLU(), Dropout(plain.NormReluDropout.p_drop))


LAYERS: dict[str, Callable] = {
    "product": lambda k: Linear(k.inputs, k.outputs, bias=False),
    "linear_relu": lambda k: Sequential(Linear(k.inputs, k.outputs), ReLU()),
    "batch_norm_relu_dropout": lambda k: norm_relu_dropout(k.inputs),
    "layer_norm": lambda k: LayerNorm(k.inputs),
    "dropout": lambda _: Dropout(plain.Dropout.p_drop),
    "linear_norm_relu_dropout": lambda k: Sequential(
        Linear(k.inputs, k.outputs, bias=False), *norm_relu_dropout(k.outputs).layers
    ),
}


def subject(kernel: Kernel, threads: int, device: str = "cpu", gemm: str = "auto", precision: str = "float32") -> Subject:
    """What runs a kernel; ``gemm`` and ``precision``: by whom products are made on a device, and how."""
    if kernel.kind in kernels.PRODUCTS and (kernel.gpu or device != "cpu"):
        return ProductSubject(kernel, threads, device, gemm, precision)
    if kernel.kind == "cross_entropy":
        return CrossEntropySubject(kernel.name, *kernel.shape, threads, device, kernel.copies)
    if kernel.kind not in LAYERS:
        size, tensors = kernel.shape
        return UpdateSubject(kernel.name, kernel.kind, size, threads, tensors, device, kernel.copies)
    make = lambda: LAYERS[kernel.kind](kernel)  # noqa: E731
    plain_class, rows = kernels.LAYERS[kernel.kind], kernel.shape[0]
    made = precision if len(kernel.shape) == 3 else "float32"  # what has no product has nothing in 16 bits
    return LayerSubject(kernel.name, make, plain_class, rows, kernel.inputs, threads, device, gemm, made, kernel.copies)


def op_cases(device: str) -> list[Case]:
    """Single ops."""
    made = (kernels.KERNELS[name] for name in kernels.names(device))
    return [Case(k.name, "ops", lambda _, *where, k=k, **how: subject(k, *where, **how)) for k in made]


def step_cases(device: str) -> list[Case]:
    """Training steps of the nets."""
    return [Case(w.name, "step", lambda _, *where, w=w, **how: StepSubject(w, *where, **how)) for w in on(device).values()]


def infer_cases(device: str) -> list[Case]:
    """Predictions of the nets."""
    nets = on(device).values()
    return [Case(f"{w.name}_infer", "infer", lambda _, *where, w=w, **how: InferSubject(w, *where, **how)) for w in nets]


GROUPS = {"ops": op_cases, "step": step_cases, "infer": infer_cases}


def all_cases(device: str = "cpu") -> list[Case]:
    """Every case of a device, group after group."""
    return [case for cases in GROUPS.values() for case in cases(device)]
