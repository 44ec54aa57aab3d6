# SPDX-License-Identifier: Apache-2.0
"""The net: layers with their parameters, and what one does with them: fit, predict, evaluate, compile, save, load."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np

from . import backend as backends
from . import changes, inputs
from .arguments import finite_float, instance_of, one_of, positive_int, seed_of
from .inputs import Rows
from .layers.base import Layer
from .layers.normalization import statistics_layers
from .layers.structure import Sequential
from .losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from .moving import Moving
from .optim import Adam, Optimizer
from .plan import Batch, Source
from .predictor import Plans, Predicting, Predictor
from .store import Arrays, Store
from .train.callbacks import MONITORS, EarlyStopping, Progress, as_callbacks, check_monitor
from .train.evaluation import Evaluation, r2
from .train.history import History
from .train.loop import Loop
from .train.statistics import exact_statistics
from .train.step import Step, Training


class Net(Predicting, Moving):
    """A trainable net.

    Parameters
    ----------
    layer : Layer or sequence of layers
        Usually a `Sequential`.
    seed : int
        Key of initialisation, shuffling and dropout: the same seed gives the same bits at any number of threads.
    dtype : {"float32", "float64"}
        Of parameters and computation (default float32).
    precision : {"float32", "bf16x3", "bf16", "float16"}
        How matrix products are made (default float32: an error no larger than that of float32 arithmetic). bf16x3 and
        bf16 allow them relative errors of 1e-5 and 4e-3, for speed where the processor multiplies bf16 (on a GPU: with
        ``gemm="mma"`` or ``"wgmma"``); sums and weights stay float32. Elsewhere, and where a product is too small to gain,
        they are float32 products. Where products are made from bf16 parts, denormal operands count as zero and infinite
        ones may give NaN.
        dtype float64 takes the default, and its products are float64.

        On such a GPU, bf16 also holds activations and their gradients in 16 bits between kernels; weights, their gradients,
        sums, statistics, what a loss reads and the optimizer stay float32. float16 is the same in IEEE half precision, for
        ``gemm="mma"`` alone, with a dynamic scale of the loss as `torch.amp.GradScaler` keeps it: 65536 at first, halved
        when a gradient overflows, whose update is skipped, doubled after 2000 updates in a row (Micikevicius et al., 2018).
        Histories then have columns ``loss_scale`` and ``skipped``.
    device : {"auto", "cpu", "cuda", "cuda:1", ...}
        Where it runs (default auto, the CPU); cuda is the first GPU, as cuda:0.
    gemm : {"auto", "simt", "mma", "wgmma", "cublaslt"}
        Whose kernels make products on a GPU: multiply-adds (simt), or sums of products of bf16 parts on tensor cores (mma,
        from compute capability 8.0 on; wgmma, for 9.0 alone), six, three or one by precision; cublaslt is NVIDIA's library in
        float32, without tf32, where it is installed (``pip install nvidia-cublas``): bits are its own. auto takes what has
        passed its tests on a GPU, simt so far. Not part of a saved net.
    threads : int, optional
        Default: `dlcore.num_threads()`.

    Raises
    ------
    ValueError
        A layer used twice, or one that already belongs to a net; kernels that the device has not.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> net = dl.Net([dl.Linear(2, 8), dl.Tanh(), dl.Linear(8, 2)], seed=0)
    >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    >>> history = net.fit(x, [0, 1, 1, 0], optimizer=dl.Adam(0.05), epochs=200, batch_size=4, verbose=0)
    >>> net.predict(x).argmax(axis=1).tolist()
    [0, 1, 1, 0]
    """

    def __init__(
        self, layer, *, seed: int = 0, dtype: str = "float32", precision: str = "float32", device: str = "auto",
        gemm: str = "auto", threads: int | None = None,
    ):  # fmt: skip
        instance_of("Net", layer, (Layer, Iterable), "a layer or a sequence of layers")
        self.layer = layer if isinstance(layer, Layer) else Sequential(*layer)
        self.seed, self.device = seed_of("Net", seed), backends.select_device(device)
        self.dtype = one_of("Net: dtype", dtype, ("float32", "float64"))
        self.precision = one_of("Net: precision", precision, backends.PRECISIONS)
        if dtype == "float64" and precision != "float32":
            raise ValueError(f"Net: precision: expected 'float32' beside dtype 'float64', got {precision!r}")
        self.backend = backends.get(self.dtype, self.device)
        self.gemm = backends.check_gemm("Net", self.backend, gemm)
        backends.check_precision("Net", self.backend, precision, gemm)
        self._threads = None if threads is None else positive_int("Net: threads", threads)
        taken = [n for n, p in self.layer.named_parameters() if p.adopted]
        if taken:
            raise ValueError(f"Net: expected layers of no other net, got {taken[0]}; build new layers")
        self.store = Store(self.layer, self.dtype, self.backend)
        self.store.draw(self.seed)
        self.plans = Plans(self.layer)
        self._local = threading.local()  # tables and scratch: several threads may predict at once
        self.in_features = self.layer.width()
        if self.in_features is None:
            raise ValueError(f"Net: expected a layer that fixes the input width, got {self.layer!r}; begin with Linear")
        self.input: tuple[tuple[float, ...], tuple[float, ...]] | None = None  # scale and shift of columns
        self.target_scaler = None
        self.preprocessing: dict = {}
        self.training: Training | None = None
        self.out_features = self._trace_width()

    def _trace_width(self) -> int:
        from .graph import Trace

        trace = Trace(training=False)
        return self.layer(trace.value("x", (2, self.in_features), kind="x")).cols

    # ------------------------------------------------------------------------------------- what a net holds
    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """Arrays by path; writing into them, or assigning to a path, changes the net. After a run on a GPU, ask again."""
        return Arrays({n: p for n, p in self.store.named.items() if not p.state})

    @property
    def state(self) -> dict[str, np.ndarray]:
        """Running statistics by path."""
        return Arrays({n: p for n, p in self.store.named.items() if p.state})

    def parameter_count(self) -> int:
        """Number of trained numbers.

        Examples
        --------
        >>> import dlcore as dl
        >>> dl.Net([dl.Linear(3, 2)]).parameter_count()
        8
        """
        return sum(p.size for p in self.store.named.values() if not p.state)

    def normalize_inputs(self, scale, shift) -> None:
        """Let every pass read x * scale + shift instead of x, one number a column; saved with the net.

        Parameters
        ----------
        scale, shift : array_like (in_features,)
            Of the columns; (x - mean) / std has scale 1 / std and shift -mean / std.

        Raises
        ------
        ValueError, TypeError
            Another number of columns; numbers that are not finite in the net's dtype.

        Examples
        --------
        >>> import numpy as np, dlcore as dl
        >>> net = dl.Net([dl.Identity(), dl.Linear(2, 1)])
        >>> x = np.array([[10.0, 20.0], [30.0, 40.0]], np.float32)
        >>> net.normalize_inputs(1 / x.std(axis=0), -x.mean(axis=0) / x.std(axis=0))
        >>> net.predict(x).shape
        (2, 1)
        """
        vectors = []
        for name, given in (("scale", scale), ("shift", shift)):
            who = f"normalize_inputs: {name}"
            v = np.ravel(inputs.viewed(who, given)).astype(np.float64)
            if len(v) != self.in_features:
                raise ValueError(f"{who}: expected {self.in_features} finite numbers, got {len(v)}")
            inputs.require_finite(who, v, backend=self.backend)
            vectors.append(tuple(v.tolist()))
        self.input = tuple(vectors)
        changes.note()

    def arenas(self) -> dict:
        """The arenas that every program of this net shares."""
        return {"parameters": self.store.memory.base, "tables": self.tables}

    # ------------------------------------------------------------------------------------------- training
    def compile(self, loss, optimizer, batch_size: int, *, updates_per_epoch: int = 1, fuse=True, record=True) -> Step:
        """The step of a custom loop: ``step(x, y)`` trains on one batch and returns the loss.

        Parameters
        ----------
        loss : Loss
        optimizer : Optimizer or None
            That of the last fit or compile, or None, goes on with its state; another one starts anew.
        batch_size : int
            Rows of every call.
        updates_per_epoch : int
            What an epoch is to a schedule in epochs (default 1).
        fuse, record : bool
            False for the naive reference: one kernel a node, one call a kernel (default True).

        Raises
        ------
        ValueError, TypeError
            No loss, or a number that is no integer >= 1.
        MemoryError
            The device has no room for the optimizer's state.

        Examples
        --------
        >>> import numpy as np, dlcore as dl
        >>> net = dl.Net([dl.Linear(2, 1)])
        >>> step = net.compile(dl.MeanSquaredError(), dl.SGD(0.1), batch_size=4)
        >>> x, y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
        >>> step(x, y) > step(x, y)
        True
        """
        self._check_loss(loss)
        self._check_optimizer(optimizer)
        training = self._training_of(loss, optimizer)
        step = Step(training, loss, batch_size, updates_per_epoch, fuse, record)
        self.training, training.loss = training, loss
        return step

    @backends.releasing
    def fit(
        self, x, y, *, loss: Loss | None = None, optimizer=None, epochs: int = 10, batch_size: int | None = None,
        validation=None, sample_weight=None, callbacks=(), shuffle: bool = True, accumulate: int = 1,
        monitor: str = "validation_loss", restore_best: bool = True, time_limit: float | None = None,
        verbose: int = 1, allow_nonfinite: bool = False,
    ) -> History:  # fmt: skip
        """Train for some epochs; the rows are reshuffled in each, the last short batch is used.

        Parameters
        ----------
        x : array_like (rows, in_features)
            Numbers of any dtype; converted while a batch is gathered, not copied. x, y and weights may lie on the net's
            device, in arrays with ``__dlpack__`` or ``__cuda_array_interface__``.
        y : array_like
            Integer classes (rows,) or probabilities for cross-entropy, else reals (rows,) or (rows, out_features).
        loss : Loss, optional
            Default: cross-entropy for integer targets and more than one output, else squared error.
        optimizer : Optimizer, optional
            Default: that of the last fit or compile with its state, at first `Adam()`; another one starts anew.
        epochs : int
            Default 10.
        batch_size : int, optional
            Default min(128, rows).
        validation : float or (x, y) or (x, y, weight), optional
            A fraction holds out that share of the rows, drawn with the net's seed.
        sample_weight : array_like (rows,), optional
        callbacks : sequence
            `Callback` objects or functions ``f(net, row)``; one that returns True stops.
        shuffle : bool
            Draw the order of the rows anew in each epoch, by the net's seed (default True).
        accumulate : int
            Batches whose gradients are summed before each update (default 1).
        monitor : str
            What decides the best epoch: validation_loss (default), validation_accuracy, loss or accuracy.
        restore_best : bool
            Restore the weights of the best epoch at the end, Ctrl-C included, when there is a validation part (default True).
        time_limit : float, optional
            Seconds after which no further epoch starts.
        verbose : int
            0 is silent (default 1).
        allow_nonfinite : bool
            Let NaN and infinities through (default False: refused).

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError
            Shapes, dtypes, labels or numbers that do not fit; nothing has changed then.
        MemoryError
            A device has too little memory for parameters, optimizer and a batch; nothing has changed then. Data that take
            more than half of what is free are streamed.

        Examples
        --------
        >>> import numpy as np, dlcore as dl
        >>> net, x = dl.Net([dl.Linear(1, 1)]), np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
        >>> history = net.fit(x, 2 * x, optimizer=dl.SGD(0.5), epochs=40, batch_size=16, verbose=0)
        >>> bool(history["loss"][-1] < 1e-3)
        True
        """
        epochs, accumulate = positive_int("fit: epochs", epochs), positive_int("fit: accumulate", accumulate)
        one_of("fit: monitor", monitor, MONITORS)
        if time_limit is not None:
            finite_float("fit: time_limit", time_limit, minimum=0.0)
        loss = loss or (self.training.loss if self.training else self._default_loss(y))
        self._check_loss(loss)
        self._check_optimizer(optimizer)
        rows = self._rows("fit", loss, x, y, sample_weight, allow_nonfinite)
        rows, held = self._validation(rows, validation, loss, allow_nonfinite)
        batch_size = min(128, len(rows)) if batch_size is None else positive_int("fit: batch_size", batch_size)
        if batch_size > len(rows):
            raise ValueError(f"fit: expected batch_size of at most {len(rows)} rows, got {batch_size}")
        if batch_size == 1 and any(True for _ in statistics_layers(self.layer)):
            what = "batch_size >= 2" if len(rows) > 1 else "at least 2 training rows"
            raise ValueError(f"fit: expected {what} with BatchNorm, got 1; use LayerNorm")
        if monitor == "validation_loss" and held is None:
            monitor = "loss"
        callbacks = as_callbacks(callbacks)
        stoppings = [c for c in callbacks if isinstance(c, EarlyStopping)]
        for who, name in (("fit", monitor), *(("EarlyStopping", c.monitor) for c in stoppings)):
            check_monitor(who, name, loss, held is not None)
        training = self._training_of(loss, optimizer)
        options = SimpleNamespace(
            epochs=epochs, batch_size=batch_size, shuffle=bool(shuffle), accumulate=accumulate, monitor=monitor,
            restore_best=restore_best, time_limit=time_limit,
        )  # fmt: skip
        progress = [Progress()] if verbose else []
        loop = Loop(training, loss, rows, held, options)  # takes all memory that it needs
        self.training, training.loss = training, loss
        return loop.run(callbacks + progress)

    def _training_of(self, loss, optimizer) -> Training:
        """The one there is, with its state, if the optimizer is the same; else a new one."""
        old = self.training
        optimizer = optimizer or (old.optimizer if old else Adam())
        return old if old and old.optimizer is optimizer else Training(self, loss, optimizer)

    def _default_loss(self, y) -> Loss:
        integers = inputs.viewed("fit: y", y, self.backend).dtype.kind in "iub"
        return SoftmaxCrossEntropy() if integers and self.out_features > 1 else MeanSquaredError()

    def _check_loss(self, loss) -> None:
        instance_of("Net", loss, Loss, "a loss such as SoftmaxCrossEntropy()")

    def _check_optimizer(self, optimizer) -> None:
        if optimizer is not None:
            instance_of("Net", optimizer, Optimizer, "an optimizer such as Adam()")

    def _rows(self, who, loss, x, y, weight, allow_nonfinite=False) -> Rows:
        x = inputs.features(who, x, self.in_features, allow_nonfinite, self.backend)
        if self.target_scaler is not None:
            y = self.target_scaler.transform(np.asarray(inputs.viewed(f"{who}: y", y, self.backend)))
        y = inputs.targets(who, loss, y, len(x), self.out_features, allow_nonfinite, self.backend)
        return Rows(x, y, inputs.weights(who, weight, len(x), self.backend))

    def _validation(self, rows: Rows, validation, loss, allow_nonfinite) -> tuple[Rows, Rows | None]:
        if validation is None:
            return rows, None
        if isinstance(validation, (tuple, list)):
            if len(validation) not in (2, 3):
                raise ValueError(f"fit: expected validation=(x, y) or (x, y, weight), got {len(validation)} items")
            weight = validation[2] if len(validation) == 3 else None
            return rows, self._rows("fit: validation", loss, *validation[:2], weight, allow_nonfinite)
        fraction = finite_float("fit: validation", validation, 0.0, 1.0, exclusive=True)
        held = max(1, round(fraction * len(rows)))
        if held >= len(rows):
            raise ValueError(f"fit: expected validation to leave rows for training, got {validation} of {len(rows)} rows")
        order = np.random.Generator(np.random.Philox(key=[self.seed, 1])).permutation(len(rows))
        return rows.pick(np.sort(order[held:])), rows.pick(np.sort(order[:held]))

    # ------------------------------------------------------------------------------------------ using it
    @backends.releasing
    def predictor(self, *, threads: int | None = None) -> Predictor:
        """This net as it is now, for predictions alone: a `Predictor`, which packs the weights once.

        Parameters
        ----------
        threads : int, optional
            Default: as many as the net.

        Raises
        ------
        MemoryError
            The net's device has no room for it.

        Examples
        --------
        >>> import numpy as np, dlcore as dl
        >>> dl.Net([dl.Linear(3, 2)]).predictor().predict(np.ones((4, 3), np.float32)).shape
        (4, 2)
        """
        return Predictor(self, threads)

    @backends.releasing
    def evaluate(self, x, y, *, loss: Loss | None = None, sample_weight=None, allow_nonfinite: bool = False) -> dict:
        """Loss and, for classification, accuracy; for regression r2. Evaluation mode.

        Parameters
        ----------
        x, y, sample_weight : array_like
            As of `fit`.
        loss : Loss, optional
            Default: that of the training, else as in `fit`.
        allow_nonfinite : bool
            Let NaN and infinities through (default False: refused).

        Returns
        -------
        dict
            ``loss``, ``rows``, and ``accuracy`` or ``r2``.

        Raises
        ------
        ValueError, TypeError
            Shapes, dtypes, labels or numbers that do not fit.

        Examples
        --------
        >>> import numpy as np, dlcore as dl
        >>> sorted(dl.Net([dl.Linear(3, 2)]).evaluate(np.ones((4, 3), np.float32), [0, 1, 0, 1]))
        ['accuracy', 'loss', 'rows']
        """
        loss = loss or (self.training.loss if self.training else self._default_loss(y))
        self._check_loss(loss)
        rows = self._rows("evaluate", loss, x, y, sample_weight, allow_nonfinite)
        return {**Evaluation(self, rows, loss).run(), **({"r2": r2(self, rows)} if loss.task == "regression" else {})}

    def exact_statistics(self, x) -> None:
        """Replace every BatchNorm's running statistics by the exact ones over ``x``, layer by layer.

        Parameters
        ----------
        x : array_like (rows, in_features)

        Raises
        ------
        ValueError, TypeError
            Shapes, dtypes or numbers that do not fit.

        Examples
        --------
        >>> import numpy as np, dlcore as dl
        >>> net = dl.Net([dl.BatchNorm(1), dl.Linear(1, 1)])
        >>> net.exact_statistics([[1.0], [3.0]])
        >>> net.state["0.running_mean"].tolist(), net.state["0.running_var"].tolist()
        ([2.0], [2.0])
        """
        exact_statistics(self, inputs.features("exact_statistics", x, self.in_features, backend=self.backend))

    def plan(self, batch_size: int = 128, *, loss: Loss | None = None, optimizer=None, fuse=True, record=True):
        """The training plan of a batch; ``print`` it for the listing of nodes, chains, sections, offsets, bytes, flops.

        Parameters
        ----------
        batch_size : int
            Rows (default 128).
        loss, optimizer : Loss and Optimizer, optional
            Default: those of the training, else cross-entropy (squared error for one output) and `Adam()`.
        fuse, record : bool
            As of `compile`.

        Raises
        ------
        ValueError, TypeError
            A batch_size that is no integer >= 1.

        Examples
        --------
        >>> import dlcore as dl
        >>> plan = dl.Net([dl.Linear(3, 2)]).plan(batch_size=4)
        >>> plan.parts
        ('gradients', 'update')
        """
        size = positive_int("plan: batch_size", batch_size)
        default = SoftmaxCrossEntropy() if self.out_features > 1 else MeanSquaredError()
        loss = loss or (self.training.loss if self.training else default)
        self._check_loss(loss)
        self._check_optimizer(optimizer)
        training = self.training if self.training and optimizer is None else Training(self, loss, optimizer or Adam())
        x = np.empty((size, self.in_features), self.dtype)
        y = np.empty(size, np.int32) if loss.target == "index" else np.empty((size, self.out_features), self.dtype)
        return training.plan(loss, Batch(size, Source.of(x), Source.of(y), **self.input_affine()), fuse, record)

    def __repr__(self) -> str:
        precision = "" if self.precision == "float32" else f", precision={self.precision!r}"
        return f"Net({self.layer!r}, seed={self.seed}, dtype={self.dtype!r}{precision})"


load = Net.load
