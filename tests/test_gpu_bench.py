# SPDX-License-Identifier: Apache-2.0
"""bench/gpu.py's report and steps, and the list of what has run on a GPU."""

import importlib
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from cases import cuda_kernels

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "bench"))
gpu, steps = importlib.import_module("gpu"), importlib.import_module("steps")


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Makes reports in a folder of their own: report(seconds, sources="a", **options)."""
    monkeypatch.setattr(steps, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(steps, "WORK", tmp_path / "work")

    def make(seconds=600, sources="a", folder=tmp_path / "out", **options):
        monkeypatch.setattr(steps, "sources", lambda about: f"{about} {sources}")
        made = steps.Report(folder, "cuda", seconds, **options)
        made.begin("part", "tests", float("inf"))
        return made

    return make


def python(code):
    return [sys.executable, "-c", code]


def content(report):
    return json.loads(report.paths[-1].read_text())


def states(report):
    return [(step["name"], step["state"]) for step in content(report)["steps"]]


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
        never, reports = row[2] == "never", list((ROOT / "bench" / "results").glob("*_cuda_gpu.json"))
        assert not any(row[3:]) if never else all(row[3:6]) and reports, row


# ------------------------------------------------------------------------------------------------------- report
def test_gpu_report_is_there_while_a_step_runs(report):
    made = report(commit="abc")
    look = f"import json; print(json.load(open({str(made.paths[-1])!r}))['steps'][0]['state'])"
    assert made.step("look", python(look))
    assert (content(made)["commit"], content(made)["steps"][0]["output"].strip()) == ("abc", "running")
    assert states(made) == [("look", "passed")]


def test_gpu_report_tells_failed_from_stopped_and_cut(report):
    made = report()
    assert not made.step("fails", python("raise SystemExit('why')"))
    assert not made.step("absent", ["no-such-program"])
    assert not made.step("hangs", python("import time; time.sleep(60)"), 0.1)
    assert not made.waiting
    made.deadline = time.monotonic() + steps.LEAST_SECONDS + 0.1
    assert not made.step("long", python("import time; time.sleep(60)"))
    assert states(made) == [("fails", "failed"), ("absent", "failed"), ("hangs", "stopped"), ("long", "cut")]
    assert "why" in content(made)["steps"][0]["output"]
    assert made.waiting


def test_gpu_report_goes_on_where_the_newest_one_of_the_same_sources_stopped(report, tmp_path):
    def run(sources, **options):
        made = report(sources=sources, **options)
        assert made.step("prints", python(f'print(\'{{"from": "{sources}", "at": {time.monotonic()}}}\')'))
        assert not made.step("fails", python(f"raise SystemExit({str(time.monotonic())!r})"))
        return made, [step.get("result") or step["output"] for step in content(made)["steps"]]

    (first, results), (again, same) = run("a", commit="abc"), run("a")
    assert results == same
    assert content(again)["commit"] == "abc"
    elsewhere, old = tmp_path / "results", first.paths[-1]
    elsewhere.mkdir()
    moved = elsewhere / "2001-01-01_cuda_gpu.json"  # of another day, come back from another machine
    moved.write_text(old.read_text())
    for path in first.paths:
        path.unlink()
    on, same = run("a")
    assert same == results
    assert on.paths[-1].name == moved.name
    repeated, other = run("a", again=True)[1], run("b")[1]
    assert repeated[0] == results[0] and repeated[1] != results[1]
    assert other[0]["from"] == "b"


def test_gpu_part_has_so_many_seconds_of_all_runs_together(report):
    made = report()
    assert made.step("first", python("import time; time.sleep(1)"))
    made = report()
    made.begin("part", "tests", 4.0)
    assert made.left < 3.1
    made.begin("other", "tests", 4.0)
    assert 3.1 < made.left < 4.1


def test_gpu_sources_are_of_what_is_built_and_of_what_runs_on_it(monkeypatch, tmp_path):
    for name in ("csrc/a.cu", "tests/test_a.py", "bench/run.py", "bench/gpu.py", "CMakeLists.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    (tmp_path / "pyproject.toml").write_text("1")
    monkeypatch.setattr(steps, "ROOT", tmp_path)

    def changed(name):
        before = [steps.sources(about) for about in ("tests", "bench")]
        (tmp_path / name).write_text(name)
        return [steps.sources(about) != was for about, was in zip(("tests", "bench"), before, strict=True)]

    assert changed("csrc/a.cu") == changed("CMakeLists.txt") == [True, True]
    assert (changed("tests/test_a.py"), changed("bench/run.py")) == ([True, False], [False, True])
    assert changed("bench/gpu.py") == [False, False]


def test_gpu_step_that_is_stopped_ends_with_all_it_has_started(report, tmp_path):
    """One child is a worker that has the GPU; another, in a session of its own, keeps the output open. The rows that were
    written are kept."""
    out, made = tmp_path / "rows.json", report()
    code = (
        "import pathlib, subprocess, sys, time; print('begun', flush=True)\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "pids = [subprocess.Popen(sleep, start_new_session=own).pid for own in (False, True)]\n"
        f"pathlib.Path({str(out)!r}).write_text(str({{'pids': pids}}).replace(chr(39), chr(34))); time.sleep(60)"
    )
    begin = time.monotonic()
    assert not made.step("hangs", python(code), 3, result=out)
    assert time.monotonic() - begin < 30
    step = content(made)["steps"][0]
    assert (step["state"], step["output"]) == ("stopped", "begun\n")
    child, own = step["result"]["pids"]
    os.kill(own, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (state := state_of(child)) not in "Z":
        assert time.monotonic() < deadline, f"the child is {state}"


def state_of(pid):
    """Of a process, as Linux has it; nothing where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


# -------------------------------------------------------------------------------------------------------- tests
@pytest.fixture
def pytest_of(tmp_path):
    """The command that runs a file of tests; each notes its name and process in the file ``ran``."""

    def command(*bodies):
        lines = [
            f"import os, time, pytest\n\n\ndef note(i):\n    print(i, os.getpid(), file=open({str(tmp_path / 'ran')!r}, 'a'))\n"
        ]
        lines += [f"\n\ndef test_{i}():\n    note({i})\n    {body}\n" for i, body in enumerate(bodies)]
        (tmp_path / "test_some.py").write_text("".join(lines))
        return [*gpu.PYTEST, f"--rootdir={tmp_path}", tmp_path / "test_some.py"]

    return command


def noted(tmp_path):
    """(test, process) of those that began."""
    return [tuple(line.split()) for line in (tmp_path / "ran").read_text().splitlines()]


def becoming(report):
    (step,) = content(report)["steps"]
    return step["state"], {name.rpartition("_")[2]: test["state"] for name, test in step["tests"].items()}


def test_gpu_tests_go_on_behind_one_that_hangs_or_ends_the_process(report, pytest_of, tmp_path):
    made = report()
    command = pytest_of("", "time.sleep(60)", "assert 0, 'why'", "os._exit(3)", "pytest.skip('no')", "")
    assert not made.tests("some", command, 300, 5)
    ended = {"0": "passed", "1": "hung", "2": "failed", "3": "crashed", "4": "skipped", "5": "passed"}
    assert becoming(made) == ("failed", ended)
    assert [test for test, _ in noted(tmp_path)] == list("012345")
    tests = content(made)["steps"][0]["tests"]
    why = {name.rpartition("_")[2]: test.get("why", "") for name, test in tests.items()}
    assert "time.sleep" not in why["1"] and "test_1" in why["1"] and "AssertionError: why" in why["2"] and why["4"] == "no"
    assert tests["test_some.py::test_0"]["seconds"] >= 0
    report().tests("some", command, 300, 5)
    assert len(noted(tmp_path)) == 6


def test_gpu_tests_that_there_was_no_time_for_run_next_time(report, pytest_of, tmp_path, monkeypatch):
    command = pytest_of(*["time.sleep(0.2)"] * 4)
    made = report()

    def once(*args, some_tests=made._some_tests):
        entry, made.deadline = some_tests(*args), 0
        return entry

    with monkeypatch.context() as patch:
        patch.setattr(steps, "LAST_SECONDS", 600)  # of which none is left behind a first test
        patch.setattr(made, "_some_tests", once)
        assert not made.tests("some", command, 300, 60)
    assert (becoming(made), made.waiting) == (("cut", {"0": "passed"}), {"part"})
    made.begin("part", "tests", 60)
    assert not made.waiting
    made = report()
    assert made.tests("some", command, 300, 60)
    assert becoming(made) == ("passed", dict.fromkeys("0123", "passed"))
    assert [test for test, _ in noted(tmp_path)] == list("0123")


def test_gpu_tests_behind_one_that_lost_the_device_have_a_process_of_their_own(report, pytest_of, tmp_path):
    made, command = report(), pytest_of("", "assert 0", "", "")
    assert not made.tests("some", [*command, "--probe=none"], 300, 60)
    assert becoming(made) == ("failed", {"0": "passed", "1": "failed", "2": "passed", "3": "passed"})
    before, lost, *after = [process for _, process in noted(tmp_path)]
    assert before == lost and lost not in after and len(set(after)) == 1


def test_gpu_step_without_a_test_or_with_a_file_that_cannot_be_read_fails(report, pytest_of, tmp_path):
    made = report()
    assert not made.tests("none", [*pytest_of(""), "-k", "other"], 300, 60)
    assert becoming(made) == ("failed", {})
    made, command = report(sources="b"), pytest_of("")
    (tmp_path / "test_some.py").write_text("import no_such_package")
    assert not made.tests("unreadable", command, 300, 60)
    (test,) = content(made)["steps"][0]["tests"].values()
    assert test["state"] == "failed" and "no_such_package" in test["why"]


SANITIZER = """#!{python}
import pathlib, subprocess, sys
log = pathlib.Path(sys.argv[sys.argv.index("--log-file") + 1])
log.write_text({said!r})
sys.exit(subprocess.run(sys.argv[sys.argv.index("--log-file") + 2:]).returncode or {status})
"""
CLEAN = "========= COMPUTE-SANITIZER\n=========\n========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)\n"
RACE = (
    "========= Error: Race reported between Write access at mma_kernel and Read access\n========= RACECHECK SUMMARY: 1 hazard\n"
)


@pytest.mark.parametrize(
    ("said", "status", "state"), [(CLEAN, 0, "passed"), (RACE, 9, "failed"), (RACE, 0, "failed"), (CLEAN, 9, "failed")]
)
def test_gpu_sanitizers_find_what_their_log_says(report, pytest_of, tmp_path, monkeypatch, said, status, state):
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(SANITIZER.format(python=sys.executable, said=said, status=status))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    file = pytest_of("assert os.environ['DLCORE_TESTS_SMALL']")[-1]
    monkeypatch.setattr(gpu, "WORK", steps.WORK)
    made = report()
    args = [f"--rootdir={tmp_path}", "-o", "markers=cuda: any", "-m", "not cuda", file]
    assert gpu._sanitized(made, "racecheck", "some", args, "cuda") == (state == "passed")
    assert becoming(made) == (state, {"0": "passed"})
    found = content(made)["steps"][0]["faults"]
    assert ("mma_kernel" in found) == (said is RACE)
    assert bool(found) == (state == "failed")


# -------------------------------------------------------------------------------------------------------- parts
def test_gpu_packages_that_are_too_old_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name, version in (("one_package", "2.13.6"), ("two_package", "3.0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    found = {name: gpu.outdated(name, 3) for name in ("one_package", "two_package", "no_package")}
    assert found == {"one_package": True, "two_package": False, "no_package": True}


def test_gpu_steps_are_in_the_order_of_what_rests_on_what():
    files = {"product": False, "net": False, "launches": True, "terms": True}
    assert [name for name, _ in gpu.selections(files, "")] == [*files, "launches wgmma", "terms wgmma"]
    assert gpu.selections(files, "terms") == [
        ("terms", ["tests/test_terms.py", "-k", "not wgmma"]), ("terms wgmma", ["tests/test_terms.py", "-k", "wgmma"]),
    ]  # fmt: skip
    parts = list(dict.fromkeys(name for name, _ in gpu.ALL))
    assert ["build", *parts[:3]] == list(gpu.PARTS)[:4]
    assert set(parts) | {"build"} == set(gpu.PARTS)
    assert sum(gpu.SHARES.values()) + gpu.SECONDS < 1500


@pytest.mark.emulated
def test_gpu_files_are_those_with_tests_of_the_device():
    files = gpu.files_with_tests("emulated")
    assert list(files)[: len(gpu.FIRST)] == list(gpu.FIRST)
    assert list(files)[-len(gpu.LAST) :] == list(gpu.LAST)
    assert set(gpu.SANITIZED) <= set(files)
    assert {name for name, wgmma in files.items() if wgmma} >= {"terms", "mma", "launches"}


def run(part, tmp_path, *options):
    status = gpu.main([part, "--device", "emulated", "--out", str(tmp_path), *options])
    (path,) = tmp_path.iterdir()
    return status, json.loads(path.read_text())["steps"]


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """No report but those in the folder."""
    for module in (gpu, steps):
        monkeypatch.setattr(module, "WORK", tmp_path / "work")
    monkeypatch.setattr(steps, "RESULTS", tmp_path / "results")
    return tmp_path / "out"


def test_gpu_part_without_a_step_has_not_passed(alone):
    assert run("ops", alone, "--case", "none-such") == (1, [])


@pytest.mark.emulated
def test_gpu_parts_run_in_the_emulator(alone, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    monkeypatch.setattr(gpu, "HEADLINE", "W7")
    for part, case in (("headline", ""), ("peers", "W7"), ("ops", "cross_entropy_128x10"), ("test", "pack")):
        status, found = run(part, alone, "--case", case)
        assert (status, found[-1]["state"]) == (0, "passed"), found[-1]
        assert found[-1]["tests"] if part == "test" else found[-1]["result"]["rows"]
        assert f"{part}: passed" in capsys.readouterr().out
    assert [step["name"] for step in found] == ["headline", "train W7", "cross_entropy_128x10", "test pack"]
    assert found[1]["result"]["rows"] == found[0]["result"]["rows"]  # not measured again


def test_gpu_budget_that_is_spent_begins_nothing(alone, capsys):
    status, found = run("all", alone, "--budget", "0")
    assert (status, found) == (1, [])
    assert "all: to be gone on with" in capsys.readouterr().out
