# SPDX-License-Identifier: Apache-2.0
"""``dlcore train``: read, split, choose, fit, test once, keep."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import Any

from .. import backend
from ..data import Prepared, TargetScaler, load, prepare
from ..defaults import Settings, choose
from ..net import Net
from ..train import Callback, EarlyStopping, History
from . import folder, report
from .output import Output
from .parser import UsageError
from .train_options import chosen, parse


class Keeper(Callback):
    """Holds the history, which an interrupted fit does not return."""

    def __init__(self) -> None:
        self.history = History()

    def on_fit_end(self, net: Net, history: History) -> None:
        self.history = history


@dataclass
class Run:
    """One training run: what was asked for, what was made of it, and the seconds each part took."""

    options: dict[str, Any]
    name: str
    data: Prepared
    settings: Settings
    net: Net
    keeper: Keeper = field(default_factory=Keeper)
    test: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def history(self) -> History:
        return self.keeper.history

    @property
    def seed(self) -> int:
        return int(self.options.get("seed", 0))


def run(argv: list[str]) -> int:
    """Train; the result is printed even where keeping it fails."""
    options = parse(argv)
    output = Output(options.get("json", False), options.get("quiet", False))
    _check_machine(options)
    begin = time.perf_counter()
    this = _read(options)
    this.seconds["reading"] = time.perf_counter() - begin
    path = folder.create(options["out"]) if "out" in options else None
    for line in report.before(this):
        output.say(line)
    try:
        _fit(this)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_rescue(this, path)) from None
    this.seconds["total"] = time.perf_counter() - begin
    try:
        files = folder.fill(path, this) if path else []
    finally:
        output.result(report.values(this), report.after(this))
    if path:
        output.say(f"kept {', '.join(files)} in {path}")
    return 0


def _check_machine(options: dict[str, Any]) -> None:
    """Device and instruction set, before any data is read."""
    try:
        device = backend.select_device(options.get("device", "auto"))
        gemm = backend.check_gemm("train", backend.get(device=device), options.get("gemm", "auto"))
        backend.check_precision("train", backend.get(device=device), options.get("precision", "float32"), gemm)
    except (RuntimeError, ValueError) as error:
        raise UsageError(str(error).removeprefix("train: ")) from None


def _read(options: dict[str, Any]) -> Run:
    get = options.get
    dataset = load(options["data"], test=get("test"), data_dir=get("data_dir"), target=get("target"), task=get("task"))
    data = prepare(dataset, options.get("seed", 0))
    rows, columns = data.train[0].shape
    if options.get("batch_size", 1) > rows:
        raise UsageError(f"expected --batch-size of at most {rows}, the training rows, got {options['batch_size']}")
    settings = choose(dataset.task, rows, columns, **chosen(options))
    return Run(options, dataset.name, data, settings, _net(data, settings, options, dataset.name))


def _net(data: Prepared, settings: Settings, options: dict[str, Any], name: str) -> Net:
    """The net with everything that raw rows pass through on their way in and out."""
    (x, y), schema = data.train, data.schema
    outputs = len(schema.classes) if schema.classes else y[0].size
    net = Net(
        settings.layer(x.shape[1], outputs), seed=options.get("seed", 0), precision=options.get("precision", "float32"),
        device=options.get("device", "auto"), gemm=options.get("gemm", "auto"), threads=options.get("threads"),
    )  # fmt: skip
    net.normalize_inputs(*settings.input_scaling(x, schema.image))
    if schema.task == "regression":
        net.target_scaler = TargetScaler().fit(y)
    net.preprocessing = {"data": name, "schema": schema.to_dict()}
    return net


def _fit(this: Run) -> None:
    begin = time.perf_counter()
    monitor = "validation_loss" if this.settings.task == "regression" else "validation_accuracy"
    callbacks: list[Callback] = [this.keeper]
    if "patience" in this.options:
        callbacks.append(EarlyStopping(this.options["patience"], monitor=monitor))
    this.net.fit(
        *this.data.train, loss=this.settings.make_loss(), optimizer=this.settings.make_optimizer(),
        epochs=this.settings.epochs, batch_size=this.settings.batch_size, validation=this.data.validation,
        callbacks=callbacks, monitor=monitor, verbose=0 if this.options.get("quiet") else 1,
    )  # fmt: skip
    trained = time.perf_counter()
    this.test = this.net.evaluate(*this.data.test)
    this.seconds |= {"training": trained - begin, "testing": time.perf_counter() - trained}


def _rescue(this: Run, path: str | None) -> str:
    """Keep the best net so far; a second Ctrl-C must not spoil that."""
    if path is None:
        return "interrupted; nothing is kept without --out"
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        folder.fill(path, this)
    finally:
        signal.signal(signal.SIGINT, old)
    best = this.history.best
    kept = f"the net of epoch {best}, the best so far," if best else "the net of an unfinished first epoch"
    return f"interrupted; {kept} is in {path}"
