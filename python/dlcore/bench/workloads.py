# SPDX-License-Identifier: Apache-2.0
"""The nets W1 to W8, and G1 to G3 of GPUs alone, in a tiny layer language, their initial weights and one batch of data.

A net is a list of layers: ("linear", inputs, outputs), ("batch_norm", features), ("relu",), ("gelu",), ("tanh",),
("dropout", p), ("residual", [layers]). Every contestant builds it from this list and starts from the same weights.
This file imports nothing of dlcore: the workers of bench/peers.py load it alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

TIMING_LR = 1e-6  # while timing: values stay ordinary, however many steps are taken


@dataclass(frozen=True)
class Workload:
    """A net with its batch size, loss ("cross_entropy" or "squared_error"), optimizer and learning rate."""

    name: str
    layers: list
    batch: int
    loss: str
    optimizer: str
    lr: float

    @property
    def inputs(self) -> int:
        return next(flat(self.layers))[1]

    @property
    def outputs(self) -> int:
        return [layer[2] for layer in flat(self.layers) if layer[0] == "linear"][-1]


def flat(layers) -> Iterator[tuple]:
    """The layers in order, those of residual blocks included."""
    for layer in layers:
        if layer[0] == "residual":
            yield from flat(layer[1])
        else:
            yield layer


def chain(widths: list[int], between) -> list:
    """Linear layers of these widths; ``between(width)`` gives the layers after each but the last."""
    layers = []
    for i, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [("linear", inputs, outputs), *(between(outputs) if i + 2 < len(widths) else [])]
    return layers


def _residual(width: int, blocks: int, outputs: int) -> list:
    body = [*chain([width, width], None), ("batch_norm", width), ("relu",), ("dropout", 0.1), ("linear", width, width)]
    return [("residual", body)] * blocks + [("linear", width, outputs)]


def _regular(p: float):
    return lambda width: [("batch_norm", width), ("relu",), ("dropout", p)]


CROSS, SQUARED = "cross_entropy", "squared_error"
RELU, TANH, GELU = ([(name,)] for name in ("relu", "tanh", "gelu"))
WORKLOADS = {
    w.name: w
    for w in (
        Workload("W1_mnist", chain([784, 512, 256, 10], lambda _: RELU), 128, CROSS, "momentum", 0.05),
        Workload("W2_mnist_batch_norm", chain([784, 512, 256, 10], _regular(0.5)), 128, CROSS, "adam", 1e-3),
        Workload("W3_tabular", chain([54, 256, 256, 256, 7], _regular(0.1)), 256, CROSS, "adamw", 1e-3),
        Workload(
            "W4_dropout", chain([784, 1024, 1024, 1024, 10], lambda _: [*RELU, ("dropout", 0.5)]), 128, CROSS,
            "nesterov", 0.05,
        ),
        Workload("W5_wide", chain([1024, 4096, 4096, 1024], lambda _: GELU), 512, SQUARED, "adam", 1e-4),
        Workload("W6_residual", _residual(128, 32, 10), 512, CROSS, "adam", 1e-4),
        Workload("W7_tiny", chain([8, 32, 32, 1], lambda _: TANH), 32, SQUARED, "adam", 1e-3),
        Workload("W8_narrow", chain([16, *[64] * 6, 1], lambda _: RELU), 65536, SQUARED, "adam", 1e-3),
    )
}  # fmt: skip
# Where a GPU waits for its next kernel, where what lies between products counts as much as they do, and where they are all.
GPU_WORKLOADS = {
    w.name: w
    for w in (
        Workload("G1_tiny", chain([64, 128, 128, 128, 10], lambda _: RELU), 4096, CROSS, "adamw", 1e-3),
        Workload("G2_mid", chain([512, 1024, 1024, 512, 512, 10], _regular(0.1)), 1024, CROSS, "adamw", 1e-3),
        Workload("G3_large", chain([4096, 4096, 4096, 4096, 4096], lambda _: GELU), 4096, SQUARED, "adamw", 1e-5),
    )
}  # fmt: skip


def on(device: str) -> dict[str, Workload]:
    """The nets that are timed on a device, by name."""
    return WORKLOADS if device == "cpu" else WORKLOADS | GPU_WORKLOADS


def find(name: str) -> Workload | None:
    """A workload by its name or its first part, such as "W1"."""
    return next((w for w in on("any").values() if name in (w.name, w.name.split("_")[0])), None)


def parameters(workload: Workload, seed: int = 0) -> list[np.ndarray]:
    """Initial values in layer order: weight (inputs, outputs) and bias of linear, weight and bias of batch norm.

    Weights of hidden layers have variance 1 / inputs, a quarter of it inside residual blocks, so that 32 of them keep
    the values ordinary; the last layer has PyTorch's uniform(+-1 / sqrt(inputs)).
    """
    rng = np.random.default_rng(seed)
    inside = {id(layer) for block in workload.layers if block[0] == "residual" for layer in flat(block[1])}
    layers, values = list(flat(workload.layers)), []
    for i, layer in enumerate(layers):
        if layer[0] == "linear":
            bound = 1 / math.sqrt(layer[1])
            gain = 1.0 if i == len(layers) - 1 else math.sqrt(3.0) / (2.0 if id(layer) in inside else 1.0)
            values.append(rng.uniform(-gain * bound, gain * bound, layer[1:]).astype(np.float32))
            values.append(rng.uniform(-bound, bound, layer[2]).astype(np.float32))
        elif layer[0] == "batch_norm":
            values += [np.ones(layer[1], np.float32), np.zeros(layer[1], np.float32)]
    return values


def batch(workload: Workload, rows: int | None = None, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """x (rows, inputs) and y: classes (rows,), or reals (rows, outputs); by default a training batch."""
    rng, rows = np.random.default_rng(seed), rows or workload.batch
    x = rng.standard_normal((rows, workload.inputs), np.float32)
    if workload.loss == CROSS:
        return x, rng.integers(0, workload.outputs, rows)
    return x, rng.standard_normal((rows, workload.outputs), np.float32)
