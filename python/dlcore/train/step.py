# SPDX-License-Identifier: Apache-2.0
"""What a net trains with: the optimizer's arrays, the counters, and the step of the custom loop."""

from __future__ import annotations

import numpy as np

from .. import backend as backends
from ..arguments import positive_int
from ..optim.tables import hyper_table
from ..plan import Batch, Source, UpdateSpec, finish, training
from ..plan.plan import TABLE_OFFSETS
from . import inputs


class Training:
    """Loss, optimizer, and everything that an update reads and writes beside the parameters."""

    def __init__(self, net, loss, optimizer, accumulate: int = 1):
        self.net, self.loss, self.optimizer = net, loss, optimizer
        self.accumulate = positive_int("accumulate", accumulate)
        self.updates = self.draws = 0
        elements = net.store.trained_elements
        rule_states = net.backend.rules[optimizer.rule][1]
        self.arrays = {f"optimizer{i + 1}": backends.allocate(elements, net.dtype) for i in range(rule_states)}
        self.gradients = backends.allocate(elements, net.dtype)

    def spec(self) -> UpdateSpec:
        """The update over the parameters that are not frozen."""
        o = self.optimizer
        segments = tuple(
            (s.offset, s.size, 0, float(p.decay or o.decay_all)) for p, s in self.net.store.trained() if not p.frozen
        )
        return UpdateSpec(
            o.rule, len(self.arrays), self.net.store.trained_elements, segments, o.clip_norm or 0.0, o.clip_value or 0.0,
            self.accumulate > 1,
        )  # fmt: skip

    def plan(self, batch: Batch, fuse: bool = True, record: bool = True):
        """The training plan of a batch, made once."""
        net, spec = self.net, self.spec()
        frozen = tuple(p.frozen for p, _ in net.store.trained())
        key = ("training", batch, spec, self.loss.key(), frozen, fuse, record)

        def build():
            trained = {p for p, _ in net.store.trained() if not p.frozen}
            trace = training(net.layer, self.loss, batch, trained, spec)
            return finish(net.backend, trace, net.store.segments, fuse=fuse, record=record)

        return net.plans.get(key, build)

    def arenas(self, **given) -> dict:
        """All arenas of a training plan."""
        return {**self.net.arenas(), "gradients": self.gradients, **self.arrays, **given}

    def start(self, tables: np.ndarray, position: int = 0) -> None:
        """Set the counters for the next chunk of updates; hyper and results are indexed from its start."""
        counters = tables.view(np.int64)[:8]
        counters[:4] = (self.draws, 0, position, self.net.seed)

    def hyper(self, count: int, updates_per_epoch: int) -> np.ndarray:
        """Rows of the next ``count`` updates."""
        return hyper_table(self.optimizer, self.updates, count, updates_per_epoch)


class Step:
    """One training step at a time: ``step(x, y)`` returns the loss. Made by `Net.compile`.

    Parameters
    ----------
    training : Training
        State that the steps advance.
    batch_size : int
        Rows of every call.
    updates_per_epoch : int
        What one epoch means to a schedule in epochs (default 1).
    """

    def __init__(self, training: Training, batch_size: int, updates_per_epoch: int = 1, fuse=True, record=True):
        self.training, self.batch_size = training, batch_size
        self.updates_per_epoch = positive_int("compile: updates_per_epoch", updates_per_epoch)
        self._options = {"fuse": fuse, "record": record}
        self._results = np.zeros((1, 8))
        self._bound: tuple | None = None

    def __call__(self, x, y, sample_weight=None) -> float:
        """Train on one batch; the loss is the weighted mean before the update.

        Raises
        ------
        ValueError, TypeError
            Other shapes than compiled for, labels out of range, non-finite values.
        """
        net, training = self.training.net, self.training
        x = inputs.features("step", x, net.in_features)
        if len(x) != self.batch_size:
            raise ValueError(
                f"step: expected {self.batch_size} rows, got {len(x)}; compile another batch_size for those"
            )
        y = inputs.targets("step", training.loss, y, len(x), net.out_features)
        w = inputs.weights("step", sample_weight, len(x))
        source = Batch(len(x), Source.of(x), Source.of(y), None if w is None else Source.of(w), **net.input_affine())
        if self._bound is None or self._bound[0] != source:
            self._bound = (source, training.plan(source, **self._options))
        plan = self._bound[1]
        tables = net.tables
        training.start(tables)
        hyper = training.hyper(1, self.updates_per_epoch)
        arenas = training.arenas(x=x, y=y, weight=w, hyper=hyper, results=self._results)
        arenas["scratch"] = net.scratch(plan.scratch_bytes)
        plan.run(arenas, [(("gradients", "update"), 1)], net.threads)
        training.updates += 1
        training.draws += 1
        loss, weight = self._results[0, :2]
        return float(loss / weight) if weight else 0.0


def read_metrics(tables: np.ndarray) -> np.ndarray:
    """(loss sum, weight sum, correct, rows) and clear them."""
    first = TABLE_OFFSETS["metrics"] // 8
    metrics = tables[first : first + 4].copy()
    tables[first : first + 4] = 0
    return metrics
