# SPDX-License-Identifier: Apache-2.0
"""What the benches say of missing cores, and of goals beside what was measured."""

import importlib
import json

import pytest

from test_peers import python


# -------------------------------------------------------------------------------------------------- contention
def test_contention_measures_with_all_cores_one_core_and_a_busy_one():
    found = python("contention.py", "--workloads", "W7", "--contestants", "dlcore", "--rounds", "1", "--json")
    assert found.returncode == 0, found.stderr
    (row,) = json.loads(found.stdout)["rows"]
    assert row["row"] == "W7_tiny" and set(row["ms"]) == {"alone", "pinned", "beside"} and min(row["ratio"].values()) > 0


def test_contention_ratios_are_taken_round_by_round():
    contention = importlib.import_module("contention")
    taken = {"alone": [1.0, 2.0, 4.0], "pinned": [2.0, 5.0, 12.0], "beside": [1.0, 2.0, 5.0]}
    assert contention.row("dlcore", "W1", taken)["ratio"] == {"pinned": 2.5, "beside": 1.0}


@pytest.mark.parametrize(("option", "value"), [("--workloads", "W1,W99"), ("--contestants", "dlcore,dlcor")])
def test_contention_refuses_unknown_names(option, value):
    found = python("contention.py", option, value)
    assert found.returncode == 2 and f"expected {option} of" in found.stderr


# -------------------------------------------------------------------------------------------------------- goals
def test_goals_stand_beside_what_was_measured(tmp_path):
    def row(contestant, ms, lead=None):
        lead = lead and {"times": lead, "low": lead, "high": lead}
        numbers = {"precision": "float32", "ms": ms, "lead": lead, "floor_ms": 0.002, "error": ms / 1000}
        return {"row": "W7_tiny", "contestant": contestant, **numbers}

    machine = {"processor": "one", "instruction_set": "avx2", "threads": 2}
    values = {
        "date": "2026-01-31",
        "machine": machine,
        "command": "peers.py",
        "rows": [row("dlcore", 0.01), row("jax", 0.05, 5.0)],
    }
    (tmp_path / "2026-01-31_one_peers_train.json").write_text(json.dumps(values))
    found = python("goals.py", tmp_path, "--json")
    (judged,) = json.loads(found.stdout)["train"]
    assert (judged["goal"], judged["lead"], judged["met"], judged["peer"]) == (8, 5.0, False, "jax")
    assert judged["of_floor"] == pytest.approx(0.2) and judged["possible"] == pytest.approx(25)
    assert "| W7 tiny | 0.01 | 1e-05 | jax | 0.05 | 5e-05 | 5.00 | 8 | missed | 20 % |" in python("goals.py", tmp_path).stdout
    assert python("goals.py", tmp_path / "absent").returncode == 1
