# SPDX-License-Identifier: Apache-2.0
"""What the benches say of missing cores, and of goals beside what was measured."""

import importlib
import json
import os

import pytest

from benches import python

contention, goals, leads, process = map(importlib.import_module, ("contention", "goals", "leads", "process"))


# -------------------------------------------------------------------------------------------------- contention
class Cores:
    """Two cores, and processes that take a second for a step where each of two threads has one for itself."""

    def __init__(self, monkeypatch):
        self.held, self.spinning = {0, 1}, set()
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(self.held))
        monkeypatch.setattr(os, "sched_setaffinity", lambda _, cores: setattr(self, "held", set(cores)))
        monkeypatch.setattr(contention.subprocess, "Popen", lambda command: self.spin(command))
        monkeypatch.setattr(contention.time, "sleep", lambda _: None)
        monkeypatch.setattr(contention, "Process", lambda name, threads: self.contestant(name, threads))

    def spin(self, command):
        assert contention.SPIN in command
        (core,), spinning = self.held, self.spinning
        spinning.add(core)
        return type("Spinner", (), {"kill": lambda _: spinning.discard(core), "wait": lambda _: None})()

    def contestant(self, name, threads):
        cores = set(self.held)
        seconds = lambda: threads / sum(0.5 if core in self.spinning else 1 for core in cores)  # noqa: E731
        answer = lambda _, do, **about: {"seconds": seconds()} if do == "round" else {}  # noqa: E731
        return type("Contestant", (), {"ask": answer, "close": lambda _: None})()


def test_contention_takes_cores_away(monkeypatch, capsys):
    cores = Cores(monkeypatch)
    assert contention.main(["--workloads", "W7,W1", "--contestants", "dlcore", "--rounds", "3", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["row"] for row in rows] == ["W7_tiny", "W1_mnist"]
    for row in rows:
        assert row["ms"] == {"alone": 1000, "pinned": 2000, "beside": pytest.approx(4000 / 3)}
        assert row["ratio"] == {"pinned": 2, "beside": pytest.approx(4 / 3)}
    assert cores.held == {0, 1} and not cores.spinning


def test_contention_runs_and_ends_what_it_began():
    before = os.sched_getaffinity(0)
    with contention.spinning(min(before)):
        assert os.sched_getaffinity(0) == before
    with contention.held_to({min(before)}):
        assert os.sched_getaffinity(0) == {min(before)}
    found = python("contention.py", "--workloads", "W7", "--contestants", "dlcore", "--rounds", "1", "--json")
    values = json.loads(found.stdout)
    assert (found.returncode, [row["row"] for row in values["rows"]], values["wrong"]) == (0, ["W7_tiny"], []), found.stderr


def test_a_contestant_that_fails_under_contention_is_named(monkeypatch, capsys):
    def measure(contestant, *_):
        raise process.Failed(f"{contestant}: no step")

    monkeypatch.setattr(contention, "measure", measure)
    assert contention.main(["--workloads", "W7", "--contestants", "dlcore", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["wrong"] == ["dlcore: no step"] and said.err == "contention.py: dlcore: no step\n"


def test_contention_ratios_are_taken_round_by_round():
    taken = {"alone": [1.0, 2.0, 4.0], "pinned": [2.0, 5.0, 12.0], "beside": [1.0, 2.0, 5.0]}
    assert contention.row("dlcore", "W1", taken)["ratio"] == {"pinned": 2.5, "beside": 1.0}


@pytest.mark.parametrize(("option", "value"), [("--workloads", "W1,W99"), ("--contestants", "dlcore,dlcor")])
def test_contention_refuses_unknown_names(option, value):
    found = python("contention.py", option, value)
    assert found.returncode == 2 and f"expected {option} of" in found.stderr


# -------------------------------------------------------------------------------------------------------- goals
def row(name, contestant, ms, lead=None, precision="float32", **more):
    """A row as results of before had it, and what has come since."""
    lead = lead and {"times": lead, "low": lead, "high": lead}
    floor = 0.002 if precision == "float32" else None
    numbers = {"precision": precision, "ms": ms, "lead": lead, "floor_ms": floor, "error": ms / 1000}
    return {"row": name, "contestant": contestant, **numbers, **more}


def write(folder, *rows, action="train", date="2026-01-31", **more):
    machine = {"processor": "one", "instruction_set": "avx2", "threads": 2}
    values = {"date": date, "machine": machine, "command": f"peers.py of {date}", "rows": list(rows), **more}
    (folder / f"{date}_{len(list(folder.iterdir()))}_peers_{action}.json").write_text(json.dumps(values))


def printed(capsys, folder, *options):
    assert goals.main([str(folder), *options]) == 0
    return capsys.readouterr().out


def verdict(capsys, folder):
    """The last three cells of the one row."""
    (line,) = [line for line in printed(capsys, folder).splitlines() if line.startswith("| ") and " row " not in line]
    return [cell.strip() for cell in line.split("|")[-4:-1]]


def test_goals_stand_beside_what_was_measured(tmp_path, capsys):
    write(tmp_path, row("W7_tiny", "dlcore", 0.01, bound="flops", of_floor=0.21), row("W7_tiny", "jax", 0.05, 5.0))
    (judged,) = json.loads(printed(capsys, tmp_path, "--json"))["train float32"]
    assert (judged["goal"], judged["lead"], judged["met"], judged["peer"]) == (8, 5.0, False, "jax")
    assert judged["of_floor"] == 0.21 and judged["possible"] == pytest.approx(25)
    wanted = "| W7 tiny | 0.01 | 1e-05 | jax | 0.05 | 5e-05 | 5.00 | 8 | missed | 21 %, flops |"
    assert wanted in printed(capsys, tmp_path)
    assert goals.main([str(tmp_path / "absent")]) == 1


def test_the_peer_is_the_one_with_the_smallest_lead(tmp_path, capsys):
    write(tmp_path, row("W7_tiny", "dlcore", 0.01), row("W7_tiny", "jax", 0.05, 5.0), row("W7_tiny", "numpy", 0.06, 4.0))
    (judged,) = json.loads(printed(capsys, tmp_path, "--json"))["train float32"]
    assert (judged["peer"], judged["lead"], judged["peer_ms"]) == ("numpy", 4.0, 0.06)


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ({"bound": "flops", "of_floor": 0.2}, ["8", "the machine allows 5.00", "20 %, flops"]),
        ({"bound": "bytes", "of_floor": 0.2}, ["8", "missed", "20 %, bytes"]),
        ({}, ["8", "missed", "bytes"]),  # a result of before
    ],
)
def test_only_flops_are_a_limit(ours, said, tmp_path, capsys):
    write(tmp_path, row("W7_tiny", "dlcore", 0.01, **ours), row("W7_tiny", "jax", 0.01, 1.0))
    assert verdict(capsys, tmp_path) == said


@pytest.mark.parametrize(
    ("name", "lead", "ours", "said"),
    [
        ("adamw_10M update", 1.1, {"bound": "bytes", "of_floor": 0.86}, ["1 and 85 % of floor", "met", "86 %, bytes"]),
        ("adamw_10M update", 1.1, {"bound": "bytes", "of_floor": 0.84},
         ["1 and 85 % of floor", "missed: share of floor", "84 %, bytes"]),
        ("adamw_10M update", 0.9, {"bound": "bytes", "of_floor": 0.86}, ["1 and 85 % of floor", "missed", "86 %, bytes"]),
        ("adamw_10M update", 1.1, {}, ["1 and 85 % of floor", "share of floor not measured", "bytes"]),
        ("adamw_200x50k update", 1.5, {"bound": "bytes", "of_floor": 0.5}, ["1.4", "met", "50 %, bytes"]),
    ],
)  # fmt: skip
def test_adamw_has_two_conditions(name, lead, ours, said, tmp_path, capsys):
    write(tmp_path, row(name, "dlcore", 4.0, **ours), row(name, "torch_tuned", 4.4, lead), action="ops")
    assert verdict(capsys, tmp_path) == said


@pytest.mark.parametrize(("lead", "over", "said"), [(1.6, 1.2, "met"), (1.6, 0.9, "missed"), (1.4, 1.2, "missed")])
def test_bf16_leads_its_class_and_is_no_slower_than_float32(lead, over, said, tmp_path, capsys):
    ours = row("W1_mnist", "dlcore_bf16", 1.0, precision="bf16", how="in some way", over_float32={"times": over})
    peers = [
        row("W1_mnist", name, ms, x, "bf16") for name, ms, x in (("torch_bf16", 2.0, 3.0), ("torch_compile_bf16", 3.0, lead))
    ]
    write(tmp_path, ours, *peers, date="2026-01-30")
    write(tmp_path, row("W7_tiny", "dlcore", 0.01), row("W7_tiny", "jax", 0.09, 9.0))  # newer, without the class
    out = printed(capsys, tmp_path)
    assert f"| torch compile bf16 | 3 | 3e-03 | {lead:.2f} | 1.5 | {said}, {over:.2f} times as fast as in float32 |  |" in out
    assert "How dlcore computes here: in some way." in out
    assert "of 2026-01-30" in out and "of 2026-01-31" in out


def test_rows_on_cores_at_a_low_rate_say_so(tmp_path, capsys):
    watch = {"W7_tiny": {"gflops": [50.0, 60.0, 90.0]}, "W1_mnist": {"gflops": [100.0, 100.0, 70.0]}}
    pairs = [one for name in watch for one in (row(name, "dlcore", 0.01), row(name, "jax", 0.09, 9.0))]
    write(tmp_path, *pairs, watch=watch)
    lines = [line for line in printed(capsys, tmp_path).splitlines() if line.startswith("| W")]
    assert [("met (most rounds on cores at 60 % of their rate)" in line, "| met |" in line) for line in lines] == [
        (False, True), (True, False),
    ]  # fmt: skip


def test_the_kept_results_can_be_read():
    found = python("goals.py")
    assert (found.returncode, found.stderr) == (0, "")
    assert {"W1 mnist", "W8 narrow batch 4096", "adamw 10M update"} <= {
        line.split(" | ")[0][2:] for line in found.stdout.split("\n")
    }


def test_names_of_goals_are_rows_of_the_comparison():
    compare, peers = map(importlib.import_module, ("compare", "peers"))
    for (action, _), aims in goals.GOALS.items():
        rows = {
            compare.name_of(action, item, part) for _, item in peers.items(action, None) for part in compare.parts(action, item)
        }
        assert set(aims) <= rows
    assert set(goals.SHARES) <= set(goals.GOALS["ops", "float32"]) and set(leads.OURS) == {"float32", "bf16"}
