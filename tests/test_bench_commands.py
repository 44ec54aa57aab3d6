# SPDX-License-Identifier: Apache-2.0
"""The benchmark from the command line: what it lists, what it runs, what it refuses."""

import json
import subprocess
import sys

import pytest

from benches import FOLDER, LIMITS
from dlcore import bench
from dlcore.bench import cases, gpu, infer, kernels, measure, peak, plain, published, report, step, timing, workloads
from dlcore.bench.programs import VARIANTS
from dlcore.cli import main
from test_bench import tiny, workload


@pytest.fixture
def quick(monkeypatch):
    """Two tiny cases, limits that need no measuring, and rounds that take no time."""
    made = [
        cases.Case("W0_tiny_infer", "infer", lambda _, *where: infer.InferSubject(workload(), *where, rows=(1, 3))),
        cases.Case("linear_relu_tiny", "ops", lambda _, threads, device: tiny(device=device)),
        cases.Case("W0_tiny", "step", lambda _, *where: step.StepSubject(workload(), *where)),
    ]
    monkeypatch.setattr(cases, "all_cases", lambda device: made)
    monkeypatch.setattr(peak, "measure", lambda threads: LIMITS)
    monkeypatch.setattr(measure, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0.0)


def test_names_of_cases_are_unique():
    names = [case.name for case in cases.all_cases()]
    assert len(set(names)) == len(names)
    assert {case.group for case in cases.all_cases()} == set(bench.GROUPS)


def test_list_prints_the_cases(capsys):
    assert main(["bench", "step", "--list"]) == 0
    assert capsys.readouterr().out.split() == list(workloads.WORKLOADS)


def test_list_of_a_device_has_its_own_cases(other_device, capsys):
    assert main(["bench", "--list", "--device", other_device]) == 0
    names = set(capsys.readouterr().out.split())
    nets = {name + suffix for name in workloads.GPU_WORKLOADS for suffix in ("", "_infer")}
    assert names == {case.name for case in cases.all_cases()} | {k.name for k in kernels.KERNELS.values() if k.gpu} | nets


@pytest.mark.usefixtures("quick")
def test_bench_prints_one_json_object(capsys):
    assert main(["bench", "--json", "--rounds", "2", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    values = json.loads(out)
    assert {"machine", "versions", "command", "rows", "gains"} <= set(values)
    assert values["command"] == "dlcore bench --json --rounds 2 --threads 1"
    assert {r["row"] for r in values["rows"]} == {
        "linear_relu forward", "linear_relu backward", "tiny step", "tiny batch 1", "tiny batch 3",
    }  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_bench_of_a_device_leaves_numpy_out(other_device, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "measure", lambda terms: LIMITS)
    assert main(["bench", "--json", "--rounds", "1", "--device", other_device]) == 0
    values = json.loads(capsys.readouterr().out)
    assert {r["variant"] for r in values["rows"]} == set(VARIANTS)
    assert values["machine"]["device"] == other_device
    assert all("share_of_published" in r for r in values["rows"])
    assert {"gpu", "gpu_after"} <= set(values["machine"])


@pytest.mark.cuda
def test_limits_of_a_gpu_are_measured():
    found = gpu.measure()
    assert 1e12 < found.flops < 1e15
    assert all(1e11 < rate < 1e14 for _, rate in found.read)


def test_rows_have_their_share_of_what_is_published():
    rows, machine = [{"ms": 2.0, "flops": 0.0, "bytes": 4.8e9}], {"published": published.about("NVIDIA H200")}
    published.mark(rows, machine, 0)
    assert rows[0]["share_of_published"] == pytest.approx(0.5)
    published.mark(rows, {"published": None}, 0)
    assert rows[0].pop("share_of_published") is None
    published.mark(rows, {}, 0)
    assert "share_of_published" not in rows[0]
    limits = report.header({**report.machine(1, LIMITS), **machine})
    assert limits[2].startswith("published: bandwidth 4.8e+12 float32 6.7e+13")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("argv", [["step"], ["W0"], ["--case", "W0_tiny"], ["all", "--case", "W0"]])
def test_bench_runs_the_cases_named(argv, capsys):
    assert main(["bench", *argv, "--rounds", "1", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "tiny step" in out
    assert "linear_relu" not in out


WRONG_USE = [
    ["W99"],
    ["--device", "tpu"],
    ["ops", "--case", "W1"],
    ["--rounds", "0"],
    ["--rounds", "two"],
    ["--nonsense"],
    ["ops", "step"],
    ["ops", "--gemm", "nope"],
    ["ops", "--gemm", "mma"],
    ["ops", "--precision", "float16"],
    ["ops", "--precision", "bf17"],
    ["adamw_32M"],
]


@pytest.mark.parametrize("argv", WRONG_USE, ids=" ".join)
def test_wrong_use_is_one_line_and_status_2(argv, capsys):
    assert main(["bench", *argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("dlcore bench: expected")
    assert captured.err.count("\n") == 1


@pytest.mark.usefixtures("quick")
def test_wrong_answer_is_one_line_and_status_1(monkeypatch, capsys):
    monkeypatch.setattr(plain.LinearRelu, "forward", lambda self: self.y.fill(1.0))
    assert main(["bench", "linear"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_help_shows_examples(capsys):
    assert main(["bench", "--help"]) == 0
    assert "dlcore bench step --rounds 15" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------- door
@pytest.mark.parametrize("group", bench.GROUPS)
def test_run_is_a_door_to_every_group(group):
    command = [sys.executable, "run.py", group, "--list"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER, timeout=300, check=False)
    wanted = [case.name for case in cases.GROUPS[group]("cpu")]
    assert (done.returncode, done.stdout.split()) == (0, wanted) and len(wanted) >= len(workloads.WORKLOADS)
