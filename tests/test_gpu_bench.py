# SPDX-License-Identifier: Apache-2.0
"""bench/gpu.py's report, and the list of what has run on a GPU."""

import importlib.util
import json
import re
import sys
import time
from pathlib import Path

import pytest

from cases import cuda_kernels

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", ROOT / "bench" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gpu_status_lists_every_kernel_once():
    text = (ROOT / "bench" / "results" / "GPU_STATUS.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == ["kernel", "file in csrc/cuda", "last commit run", "date", "GPU", "tests", "sanitizers"]
    assert sorted((row[0], row[1]) for row in rows[1:]) == sorted(cuda_kernels())
    words = sum(
        len(re.findall("__global__", p.read_text()))
        for p in (ROOT / "csrc" / "cuda").rglob("*.cu*")
        if "emulator" not in p.parts
    )
    assert len(rows) - 1 == words
    for row in rows[1:]:
        never, reports = row[2] == "never", list((ROOT / "bench" / "results").glob("*_cuda_test.json"))
        assert not any(row[3:]) if never else all(row[3:6]) and reports, row


def test_gpu_report_is_there_while_a_step_runs(gpu, tmp_path):
    report = gpu.Report(tmp_path / "report.json", commit="abc")
    look = f"import json; print(json.load(open({str(report.path)!r}))['steps'][0]['state'])"
    assert report.step("look", [sys.executable, "-c", look], 30)
    content = json.loads(report.path.read_text())
    assert (content["state"], content["commit"]) == ("running", "abc")
    assert content["steps"][0]["output"].strip() == "running"
    assert content["steps"][0]["state"] == "passed"


def test_gpu_report_tells_failed_from_stopped(gpu, tmp_path):
    report = gpu.Report(tmp_path / "report.json")
    assert not report.step("fails", [sys.executable, "-c", "raise SystemExit('why')"], 30)
    assert not report.step("absent", ["no-such-program"], 30)
    begin = time.monotonic()
    assert not report.step("hangs", [sys.executable, "-c", "import time; time.sleep(60)"], 0.1)
    assert time.monotonic() - begin < 30
    assert not report.finish(False)
    content = json.loads(report.path.read_text())
    assert [s["state"] for s in content["steps"]] == ["failed", "failed", "stopped"]
    assert "why" in content["steps"][0]["output"]
    assert content["state"] == "failed"


def test_gpu_report_goes_on_where_the_last_one_stopped(gpu, tmp_path):
    def steps(sources):
        report = gpu.Report(tmp_path / "new.json", tmp_path / "report.json", sources=sources)
        assert report.step("prints", [sys.executable, "-c", f'print(\'{{"sources": "{sources}"}}\')'])
        assert not report.step("fails", [sys.executable, "-c", "raise SystemExit(1)"])
        (tmp_path / "new.json").replace(tmp_path / "report.json")
        return [step.get("result") or step["seconds"] for step in report.content["steps"]]

    first, again, other = steps("a"), steps("a"), steps("b")
    assert first[0] == again[0] == {"sources": "a"}
    assert other[0] == {"sources": "b"}
    content = json.loads((tmp_path / "report.json").read_text())
    assert [s["state"] for s in content["steps"]] == ["passed", "failed"]


def test_gpu_step_that_is_stopped_ends_with_all_it_has_started(gpu, tmp_path):
    """The child is a worker that has the GPU; the rows that were written are kept."""
    out, report = tmp_path / "rows.json", gpu.Report(tmp_path / "report.json")
    code = (
        "import pathlib, subprocess, sys, time; print('begun', flush=True)\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(out)!r}).write_text('{{\"child\": %d}}' % child.pid); time.sleep(60)"
    )
    assert not report.step("hangs", [sys.executable, "-c", code], 3, result=out)
    step = json.loads(report.path.read_text())["steps"][0]
    assert (step["state"], step["output"]) == ("stopped", "begun\n")
    deadline = time.monotonic() + 10
    while (state := state_of(step["result"]["child"])) not in "Z":
        assert time.monotonic() < deadline, f"the child is {state}"


def state_of(pid):
    """Of a process, as Linux has it; nothing where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_gpu_report_keeps_the_steps_that_a_run_leaves_out(gpu, tmp_path):
    says = [sys.executable, "-c", "print(1)"]
    for name in ("first", "second"):
        assert gpu.Report(tmp_path / "report.json", sources="a").step(name, says)
    report = gpu.Report(tmp_path / "report.json", sources="a")
    report.deadline = 0
    assert report.step("first", says)
    assert not report.step("first", says, again=True)
    assert not report.step("third", says)
    assert [(s["name"], s["state"]) for s in json.loads(report.path.read_text())["steps"]] == [
        ("second", "passed"), ("first", "passed"), ("third", "not begun"),
    ]  # fmt: skip


def test_gpu_part_without_a_step_has_not_passed(gpu, tmp_path):
    assert gpu.main(["ops", "--device", "emulated", "--case", "none-such", "--out", str(tmp_path)]) == 1
    content = json.loads(next(tmp_path.glob("*_ops.json")).read_text())
    assert (content["state"], content["steps"]) == ("failed", [])


@pytest.mark.emulated
def test_gpu_parts_run_in_the_emulator(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    for part, case in (("peers", "W7"), ("ops", "cross_entropy_128x10")):
        status = gpu.main([part, "--device", "emulated", "--case", case, "--out", str(tmp_path)])
        content = json.loads(next(tmp_path.glob(f"*_emulated_{part}.json")).read_text())
        assert (status, content["state"], len(content["steps"])) == (0, "passed", 1), content
        assert content["steps"][0]["result"]["rows"]


def test_gpu_budget_that_is_spent_begins_nothing(gpu, tmp_path, capsys):
    assert gpu.main(["all", "--budget", "0", "--out", str(tmp_path)]) == 1
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().out.count("not begun") == len(gpu.PARTS)
