# SPDX-License-Identifier: Apache-2.0
"""The bench that looks for sizes that fall off a cliff: it finds a planted one, and nothing where there is none."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from dlcore.cli.parser import UsageError

sys.path.append(str(Path(__file__).resolve().parents[1] / "bench"))
cliffs = importlib.import_module("cliffs")


@pytest.fixture
def planted(monkeypatch):
    """Times that grow with the size, and one size that takes twice as long."""
    made = []

    def seconds(size):
        made.append(size)
        return (100 + size) * (2e-6 if size == 129 else 1e-6)

    monkeypatch.setattr(cliffs, "block", lambda seconds: lambda: seconds)
    monkeypatch.setattr(cliffs, "curves", lambda threads: {"smooth": lambda n: 1e-6 * n, "planted": seconds})
    return made


def test_a_planted_cliff_is_found_and_measured_again(planted):
    rows = cliffs.curve(cliffs.curves(1)["planted"], rounds=3)
    assert [r["size"] for r in rows] == list(cliffs.SIZES)
    assert [r["size"] for r in rows if r["ratio"] > cliffs.LIMIT] == [129]
    assert planted.count(129) == 2 and planted.count(128) == 1
    assert "worst 1.88x the next multiple of 16, at 129  above 1.5: 129" in cliffs.line("planted", rows)


@pytest.mark.parametrize(("name", "status"), [("smooth", 0), ("planted", 1), ("p,s", 1)])
def test_the_exit_status_says_whether_there_is_one(planted, capsys, name, status):
    assert cliffs.main(["--curves", name, "--json"]) == status
    found = json.loads(capsys.readouterr().out)
    assert found["limit"] == cliffs.LIMIT and len(found["curves"]) == len(name.split(","))


def test_an_unknown_curve_is_refused():
    with pytest.raises(UsageError, match=r"expected --curves of forward_m_64, .*got 'bakward'.*backward"):
        cliffs.arguments(["--curves", "bakward"])
    assert cliffs.main(["--curves", "bakward"]) == 2


@pytest.mark.parametrize(
    ("name", "shapes"),
    [("forward_m_64", [(17, 64), (17, 64)]), ("forward_n_64", [(64, 64), (64, 17)]), ("backward_k_64", [(64, 17), (64, 64)])],
)
def test_a_curve_of_products_makes_calls_of_its_size(name, shapes):
    made = cliffs.curves(1)[name](17)
    arrays = made.func.__self__.arrays
    assert [arrays[n].shape for n in ("input", "y")] == shapes
    result = "y" if name.startswith("forward") else "dx"
    arrays[result][...] = np.nan
    made(2)
    assert np.isfinite(arrays[result]).all()


@pytest.mark.parametrize(("name", "entry"), [("step_batch_64", "compile"), ("predict_batch_64", "predict")])
def test_a_curve_of_nets_makes_calls_of_its_size(name, entry, monkeypatch):
    calls, real = [], getattr(cliffs.dl.Net, entry)

    def spied(self, *given):
        calls.append(given[0].shape if entry == "predict" else given[2])
        return real(self, *given)

    monkeypatch.setattr(cliffs.dl.Net, entry, spied)
    made = cliffs.curves(1)[name](17)
    made(2)
    assert calls == ([(17, 64)] * 2 if entry == "predict" else [17])


def test_a_block_is_long_and_gives_the_seconds_of_one_call(monkeypatch):
    now, calls = [0.0], []

    def call(times):
        calls.append(times)
        now[0] += 3e-5 * times

    monkeypatch.setattr(cliffs.time, "perf_counter", lambda: now[0])
    seconds = cliffs.block(call)
    assert seconds() == pytest.approx(3e-5)
    assert calls[-1] * 3e-5 >= cliffs.BLOCK_SECONDS and calls[-1] == calls[-2]


def test_calls_are_repeated():
    made = []
    cliffs.repeat(lambda: made.append(1), 5)
    assert len(made) == 5


def test_the_figure_is_drawn(planted, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(cliffs, "RESULTS", tmp_path)
    cliffs.main(["--save"])
    (figure,) = tmp_path.glob("*_cliffs.png")
    assert figure.stat().st_size > 10_000 and figure.with_suffix(".json").exists()
