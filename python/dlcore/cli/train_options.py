# SPDX-License-Identifier: Apache-2.0
"""The options of ``dlcore train``; a configuration file has the same names."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..backend import GEMMS, PRECISIONS
from ..defaults import ACTIVATIONS, INITS, OPTIMIZERS, PREPROCESS, SCHEDULES, Settings
from . import config
from .parser import DATA_DIR, JSON, THREADS, Option, Parser, UsageError, check_source
from .values import boolean, device, integer, name_of, real, text, widths

TASKS = ("classification", "regression")
POSITIONALS = {"data": "digits (comes with dlcore), mnist, fashion-mnist, or a .csv, .csv.gz or .npz file"}

_rate = real("a finite number > 0", lambda x: x > 0)
_decay = real("a finite number >= 0", lambda x: x >= 0)
_share = real("a number in [0, 1)", lambda x: 0 <= x < 1)

OPTIONS = [
    Option("test", text, "test rows (default: a fifth of DATA that no epoch sees)", "FILE"),
    DATA_DIR,
    Option("target", text, "target column of a CSV file (default: the last)", "COLUMN"),
    Option("task", name_of(TASKS), "classification or regression (default: by the target)", "TASK"),
    Option("preprocess", name_of(PREPROCESS), f"scaling of inputs: {', '.join(PREPROCESS)}", "KIND"),
    Option("layers", widths, "widths of hidden layers, as 512,256; or none", "WIDTHS"),
    Option("activation", name_of(ACTIVATIONS), f"one of {', '.join(ACTIVATIONS)}", "NAME"),
    Option("batch-norm", boolean, "normalise hidden layers over the batch, or do not", negatable=True),
    Option("dropout", _share, "probability of dropping a hidden unit, in [0, 1)", "P"),
    Option("init", name_of(INITS), "initialisation (default auto: Kaiming or Xavier by the activation)", "NAME"),
    Option("optimizer", name_of(OPTIMIZERS), f"one of {', '.join(OPTIMIZERS)}", "NAME"),
    Option("lr", _rate, "highest learning rate, > 0", "RATE"),
    Option("schedule", name_of(SCHEDULES), f"of the learning rate: {', '.join(SCHEDULES)}", "NAME"),
    Option("weight-decay", _decay, "decoupled weight decay, >= 0", "DECAY"),
    Option("label-smoothing", _share, "of classes, in [0, 1)", "S"),
    Option("epochs", integer(1), "passes over the training rows", "N"),
    Option("batch-size", integer(1), "rows of an update", "N"),
    Option("patience", integer(1), "stop after N epochs without a better validation part", "N"),
    Option("seed", integer(0, 2**63 - 1), "of initial weights, validation part, order and dropout (default 0)", "S"),
    THREADS,
    Option("precision", name_of(PRECISIONS), f"of matrix products: {', '.join(PRECISIONS)} (default float32)", "NAME"),
    Option("device", device, "auto (default), cpu, cuda, or cuda:1, the second GPU", "DEVICE"),
    Option("gemm", name_of(GEMMS), f"kernels of products on a GPU: {', '.join(GEMMS)} (default auto: simt)", "NAME"),
    Option("config", text, "options from a TOML file; the command line goes first", "FILE"),
    Option("out", text, "keep net.npz, config.json, log.csv and curves.png there", "DIR"),
    JSON,
    Option("quiet", boolean, "print the result only"),
]  # fmt: skip

SETTINGS = tuple(f.name for f in fields(Settings))


def parse(argv: list[str]) -> dict[str, Any]:
    """The options given, checked as far as they can be before any data is read."""
    parser = Parser(
        "train", "Train a net; what is not given is chosen by the numbers of rows and columns and printed.",
        "dlcore train adult.csv.gz --target income --layers 256,128 --out run", POSITIONALS, OPTIONS,
    )  # fmt: skip
    options = parser.given(argv)
    if "config" in options:
        options = {**config.read(options["config"], parser), **options}
    parser.require(options)
    check_source(options)
    if options.get("batch_norm") and options.get("batch_size") == 1:
        raise UsageError("expected --batch-size of at least 2 with --batch-norm, got 1")
    return options


def chosen(options: dict[str, Any]) -> dict[str, Any]:
    """The options given that are fields of Settings; the rest is for the rules to choose."""
    return {key: options[key] for key in SETTINGS if key in options and key != "task"}
