# SPDX-License-Identifier: Apache-2.0
"""The list of cases. A new benchmark is a line here, and a NumPy version in `plain` where it is a new op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..layers import BatchNorm, Dropout, LayerNorm, Linear, ReLU, Sequential
from . import plain, plain_step
from .ops import CrossEntropySubject, LayerSubject, UpdateSubject
from .step import StepSubject
from .subject import Subject
from .workloads import WORKLOADS

# (rows, outputs, inputs)
LINEAR = [(128, 512, 784), (512, 1024, 1024), (4096, 1024, 1024), (65536, 64, 64)]
# (rows, cols)
ROWS = [(128, 512), (4096, 1024), (65536, 64)]
SIZES = {"1M": 10**6, "10M": 10**7}


@dataclass(frozen=True)
class Case:
    """A name, its group ("ops" or "step"), and how to make its subject for a number of threads."""

    name: str
    group: str
    make: Callable[[str, int], Subject]

    def subject(self, threads: int) -> Subject:
        return self.make(self.name, threads)


def norm_relu_dropout(cols: int) -> Sequential:
    return Sequential(BatchNorm(cols), ReLU(), Dropout(plain.NormReluDropout.p_drop))


def layer(make: Callable, plain_class: type, rows: int, cols: int) -> Callable[[str, int], Subject]:
    """The subject of a layer on (rows, cols)."""
    return lambda name, threads: LayerSubject(name, make, plain_class, rows, cols, threads)


def op_cases() -> list[Case]:
    """Single ops."""
    made: dict[str, Callable[[str, int], Subject]] = {
        "product_512x512x512": layer(lambda: Linear(512, 512, bias=False), plain.Linear, 512, 512)
    }
    for m, n, k in LINEAR:
        make = lambda n=n, k=k: Sequential(Linear(k, n), ReLU())  # noqa: E731
        made[f"linear_relu_{m}x{n}x{k}"] = layer(make, plain.LinearRelu, m, k)
    for m, n in ROWS:
        make = lambda n=n: norm_relu_dropout(n)  # noqa: E731
        made[f"batch_norm_relu_dropout_{m}x{n}"] = layer(make, plain.NormReluDropout, m, n)
    for m, n in ROWS:
        made[f"layer_norm_{m}x{n}"] = layer(lambda n=n: LayerNorm(n), plain.LayerNorm, m, n)
    for m, n in ((128, 10), (4096, 1000)):
        made[f"cross_entropy_{m}x{n}"] = lambda name, threads, m=m, n=n: CrossEntropySubject(name, m, n, threads)
    made["dropout_4096x4096"] = layer(lambda: Dropout(plain.Dropout.p_drop), plain.Dropout, 4096, 4096)
    for rule in plain_step.STATES:
        for size, count in SIZES.items():
            made[f"{rule}_{size}"] = lambda name, threads, r=rule, n=count: UpdateSubject(name, r, n, threads)
    return [Case(name, "ops", make) for name, make in made.items()]


def step_cases() -> list[Case]:
    """Training steps of W1 to W8."""
    return [Case(w.name, "step", lambda _, threads, w=w: StepSubject(w, threads)) for w in WORKLOADS.values()]


GROUPS = {"ops": op_cases, "step": step_cases}


def all_cases() -> list[Case]:
    """Every case, group after group."""
    return [case for cases in GROUPS.values() for case in cases()]
