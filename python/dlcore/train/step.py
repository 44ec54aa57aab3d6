# SPDX-License-Identifier: Apache-2.0
"""What a net trains with: the optimizer's arrays, the counters, and the step of the custom loop."""

from __future__ import annotations

import numpy as np

from .. import _core, changes, inputs
from .. import backend as backends
from ..arguments import positive_int
from ..device_array import base_of
from ..optim.tables import fill_row, hyper_row, hyper_table
from ..plan import Batch, Source, UpdateSpec, finish, training

# Of the loss under float16, as torch.amp.GradScaler has them.
INIT_SCALE, GROWTH_FACTOR, BACKOFF_FACTOR, GROWTH_INTERVAL = 65536.0, 2.0, 0.5, 2000


class Training:
    """The optimizer, and everything that an update reads and writes beside the parameters; ``loss``: of the last fit or
    compile."""

    def __init__(self, net, loss, optimizer):
        self.net, self.loss, self.optimizer = net, loss, optimizer
        self.updates = self.draws = 0
        elements = net.store.trained_elements
        self._memories = {"gradients": backends.Memory(net.backend, "gradients", elements, net.dtype)}
        self._keep_states()
        if terms := backends.terms(net.backend, net.precision, 1, 1, 1, net.gemm) * (net.backend.unit_layout == "parts"):
            self._memories["copies"] = backends.Memory(net.backend, "copies", elements * _core.PARTS[terms], "uint16")
        if net.precision == "float16":
            self._memories["loss_scale"] = backends.Memory(net.backend, "loss_scale", _core.LOSS_SCALE, net.dtype)
            self._memories["loss_scale"].array[_core.LOSS_SCALE_INDEX["value"]] = INIT_SCALE

    def _keep_states(self) -> int:
        """The arrays that the rule keeps, and how many; what it did not keep before begins at 0."""
        net = self.net
        states = net.backend.rules[self.optimizer.rule][1]
        for name in (f"optimizer{i + 1}" for i in range(states)):
            if name not in self._memories:
                self._memories[name] = backends.Memory(net.backend, name, net.store.trained_elements, net.dtype)
        return states

    @property
    def gradients(self) -> np.ndarray:
        """Of the last batch, or their sum."""
        return self._memories["gradients"].array

    @property
    def loss_scale(self) -> float:
        """What the gradient of the loss is multiplied by; 1 but under float16."""
        memory = self._memories.get("loss_scale")
        return 1.0 if memory is None else float(memory.array[_core.LOSS_SCALE_INDEX["value"]])

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The optimizer's state, and that of the loss scale."""
        return {name: m.array for name, m in self._memories.items() if name not in ("gradients", "copies")}

    def memories(self):
        """All that lives beside the parameters on the net's device."""
        return self._memories.values()

    def spec(self, rows: int, table_rows: int = 1, accumulate: bool = False) -> UpdateSpec:
        """The update over the parameters that are not frozen, with tables for so many updates a call; ``rows``: of a batch."""
        o = self.optimizer
        scaled = self.net.precision == "float16"
        segments = tuple(
            (s.offset, s.size, 0, float(p.decay or o.decay_all)) for p, s in self.net.store.trained() if not p.frozen
        )
        return UpdateSpec(
            o.rule, self._keep_states(), self.net.store.trained_elements, segments, o.clip_norm or 0.0,
            o.clip_value or 0.0, accumulate, table_rows=table_rows,
            scaling=(float(rows), GROWTH_FACTOR, BACKOFF_FACTOR, float(GROWTH_INTERVAL)) if scaled else (),
        )  # fmt: skip

    def plan(
        self, loss, batch: Batch, fuse: bool = True, record: bool = True, *, table_rows: int = 1, rows: int | None = None,
        accumulate: bool = False,
    ):  # fmt: skip
        """The training plan of a batch, made once; ``rows``: of whole batches, where this is a short one."""
        net, spec = self.net, self.spec(rows or batch.rows, table_rows, accumulate)
        backends.check_precision("training", net.backend, net.precision, net.gemm)
        frozen = tuple(p.frozen for p, _ in net.store.trained())
        key = ("training", net.precision, net.gemm, batch, spec, loss.key(), frozen, fuse, record)

        def build():
            trained = {p for p, _ in net.store.trained() if not p.frozen}
            trace = training(net.layer, loss, batch, trained, spec)
            return finish(
                net.backend, trace, net.store.segments, precision=net.precision, gemm=net.gemm, fuse=fuse, record=record
            )

        return net.plans.get(key, build)

    def arenas(self, **given) -> dict:
        """All arenas of a training plan."""
        return {**self.net.arenas(), **{name: m.base for name, m in self._memories.items()}, **given}

    def start(self, tables: np.ndarray, position: int = 0) -> None:
        """Set the counters for the next chunk of updates; hyper and results are indexed from its start."""
        counters = tables.view(np.int64)[:8]
        counters[:5] = (self.draws, 0, position, self.net.seed, 0)

    def hyper(self, count: int, updates_per_epoch: int) -> np.ndarray:
        """Rows of the next ``count`` updates."""
        return hyper_table(self.optimizer, self.updates, count, updates_per_epoch)


class Step:
    """One training step at a time: ``step(x, y)`` returns the loss. Made by `Net.compile`.

    Parameters
    ----------
    training : Training
        State that the steps advance.
    loss : Loss
    batch_size : int
        Rows of every call.
    updates_per_epoch : int
        What one epoch means to a schedule in epochs (default 1).
    """

    def __init__(self, training: Training, loss, batch_size: int, updates_per_epoch: int = 1, fuse=True, record=True):
        self.training, self.loss = training, loss
        self.batch_size = positive_int("compile: batch_size", batch_size)
        self.updates_per_epoch = positive_int("compile: updates_per_epoch", updates_per_epoch)
        self.options = {"fuse": fuse, "record": record}
        self._bound: _Bound | None = None

    @property
    def plan(self):
        """The plan of the last call."""
        return self._bound.plan if self._bound else None

    def __call__(self, x, y, sample_weight=None) -> float:
        """Train on one batch; the loss is the weighted mean before the update.

        Raises
        ------
        ValueError, TypeError
            Other shapes than compiled for, labels out of range, non-finite values.
        """
        bound = self._bound
        if bound is None or bound.version is not changes.latest or not bound.accepts(x, y, sample_weight):
            x, y, sample_weight = self._checked(x, y, sample_weight)
            if bound is None or not bound.takes(x, y, sample_weight):
                bound = self._bound = _Bound(self, x, y, sample_weight)
        return bound.run()

    def _checked(self, x, y, weight):
        net = self.training.net
        x = inputs.features("step", x, net.in_features, backend=net.backend)
        if len(x) != self.batch_size:
            raise ValueError(f"step: expected {self.batch_size} rows, got {len(x)}; compile another batch_size for those")
        y = inputs.targets("step", self.loss, y, len(x), net.out_features, backend=net.backend)
        return x, y, inputs.weights("step", weight, len(x), net.backend)


class _Bound:
    """A step bound to arrays of one shape, dtype and strides: what can be done once is done here."""

    def __init__(self, step: Step, x, y, weight):
        training, net = step.training, step.training.net
        self.step, self.training, self.net = step, training, net
        self.batch = self._batch(x, y, weight)
        self.plan = self._plan()
        training.gradients[:] = 0  # those of frozen parameters are part of the norm
        hyper, results = hyper_row({}), np.zeros(_core.RESULTS)
        tables, scratch = net.tables, net.scratch(self.plan.scratch_bytes)
        given = {"x": base_of(x), "y": base_of(y), "weight": base_of(weight), "hyper": hyper, "results": results}
        bases = self.plan.bases(training.arenas(**given, tables=tables, scratch=scratch))
        self.prepared = [net.backend.prepare(call, bases) for call in self.plan.calls_of([(("gradients", "update"), 1)])]
        self.at = [self.plan.arenas.index(name) for name in ("x", "y", "weight") if given[name] is not None]
        self.limit = inputs.target_limit(step.loss, y, net.out_features)
        self.wide = [i for i, a in enumerate((x, y)) if a.dtype == "float64" != net.dtype]  # finite is not yet finite here
        # Views of memory: a number goes in and out of them in a third of an ndarray's time.
        self.hyper, self.results = memoryview(hyper), memoryview(results)
        self.counters = memoryview(tables.view(np.int64)[: _core.COUNTERS])
        self.version = changes.latest

    def _plan(self):
        return self.training.plan(self.step.loss, self.batch, **self.step.options)

    def _batch(self, *arrays) -> Batch:
        return Batch(len(arrays[0]), *(None if a is None else Source.of(a) for a in arrays), **self.net.input_affine())

    def takes(self, x, y, weight) -> bool:
        """Use these checked arrays from now on, if they are seen as those before and the plan is still the same."""
        if self._batch(x, y, weight) != self.batch or (self.version is not changes.latest and self._plan() is not self.plan):
            return False
        self.version = changes.latest
        for prepared in self.prepared:
            for i, array in zip(self.at, (x, y, weight)):
                prepared.set(i, base_of(array))
        return True

    def accepts(self, x, y, weight) -> bool:
        """Use these arrays from now on, unless something about them is new or to be refused."""
        if (weight is not None) != (len(self.at) == 3):
            return False
        for prepared in self.prepared:
            if not (prepared.accept(self.at[0], x) and prepared.accept(self.at[1], y, self.limit)):
                return False
            if weight is not None and not prepared.accept(self.at[2], inputs.weights("step", weight, len(x), self.net.backend)):
                return False
        return not self.wide or all(inputs.is_finite(np.asarray((x, y)[i]), self.net.dtype) for i in self.wide)

    def run(self) -> float:
        training, hyper, counters = self.training, self.hyper, self.counters
        fill_row(hyper, training.optimizer.row(training.updates, self.step.updates_per_epoch))
        counters[0], counters[1], counters[2], counters[3], counters[4] = training.draws, 0, 0, self.net.seed, 0
        if self.net.device != "cpu":
            training.arenas()  # what was written on the host
        for prepared in self.prepared:
            prepared.run(self.net.threads)
        training.updates += 1 - counters[4]
        training.draws += 1
        weights = self.results[1]
        return self.results[0] / weights if weights else 0.0
