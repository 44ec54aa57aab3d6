# SPDX-License-Identifier: Apache-2.0
"""``dlcore predict``: a net's answers as CSV, one line a row."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..data import Schema, load_features
from ..io import atomic_write
from ..net import Net
from . import nets
from .output import Output
from .parser import DATA_DIR, JSON, THREADS, Option, Parser
from .values import text

OPTIONS = [DATA_DIR, Option("out", text, "CSV file to write (default: standard output)", "FILE"), THREADS, JSON]


def run(argv: list[str]) -> int:
    """Write predictions: the label and each class's probability, or the value in the target's units."""
    parser = Parser(
        "predict", "Apply a net to rows.", "dlcore predict run/net.npz rows.csv --out answers.csv", nets.POSITIONALS, OPTIONS
    )
    options = parser.given(argv)
    parser.require(options)
    nets.check(options)
    net, schema = nets.load(options["net"])
    x = load_features(options["data"], schema, data_dir=options.get("data_dir"))
    columns = answers(net, schema, x)
    summary: dict[str, Any] = {"rows": len(x), "task": schema.task, "out": options.get("out")}
    if "out" in options:
        with atomic_write(options["out"]) as file:
            for part in _csv(columns):
                file.write(part.encode())
    elif options.get("json"):
        summary["predictions"] = columns
    else:
        sys.stdout.writelines(_csv(columns))
        return 0
    Output(options.get("json", False)).result(summary, f"{len(x)} predictions in {options.get('out')}")
    return 0


def answers(net: Net, schema: Schema, x: np.ndarray) -> dict[str, list[Any]]:
    """The columns of the answer by name."""
    if schema.classes is None:
        values = net.predict(x)
        names = ["prediction"] if values.shape[1] == 1 else [f"prediction {i + 1}" for i in range(values.shape[1])]
        return {name: values[:, i].tolist() for i, name in enumerate(names)}
    probabilities = net.predict_proba(x)
    labels = [schema.classes[i] for i in probabilities.argmax(axis=1)]
    return {"prediction": labels, **{f"p({c})": probabilities[:, i].tolist() for i, c in enumerate(schema.classes)}}


def _csv(columns: dict[str, list[Any]], rows: int = 4096) -> Iterator[str]:
    """CSV text, some thousand rows at a time."""
    yield _lines([list(columns)])
    values = list(columns.values())
    for start in range(0, len(values[0]), rows):
        yield _lines(zip(*(map(_shown, v[start : start + rows]) for v in values), strict=True))


def _lines(rows: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _shown(value: Any) -> Any:
    # Nine digits tell any two float32 apart.
    return f"{value:.9g}" if isinstance(value, float) else value
