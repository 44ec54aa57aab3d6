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
        never, reports = row[2] == "never", list((ROOT / "bench" / "results").glob("*_gpu_test.json"))
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
    assert report.finish(False) == 1
    content = json.loads(report.path.read_text())
    assert [s["state"] for s in content["steps"]] == ["failed", "failed", "stopped"]
    assert "why" in content["steps"][0]["output"]
    assert content["state"] == "failed"
