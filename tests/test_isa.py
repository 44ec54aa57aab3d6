# SPDX-License-Identifier: Apache-2.0
"""The bench that compares instruction sets: it runs for the sets that are here, and finds what is wrong in one of them."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cases import CASES
from dlcore import _core
from instructions import backend

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))
isa, comparisons = (importlib.import_module(name) for name in ("isa", "comparisons"))
SETS = _core.cpu_info()["available"]


@pytest.mark.parametrize("name", SETS)
def test_sets_that_are_here_agree(name, capsys):
    only = "softmax ,update adamw,function gelu,run backward,gather,train layer,product nn 33"
    assert isa.main([name, "--only", only, "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert {row["real"] for row in found["rows"]} == {"float32", "float64"}
    assert err.count("\n") == len(found["rows"]) + 1
    assert found["isa"] == name and (name != found["against"] or name == SETS[0])


def test_everything_is_compared():
    core = backend(SETS[-1], "float32")
    names = [comparison.name for comparison in comparisons.comparisons(core, core)]
    assert len(set(names)) == len(names)
    expected = [*CASES, *(f"update {rule}" for rule in core.rules), *(f"loss {name}" for name in core.losses)]
    expected += ["run forward affine relu dropout kept store", "run backward dropout relu_grad scaled store"]
    expected += [f"function {name}" for name in core.activations] + [f"train {name}" for name in comparisons.TRAINED]
    for begin in expected:
        assert any(name.startswith(begin) for name in names), begin


@pytest.mark.parametrize(
    ("of_another", "rounds", "said"),
    [
        ([1.0, np.nan, 0.0], False, "same bits"),
        ([1.0, np.nan, -0.0], False, "1 of 3 elements differ  WRONG: bits differ"),
        ([1 + 2e-7, np.nan, 0.0], False, "1 of 3 elements differ  WRONG: bits differ"),
        ([1 + 2e-7, np.nan, 0.0], True, "1 of 3 elements differ"),
        ([1.001, np.nan, 0.0], True, "1 of 3 elements differ  WRONG: 1 of 3"),
        ([1.0, 2.0, 0.0], True, "1 of 3 elements differ  WRONG: 1 of 3"),
    ],
)
def test_bits_and_rounding_are_told_apart(of_another, rounds, said):
    class Set:
        def __init__(self, name, values):
            self.isa, self.real, self.values = name, "float32", values

    comparison = comparisons.Comparison("planted", lambda core: [np.float32(core.values)], (), 1, rounds)
    row = comparisons.compared(comparison, Set("one", of_another), Set("other", [1.0, np.nan, 0.0]))
    assert isa.line(row).startswith(f"float32 planted: {said}")


def test_the_exit_status_says_whether_something_is_wrong(monkeypatch, capsys):
    planted = comparisons.Comparison("planted", lambda core: [np.int32([len(core.isa)])], (), 1, True)
    monkeypatch.setattr(isa, "comparisons", lambda core, other: [planted])
    sets = iter([type("Set", (), {"isa": name, "real": "float32"}) for name in ("short", "longer")])
    monkeypatch.setattr(isa, "backend", lambda name, real: next(sets))
    assert isa.main([SETS[0], "--real", "float32"]) == 1
    assert "1 comparisons, 1 differ, 1 wrong" in capsys.readouterr().out


def test_names_that_are_unknown_are_refused(capsys):
    assert isa.main([SETS[0], "--only", "sofmax"]) == 2
    assert "expected --only of names" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        isa.main(["avx1024"])
    assert stopped.value.code == 2 and "baseline" in capsys.readouterr().err
