# SPDX-License-Identifier: Apache-2.0
"""The bench of where a step's time goes: every node is in one line, and the lines make a step."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from dlcore.bench import workloads

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))
shares = importlib.import_module("shares")


def test_a_step_is_the_sum_of_its_shares():
    layers = workloads.chain([6, 40, 3], lambda width: [("batch_norm", width), ("relu",), ("dropout", 0.5)])
    row = shares.measure(workloads.Workload("small", layers, 64, "cross_entropy", "adam", 1e-3), threads=1, rounds=3)
    assert sum(row["share"].values()) == pytest.approx(1)
    assert {k for k, v in row["share"].items() if v} == {
        "products",
        "norms",
        "elementwise",
        "loss",
        "inputs",
        "update",
        "other",
        "rest",
    }
    assert row["us"] > 0 and row["products_gflops"] > 0


def test_rows_that_go_in_blocks_are_one_line():
    layers = workloads.chain([16, 64, 64, 64, 1], lambda width: [("relu",)])
    row = shares.measure(workloads.Workload("deep", layers, 8192, "squared_error", "adam", 1e-3), threads=1, rounds=1)
    assert row["share"]["in blocks"] > row["share"]["products"] == 0 and row["products_gflops"] is None


def test_it_prints_a_table_or_an_object(monkeypatch, capsys):
    monkeypatch.setattr(shares, "measure", lambda w, threads, rounds: {
        "row": w.name, "us": 2000.0, "share": dict.fromkeys(shares.COLUMNS, 0.0) | {"products": 0.75, "rest": 0.25},
        "products_gflops": 1e-9})  # fmt: skip
    assert shares.main(["W1,W7", "--threads", "1"]) == 0
    *_, first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("| W1_mnist | 2 | 75 |") and second.endswith("| 25 | 0 % |")
    shares.main(["W7", "--json", "--threads", "1"])
    assert json.loads(capsys.readouterr().out)["rows"][0]["row"] == "W7_tiny"
    with pytest.raises(SystemExit):
        shares.main(["W9"])
    assert "expected names of W1_mnist" in capsys.readouterr().err
