# SPDX-License-Identifier: Apache-2.0
"""``dlcore evaluate``: a net against known targets."""

from __future__ import annotations

from dataclasses import replace

from ..data import load_labelled
from . import nets
from .output import Output
from .parser import DATA_DIR, JSON, THREADS, Option, Parser
from .values import text

OPTIONS = [
    Option("target", text, "target column of a CSV file (default: that of training)", "COLUMN"), DATA_DIR, THREADS, JSON,
]  # fmt: skip


def run(argv: list[str]) -> int:
    """Print loss and accuracy, or loss and r2, over all rows of a file."""
    parser = Parser(
        "evaluate", "Measure a net on rows whose targets are known; of digits, mnist and fashion-mnist on the test part.",
        "dlcore evaluate run/net.npz rows.csv", nets.POSITIONALS, OPTIONS,
    )  # fmt: skip
    options = parser.given(argv)
    parser.require(options)
    nets.check(options)
    net, schema = nets.load(options["net"])
    if "target" in options:
        schema = replace(schema, target=options["target"])
    x, y = load_labelled(options["data"], schema, data_dir=options.get("data_dir"))
    metrics = net.evaluate(x, y)
    values = {
        "data": options["data"], "task": schema.task, "rows": metrics["rows"], "loss": metrics["loss"],
        "accuracy": metrics.get("accuracy"), "r2": metrics.get("r2"),
    }  # fmt: skip
    score = "r2" if values["accuracy"] is None else "accuracy"
    text = f"{score} {values[score]:.4f}, loss {values['loss']:.4f} ({values['rows']} rows)"
    Output(options.get("json", False)).result(values, text)
    return 0
