# SPDX-License-Identifier: Apache-2.0
"""Predictions: what a net and a predictor, which is a net as it was at some time, have in common."""

from __future__ import annotations

import threading
from copy import deepcopy

import numpy as np

from . import backend as backends
from . import changes, inputs
from .arguments import positive_int
from .device_array import DeviceArray
from .plan import Snapshot
from .plan.plan import TABLE_BYTES
from .plan.snapshot import KIND
from .train.evaluation import call_rows, forward, forward_again, forward_on_device, prediction_plan


class Plans:
    """Plans of a layer by everything they depend on; the oldest go when there are many."""

    def __init__(self, layer, limit: int = 32):
        self.layer, self.limit, self.table = layer, limit, {}
        self.version = None

    def get(self, key, build):
        if self.version is not (latest := changes.latest):
            self.layer_key, self.version = self.layer.key(), latest
        key = (self.layer_key, *key)
        if key not in self.table:
            if len(self.table) >= self.limit:
                self.table.pop(next(iter(self.table)))
            self.table[key] = build()
        return self.table[key]


class Predicting:
    """Outputs of rows, from whatever `arenas` gives; several threads may ask at once."""

    snapshot: Snapshot | None = None

    @property
    def threads(self) -> int:
        return self._threads or backends.num_threads()

    def input_affine(self) -> dict:
        """The input normalisation as fields of a Batch."""
        return {} if self.input is None else {"scale": self.input[0], "shift": self.input[1]}

    @property
    def tables(self) -> np.ndarray:
        """Counters, metrics and grad_scale of this thread's programs."""
        if not hasattr(self._local, "tables"):
            self._local.tables = backends.allocate(TABLE_BYTES // 8, "float64")
        return self._local.tables

    @property
    def forwards(self) -> dict:
        """The last program of this thread's predictions, with and without softmax."""
        try:
            return self._local.forwards
        except AttributeError:
            self._local.forwards = {}
            return self._local.forwards

    def scratch(self, size: int):
        """Scratch memory of at least ``size`` bytes, kept between the calls of a thread."""
        if getattr(self._local, "scratch_size", 0) < max(1, size):
            self._local.scratch = backends.allocate_on(self.backend, "scratch", size)
            self._local.scratch_size = size
        return self._local.scratch

    def predict(self, x, *, out: np.ndarray | None = None, allow_nonfinite: bool = False) -> np.ndarray | DeviceArray:
        """Outputs (rows, out_features) in evaluation mode: logits, or values (in the target's units).

        Parameters
        ----------
        x : array_like (rows, in_features)
            May lie on the net's device, in an array with ``__dlpack__`` or ``__cuda_array_interface__``; the outputs stay
            there then, as a `DeviceArray`.
        out : ndarray (rows, out_features), optional
            Of the net's dtype; takes the outputs of rows that lie elsewhere, and is returned: calls with arrays of one
            shape allocate no memory then.
        allow_nonfinite : bool
            Let NaN and infinities through (default False: refused).

        Raises
        ------
        ValueError, TypeError
            Shapes, dtypes or numbers that do not fit.

        Examples
        --------
        >>> import numpy as np, dlcore as dl
        >>> net, x = dl.Net([dl.Linear(3, 2)]), np.ones((4, 3), np.float32)
        >>> net.predict(x).shape
        (4, 2)
        """
        y = forward_again(self, x, out=out)
        if y is None:
            x = inputs.features("predict", x, self.in_features, allow_nonfinite, self.backend)
            if isinstance(x, DeviceArray):
                return forward_on_device(self, x, output=self._output_affine(), out=out)
            y = forward(self, x, out=out)
        if self.target_scaler is None:
            return y
        units = self.target_scaler.inverse(y)
        if out is None:
            return units
        out[...] = units
        return out

    def _output_affine(self):
        """`target_scaler.inverse` as scale and shift of the outputs."""
        if self.target_scaler is None:
            return None
        scale, shift = (
            np.broadcast_to(v, self.out_features).astype(float) for v in (self.target_scaler.scale, self.target_scaler.shift)
        )
        return tuple((1 / scale).tolist()), tuple((-shift / scale).tolist())

    def predict_proba(self, x, *, out: np.ndarray | None = None, allow_nonfinite: bool = False) -> np.ndarray | DeviceArray:
        """Class probabilities (rows, classes): the softmax of the outputs; where `predict` leaves them.

        Parameters
        ----------
        x, out, allow_nonfinite
            As of `predict`.

        Raises
        ------
        ValueError, TypeError
            Shapes, dtypes or numbers that do not fit.

        Examples
        --------
        >>> import numpy as np, dlcore as dl
        >>> net, x = dl.Net([dl.Linear(3, 2)]), np.ones((4, 3), np.float32)
        >>> bool(np.allclose(net.predict_proba(x).sum(axis=1), 1))
        True
        """
        y = forward_again(self, x, softmax=True, out=out)
        if y is None:
            x = inputs.features("predict_proba", x, self.in_features, allow_nonfinite, self.backend)
            y = (forward_on_device if isinstance(x, DeviceArray) else forward)(self, x, softmax=True, out=out)
        return y


class Predictor(Predicting):
    """A net as it is now, for predictions alone: the same bits as `Net.predict`, sooner. Made by `Net.predictor`.

    Weights are put in the order in which products read them, and BatchNorm's statistics become scales and shifts, once; so
    later training does not change it. Several threads may use it at once. Pickles hold the packed weights, and are for
    processors that pack alike; for others pickle the net.

    Parameters
    ----------
    net : Net
    threads : int, optional
        Default: as many as the net.

    Attributes
    ----------
    nbytes : int
        Memory of what it holds beside the net.

    Raises
    ------
    MemoryError
        The net's device has no room for it.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> net = dl.Net([dl.Linear(3, 2)], seed=1)
    >>> x, predictor = np.ones((2, 3), np.float32), net.predictor()
    >>> before = net.predict(x)
    >>> net.parameters["0.weight"][...] = 0
    >>> bool((predictor.predict(x) == before).all())
    True
    """

    def __init__(self, net, threads: int | None = None):
        self._threads = net._threads if threads is None else positive_int("predictor: threads", threads)
        self._made_by = type(net)
        self.store, self.backend, self.device = net.store, net.backend, net.device
        self.layer = deepcopy(net.layer, {id(p): p for p in net.store.named.values()})  # the same parameters
        self.dtype, self.precision, self.gemm = net.dtype, net.precision, net.gemm
        self.in_features, self.out_features = net.in_features, net.out_features
        self.input, self.target_scaler = net.input, net.target_scaler
        self.plans, self._local = Plans(self.layer), threading.local()
        self.snapshot = Snapshot(self.backend)
        # The most rows and a single one: a layer that packs for other products in between packs as one of them does.
        for rows in (call_rows(self), 1):
            prediction_plan(self, np.empty((rows, self.in_features), self.dtype), softmax=False)
        self.nbytes = self.snapshot.bytes
        self._memory = backends.Memory(self.backend, KIND, self.nbytes // np.dtype(self.dtype).itemsize, self.dtype)
        self.snapshot.fill(self.store.segments, self.store.memory, self._memory, self.threads)

    def arenas(self) -> dict:
        """The arenas that every program of it shares."""
        return {KIND: self._memory.base, "tables": self.tables}

    def __reduce__(self):
        from . import checkpoint

        return checkpoint.reduced_predictor(self)

    def __repr__(self) -> str:
        return f"Predictor({self.layer!r}, dtype={self.dtype!r}, {self.nbytes} bytes)"
