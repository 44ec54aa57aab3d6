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
from .step import StepSubject
from .subject import Subject
from .workloads import WORKLOADS


@dataclass(frozen=True)
class Case:
    """A name, its group ("ops", "step" or "infer"), and how to make its subject for a number of threads and a device."""

    name: str
    group: str
    make: Callable[[str, int, str], Subject]

    def subject(self, threads: int, device: str = "cpu") -> Subject:
        return self.make(self.name, threads, device)


def norm_relu_dropout(cols: int) -> Sequential:
    return Sequential(BatchNorm(cols), ReLU(), Dropout(plain.NormReluDropout.p_drop))


LAYERS: dict[str, Callable] = {
    "product": lambda k: Linear(k.inputs, k.outputs, bias=False),
    "linear_relu": lambda k: Sequential(Linear(k.inputs, k.outputs), ReLU()),
    "batch_norm_relu_dropout": lambda k: norm_relu_dropout(k.inputs),
    "layer_norm": lambda k: LayerNorm(k.inputs),
    "dropout": lambda _: Dropout(plain.Dropout.p_drop),
}


def subject(kernel: Kernel, threads: int, device: str = "cpu", gemm: str = "auto") -> Subject:
    """What runs a kernel; ``gemm``: whose products, on a device."""
    if kernel.kind == "cross_entropy":
        return CrossEntropySubject(kernel.name, *kernel.shape, threads, device)
    if kernel.kind not in LAYERS:
        size, tensors = kernel.shape
        return UpdateSubject(kernel.name, kernel.kind, size, threads, tensors, device)
    make = lambda: LAYERS[kernel.kind](kernel)  # noqa: E731
    plain_class, rows = kernels.LAYERS[kernel.kind], kernel.shape[0]
    return LayerSubject(kernel.name, make, plain_class, rows, kernel.inputs, threads, device, gemm)


def op_cases() -> list[Case]:
    """Single ops."""
    return [Case(k.name, "ops", lambda _, *where, k=k: subject(k, *where)) for k in kernels.KERNELS.values()]


def step_cases() -> list[Case]:
    """Training steps of W1 to W8."""
    return [Case(w.name, "step", lambda _, *where, w=w: StepSubject(w, *where)) for w in WORKLOADS.values()]


def infer_cases() -> list[Case]:
    """Predictions of W1 to W8."""
    return [Case(f"{w.name}_infer", "infer", lambda _, *where, w=w: InferSubject(w, *where)) for w in WORKLOADS.values()]


GROUPS = {"ops": op_cases, "step": step_cases, "infer": infer_cases}


def all_cases() -> list[Case]:
    """Every case, group after group."""
    return [case for cases in GROUPS.values() for case in cases()]
