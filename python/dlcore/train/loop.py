# SPDX-License-Identifier: Apache-2.0
"""The training loop: an epoch is a few calls into C++, each short enough for Ctrl-C, progress and time limits."""

from __future__ import annotations

import time
import warnings
from functools import partial

import numpy as np

from .. import _core
from ..inputs import Rows
from ..layers.normalization import statistics_layers
from ..plan.plan import Bound
from . import callbacks as cb
from .evaluation import Evaluation
from .feed import feed
from .history import History
from .step import Training

CHUNK_SECONDS = 0.1  # between two looks at signals and the clock
TABLE_ROWS = 1024  # of hyper and results: at most so many updates a call


def batch_sizes(rows: int, batch_size: int, statistics: bool) -> list[tuple[int, int]]:
    """(rows of a batch, how many) of an epoch. The last short batch is used; a lone last row joins the batch before it when
    the net takes batch statistics.

    >>> batch_sizes(10, 4, False), batch_sizes(9, 4, True), batch_sizes(9, 4, False)
    ([(4, 2), (2, 1)], [(4, 1), (5, 1)], [(4, 2), (1, 1)])
    """
    full, rest = divmod(rows, batch_size)
    if rest == 1 and statistics and full:
        return [(b, n) for b, n in ((batch_size, full - 1), (batch_size + 1, 1)) if n]
    return [(b, n) for b, n in ((batch_size, full), (rest, 1)) if b and n]


class Loop:
    """One call of fit."""

    def __init__(self, training: Training, loss, rows: Rows, validation: Rows | None, options):
        self.training, self.loss, self.net, self.rows = training, loss, training.net, rows
        self.options = options
        statistics = any(True for _ in statistics_layers(self.net.layer))
        self.sizes = batch_sizes(len(rows), options.batch_size, statistics)
        self.accumulate = min(options.accumulate, max(n for _, n in self.sizes))  # an epoch ends with an update
        self.updates_per_epoch = sum(-(-n // self.accumulate) for _, n in self.sizes)
        training.hyper(1, self.updates_per_epoch)  # refuses a schedule without rates
        self.history = History()
        self.seconds_per_update = 0.0
        self.hyper = np.zeros((TABLE_ROWS, _core.HYPER))
        self.results = np.zeros((TABLE_ROWS, _core.RESULTS))
        self.feed = feed(self.net, rows, self.sizes, ordered=True, accumulate=self.accumulate)
        self.bound = {size: self._bind(self._plan(size), count) for size, count in self.sizes}
        self.evaluation = None if validation is None else Evaluation(self.net, validation, loss)
        self.best_score: float | None = None
        self.best_weights: np.ndarray | None = None

    def run(self, callbacks: list[cb.Callback]) -> History:
        """All epochs; the best weights are restored and every callback told whatever ends the loop."""
        self.begin = time.monotonic()
        for c in callbacks:
            c.on_fit_begin(self.net, self.options.epochs)
        self.history.reason = "interrupted"
        ends = [partial(c.on_fit_end, self.net, self.history) for c in callbacks]
        first = None
        for call in (partial(self._epochs, callbacks), self._restore_best, *ends):
            try:
                call()
            except BaseException as error:
                if first is None:
                    first = error
                else:
                    first.add_note(f"on_fit_end: {error!r}")
        try:
            if first is not None:
                raise first
        finally:
            del first  # its traceback holds this frame
        return self.history

    def _restore_best(self) -> None:
        if self.best_weights is not None:
            self.net.store.array[:] = self.best_weights

    def _epochs(self, callbacks) -> None:
        for epoch in range(1, self.options.epochs + 1):
            row = self._epoch(epoch)
            self.history.rows.append(row)
            self._keep_best(row)
            stopping = [c for c in callbacks if cb.stops(c, self.net, row)]
            if not np.isfinite(row["loss"]):
                warnings.warn(f"fit: the loss became {row['loss']} in epoch {epoch}; try a lower lr", stacklevel=5)
                self.history.reason = "the loss is not finite"
                return
            if stopping:
                self.history.reason = stopping[0].reason or f"callback {type(stopping[0]).__name__}"
                return
            limit = self.options.time_limit
            if limit is not None and time.monotonic() - self.begin > limit:
                self.history.reason = "time limit"
                return
        self.history.reason = f"{self.options.epochs} epochs"

    def _epoch(self, epoch: int) -> dict:
        start = time.monotonic()
        loss, weight, correct, rows = self._train()
        row = {"epoch": epoch, "loss": loss / weight if weight else 0.0}
        if self.net.precision == "float16":
            row |= {"loss_scale": self.training.loss_scale, "skipped": self.skipped}
        if self.loss.task == "classification":
            row["accuracy"] = correct / rows
        seconds = time.monotonic() - start
        if self.evaluation is not None:
            row.update({f"validation_{k}": v for k, v in self.evaluation.run().items() if k != "rows"})
        last = max(0, self.training.updates - 1)
        row |= {
            "lr": self.training.optimizer.row(last, self.updates_per_epoch)["lr"],
            "seconds": time.monotonic() - start,
            "samples_per_second": len(self.rows) / max(seconds, 1e-9),
        }
        return row

    def _plan(self, size: int):
        options = {"rows": self.options.batch_size, "accumulate": self.accumulate > 1}
        return self.training.plan(self.loss, self.feed.batch(size), table_rows=TABLE_ROWS, **options)

    def _bind(self, plan, batches: int) -> Bound:
        """A plan with its memory; the program: whole updates, then the gradients that are left of so many batches."""
        net, k = self.net, self.accumulate
        self.training.gradients[:] = 0  # those of frozen parameters are part of the norm, and sums begin with them
        arenas = self.training.arenas(
            **self.feed.arenas, order=np.arange(len(self.rows)), scratch=net.scratch(plan.scratch_bytes), hyper=self.hyper,
            results=self.results,
        )  # fmt: skip
        rest = batches % k
        return Bound(plan, arenas, [(("gradients",) * n + ("update",), 1) for n in (k, rest) if n])

    def _train(self) -> np.ndarray:
        """One pass over the shuffled rows; the sums of the metrics."""
        total, counts = np.zeros(4), dict(self.sizes)
        self.skipped = 0
        for piece in self.feed.pieces(self._order()):
            size, done, plan = piece.size, 0, self._plan(piece.size)
            if plan is not self.bound[size].plan:  # a callback has changed something
                self.bound[size] = self._bind(plan, counts[size])
            while done < piece.batches:
                steps = min(piece.batches - done, self._chunk())
                total += self._run(self.bound[size], piece.arenas, piece.position + done * size, steps)
                done += steps
        return total

    def _order(self) -> np.ndarray:
        order = np.arange(len(self.rows), dtype=np.int64)
        if self.options.shuffle:
            key = [self.net.seed & (2**64 - 1), self.training.updates]
            order = np.random.Generator(np.random.Philox(key=key)).permutation(len(order))
        return order if self.rows.index is None else self.rows.index[order]

    def _chunk(self) -> int:
        """Micro-batches of the next call, whole updates where gradients are accumulated."""
        k = self.accumulate
        wanted = CHUNK_SECONDS / self.seconds_per_update if self.seconds_per_update else 4
        return max(1, min(TABLE_ROWS, int(wanted))) * k

    def _run(self, bound: Bound, arenas: dict, position: int, steps: int) -> np.ndarray:
        training, net, k = self.training, self.net, self.accumulate
        whole, rest = divmod(steps, k)
        updates = whole + (rest > 0)
        self.results[:updates] = 0
        self.hyper[:updates] = training.hyper(updates, self.updates_per_epoch)
        training.start(net.tables, position)
        begin = time.perf_counter()
        bound.run(training.arenas(**arenas), [whole, int(rest > 0)][: bound.parts], net.threads)
        self.seconds_per_update = (time.perf_counter() - begin) / updates
        skipped = int(net.tables.view(np.int64)[_core.COUNTER["skipped"]])
        self.skipped += skipped
        training.updates += updates - skipped
        training.draws += steps
        return self.results[:updates, :4].sum(axis=0)

    def _keep_best(self, row: dict) -> None:
        if self.evaluation is None or not self.options.restore_best:
            return
        value = cb.score(self.options.monitor, row)
        # Of equal accuracies the later one has the smaller loss, as a rule.
        if self.best_score is None or value >= self.best_score:
            self.best_score, self.history.best = value, row["epoch"]
            if self.best_weights is None:
                self.best_weights = np.empty_like(self.net.store.array)
            self.best_weights[:] = self.net.store.array
        row["best"] = self.history.best
