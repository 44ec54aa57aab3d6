# SPDX-License-Identifier: Apache-2.0
"""The comparison with other libraries: who takes part, right answers, ratios, floors, figures, regressions."""

import contextlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlcore import _core
from dlcore.bench import kernels, peak, plain_step, timing, workloads

FOLDER = Path(__file__).resolve().parents[1] / "bench"
sys.path.append(str(FOLDER))
compare, contestants, floors, peers, process, regress = map(
    importlib.import_module, ("compare", "contestants", "floors", "peers", "process", "regress")
)
REQUIRED = bool(os.environ.get("DLCORE_REQUIRE_PEERS"))
LIMITS = peak.Peak(1, 1e9, ((1 << 20, 1e10), (1 << 30, 1e9)))
LIBRARIES = {"dlcore": "dlcore", "torch_bf16": "torch", "jax": "optax", "tensorflow": "tensorflow",
             "onnxruntime": "onnxruntime", "sklearn": "sklearn", "numpy": "numpy"}  # fmt: skip


def python(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=FOLDER, timeout=300, check=False
    )


def need(package, required=REQUIRED):
    if not required and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


# --------------------------------------------------------------------------------------------------- arguments
def test_training_steps_are_the_default():
    options = peers.arguments(["--workloads", "W7,W1"])
    assert options["items"] == [("train", "W7_tiny"), ("train", "W1_mnist")]
    assert options["contestants"] == list(contestants.TIMED)


def test_ops_are_named_by_their_beginnings():
    options = peers.arguments(["ops", "--workloads", "layer_norm,adamw_200", "--contestants", "numpy"])
    assert [k for _, k in options["items"]] == [
        "layer_norm_128x512", "layer_norm_4096x1024", "layer_norm_65536x64", "adamw_200x50k",
    ]  # fmt: skip
    assert options["contestants"] == ["numpy", "torch_eager"]
    assert {k for _, k in peers.items("ops", None)} == set(peers.OPS)


def test_check_is_of_all_actions():
    assert peers.items("check", "W7,dropout") == [
        ("train", "W7_tiny"), ("infer", "W7_tiny"), ("ops", "dropout_4096x4096"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "argv",
    [["--workloads", "W9"], ["--workloads", "layer_norm"], ["ops", "--workloads", "W1"], ["--contestants", "jaxx"],
     ["--rounds", "0"], ["chek"], ["--contestants", "torch_float64"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_use_is_one_line_and_status_2(argv, capsys):
    assert peers.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("peers.py: expected")
    assert captured.err.count("\n") == 1


# -------------------------------------------------------------------------------------------------------- rows
ABOUT = {
    name: {"version": "1", "precision": precision}
    for name, precision in {"dlcore": "float32", "torch_eager": "float32", "numpy": "float32", "torch_bf16": "bf16",
                            "torch_compile_bf16": "bf16", "dlcore_mma": "float32"}.items()
}  # fmt: skip


def made(seconds, row="a row"):
    ones = dict.fromkeys(seconds, 1.0)
    return {r["contestant"]: r for r in compare.table_rows(row, seconds, ABOUT, ones, ones, floor_ms=0.5)}


def test_ratios_stay_within_a_precision():
    rows = made(
        {"dlcore": [1.0, 2.0, 1.0], "torch_eager": [2.0, 6.0, 2.0], "torch_bf16": [0.5] * 3, "torch_compile_bf16": [0.1] * 3}
    )
    assert [r["ratio"] for r in rows.values()] == [5.0, 1.0, 2.0, 1.0]  # by time, the fastest first
    assert rows["torch_eager"]["lead"] == {"times": 2.0, "low": 2.0, "high": 2.5}
    assert rows["torch_bf16"]["lead"] is None and rows["dlcore"]["lead"] is None
    assert (rows["dlcore"]["ms"], rows["dlcore"]["floor_ms"], rows["torch_bf16"]["floor_ms"]) == (1000.0, 0.5, None)
    assert compare.best_peer(list(rows.values()))["contestant"] == "torch_eager"
    assert compare.best_peer(list(rows.values()), "bf16")["contestant"] == "torch_compile_bf16"


def test_a_row_without_its_reference_has_no_ratio():
    rows = made({"dlcore": [1.0], "numpy": [3.0]})
    assert rows["numpy"]["ratio"] is None
    assert rows["numpy"]["lead"]["times"] == 3.0
    assert "a row: dlcore is 3.00x numpy (3.00 to 3.00)" in peers.table(list(rows.values()))


def test_other_kernels_of_dlcore_are_no_peers():
    rows = list(made({"dlcore": [2.0], "dlcore_mma": [1.0], "numpy": [3.0]}).values())
    assert compare.best_peer(rows)["contestant"] == "numpy"
    assert regress.leads({"rows": rows}) == {"a row": {"numpy": {"times": 1.5, "low": 1.5, "high": 1.5}}}


def test_table_fits_a_hundred_columns():
    rows = made({"dlcore": [1.0, 2.0], "torch_compile_bf16": [3.0, 1.0]}, "batch_norm_relu_dropout_4096x1024 backward")
    assert all(len(line) <= 100 for line in peers.table(list(rows.values())).split("\n"))


def test_a_nan_is_infinitely_wrong():
    assert compare.difference([1.0, float("nan")], [1.0, 1.0], "train") == float("inf")
    assert compare.difference([0.0, 4.4], [0.0, 4.0], "infer") == pytest.approx(0.1)
    assert compare.difference([1e-9], [2e-9], "train") == pytest.approx(1e-6)


# ----------------------------------------------------------------------------------------------- contestants
def test_workers_import_nothing_of_dlcore():
    code = "import sys, workloads, contestants.numpy_; print([m for m in sys.modules if m.split('.')[0] == 'dlcore'])"
    done = python("-c", code)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_absent_libraries_are_left_out_with_a_reason(tmp_path, monkeypatch):
    (tmp_path / "sklearn.py").write_text("raise ImportError('none here')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setitem(contestants.REGISTRY, "sklearn", contestants.Entry("sklearn_", "Sklearn", {"PYTHONPATH": path}))
    said = []
    found, wrong = compare.present(process.Pool(1), ["numpy", "sklearn"], said.append)
    assert (list(found), wrong) == (["numpy"], [])
    assert said == ["left out: sklearn: ImportError: none here"]


def test_a_contestant_that_cannot_begin_is_named_and_the_others_take_part(tmp_path, monkeypatch):
    (tmp_path / "sklearn.py").write_text("raise OSError('a broken one')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setitem(contestants.REGISTRY, "sklearn", contestants.Entry("sklearn_", "Sklearn", {"PYTHONPATH": path}))
    found, wrong = compare.present(process.Pool(1), ["sklearn", "numpy"], print)
    assert list(found) == ["numpy"]
    assert wrong == ["sklearn: expected an answer to hello, got OSError: a broken one"]


class Scripted:
    """A process that gives the same answers again and again, and fails at the n-th of one kind."""

    def __init__(self, name, fails="", after=0, values=(1.0,) * compare.STEPS):
        self.name, self.fails, self.left, self.seconds = name, fails, after, 1.0
        self.answers = {"check": {"values": list(values)}, "setup": {}, "begin": {}, "memory": {"rss_mb": 1.0}}

    def send(self, do, **_):
        pass

    def answer(self, do):
        if do == self.fails:
            self.left -= 1
            if self.left < 0:
                raise process.Failed(f"{self.name}: no {do}")
        return self.answers.get(do) or {"seconds": self.seconds}


class ScriptedPool:
    def __init__(self, *processes):
        self.processes = {p.name: p for p in processes}

    @contextlib.contextmanager
    def started(self, names):
        yield {name: self.processes[name] for name in names}


@pytest.mark.parametrize(("fails", "after"), [("setup", 0), ("begin", 0), ("round", 0), ("round", 2), ("memory", 0)])
def test_a_contestant_that_fails_loses_only_its_own_row(fails, after):
    pool = ScriptedPool(Scripted("dlcore"), Scripted("torch_eager"), Scripted("numpy", fails, after))
    errors = {name: {"step": 0.0} for name in pool.processes}
    machine = compare.Machine(LIMITS, timing.Watch(lambda: 1.0, sleep=lambda _: None))
    rows, seen, wrong = compare.measure(pool, "train", "W7_tiny", ABOUT, errors, machine, rounds=3)
    assert {r["contestant"] for r in rows} == {"dlcore", "torch_eager"}
    assert all(r["ratio"] == 1.0 for r in rows)
    assert len(seen["W7_tiny"]["gflops"]) == 3
    assert wrong == [f"W7_tiny numpy: no {fails}"]


def test_a_row_of_failures_is_none():
    pool = ScriptedPool(Scripted("dlcore", "round"), Scripted("numpy", "begin"))
    errors = {name: {"forward": 0.0, "backward": 0.0} for name in pool.processes}
    machine = compare.Machine(LIMITS, timing.Watch(lambda: 1.0, sleep=lambda _: None))
    rows, seen, wrong = compare.measure(pool, "ops", "layer_norm_128x512", ABOUT, errors, machine, rounds=2)
    assert (rows, seen) == ([], {})
    assert sorted(wrong) == ["layer_norm_128x512 forward dlcore: no round", "layer_norm_128x512 forward numpy: no begin"]


def test_answers_are_checked_without_those_that_fail():
    about = {name: ABOUT[name] for name in ("dlcore", "numpy", "torch_eager")}
    others = Scripted("dlcore"), Scripted("numpy", "check"), Scripted("torch_eager", values=(1.1,) * compare.STEPS)
    errors, wrong = compare.check(ScriptedPool(Scripted(compare.TRUTH), *others), "train", "W7", about, print)
    assert errors == {"dlcore": {"step": 0.0}}
    assert wrong == ["W7 numpy: no check", "W7 torch_eager: expected an error within 0.0005, got 0.1"]
    errors, wrong = compare.check(ScriptedPool(Scripted(compare.TRUTH, "check"), *others), "train", "W7", about, print)
    assert (errors, wrong[0]) == ({}, f"W7 {compare.TRUTH}: no check")


def test_processes_on_a_device_are_kept_while_they_answer():
    pool = process.Pool(1, "emulated")
    try:
        with pool.started(["numpy"]) as first:
            assert first["numpy"].ask("hello")["precision"] == "float32"
        with pool.started(["numpy"]) as again:
            assert again["numpy"] is first["numpy"]
            with pytest.raises(process.Failed, match="numpy: expected an answer to dance"):
                again["numpy"].ask("dance")
        with pool.started(["numpy"]) as other:
            assert other["numpy"] is not first["numpy"]
    finally:
        pool.close()
    with process.Pool(1).started(["numpy"]) as alone:
        alone["numpy"]._process.kill()
        with pytest.raises(process.Failed, match="numpy: expected an answer to hello, got an end of the process"):
            alone["numpy"].ask("hello")


def test_an_answer_that_takes_too_long_ends_the_process(tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text("import time; time.sleep(60)")
    monkeypatch.setattr(process, "WORKER", tmp_path / "worker.py")
    found, wrong = compare.present(process.Pool(1, limit=0.2), ["numpy"], print)
    assert (found, wrong) == ({}, ["numpy: expected an answer to hello within 0.2 s, got none"])


def test_rows_are_written_as_they_come_and_not_measured_again(tmp_path, monkeypatch):
    measured, out = [], tmp_path / "rows.json"

    def measure(pool, action, item, *_):
        if item == stopped:
            raise KeyboardInterrupt
        measured.append(item)
        return list(made({"dlcore": [1.0], "numpy": [2.0]}, item).values()), {item: {"gflops": [1.0]}}, [f"{item} is odd"]

    monkeypatch.setattr(peak, "measure", lambda threads: LIMITS)
    monkeypatch.setattr(peak, "rate", lambda threads: 1e9)
    monkeypatch.setattr(compare, "present", lambda *_: ({"dlcore": {"version": version}}, []))
    monkeypatch.setattr(compare, "check", lambda *_: ({"dlcore": {"step": 0.0}}, []))
    monkeypatch.setattr(compare, "measure", measure)
    argv, version = ["--workloads", "W7,W1", "--out", str(out)], "1"
    for stop, status, rows in (("W1_mnist", 130, 2), ("", 1, 4)):
        stopped = stop
        assert peers.main(argv) == status
        values = json.loads(out.read_text())
        assert len(values["rows"]) == rows
    assert measured == ["W7_tiny", "W1_mnist"]
    assert values["wrong"] == ["W7_tiny is odd", "W1_mnist is odd"]
    version = "2"
    peers.main(argv)
    assert measured == ["W7_tiny", "W1_mnist"] * 2


@pytest.mark.skipif(_core.cuda_info()["available"], reason="there is a GPU")
def test_contestants_of_a_gpu_are_left_out_without_one(capsys):
    assert peers.main(["--device", "cuda", "--contestants", "dlcore", "--threads", "1"]) == 1
    said = capsys.readouterr()
    assert [line.split(":")[:2] for line in said.out.splitlines()] == [["left out", " dlcore"], ["left out", " torch_eager"]]
    assert said.err == "peers.py: expected a contestant on cuda, got none\n"


@pytest.mark.parametrize("workload", ["W1", "W2", "W3"])
def test_a_captured_step_begins_with_the_given_values(workload, monkeypatch):
    """The class for GPUs over the CPU, where a capture is its warm calls and a replay the call."""
    need("torch")
    torch, module = importlib.import_module("torch"), importlib.import_module("contestants.torch_cuda")
    fakes = {"is_available": lambda: True, "Stream": object, "set_stream": lambda _: None, "synchronize": lambda: None}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.compiler, "reset", lambda: None)
    monkeypatch.setattr(module.TorchCuda, "device", "cpu")
    monkeypatch.setattr(module.TorchCudaCompile, "compiled", lambda self, function: function)
    monkeypatch.setattr(module.Graphed, "captured", lambda self, call: [call() for _ in range(3)] and call)
    w, losses = workloads.find(workload), {}
    for name, made_by in (("captured", module.TorchCudaCompile), ("truth", module.TorchEager)):
        contestant = made_by(torch.get_num_threads())
        contestant.build(w, workloads.parameters(w), *workloads.batch(w, 64), w.lr, dropout=False)
        losses[name] = [contestant.step() or contestant.loss() for _ in range(compare.STEPS)]
    assert compare.difference(losses["captured"], losses["truth"], "train") < 1e-5


@pytest.mark.parametrize("name", LIBRARIES)
def test_contestants_that_are_installed_are_right(name):
    need(LIBRARIES[name], required=False)
    w = workloads.find("W7")
    truth = [plain_step.PlainStep(w, workloads.parameters(w), *workloads.batch(w, *which), w.lr, "float64")
             for which in ((), (64, 7))]  # fmt: skip
    wanted = {"train": [truth[0].step() for _ in range(3)], "infer": truth[1].forward().ravel().tolist()}
    with process.Pool(1).started([name]) as started:
        contestant = started[name]
        allowed = compare.TOLERANCES[contestant.ask("hello")["precision"]]
        for action, want in wanted.items():
            found = contestant.ask("check", action=action, item="W7", steps=3)
            assert "reason" in found or compare.difference(found["values"], want, action) <= allowed, action
        for kernel in (
            "linear_relu_128x512x784",
            "batch_norm_relu_dropout_128x512",
            "cross_entropy_128x10",
            "layer_norm_128x512",
        ):
            found = contestant.ask("check", action="ops", item=kernel)
            assert "reason" in found or found["errors"]  # it raises where they are too large


def test_steps_are_compared(monkeypatch, capsys):
    need("torch")
    monkeypatch.setattr(peak, "measure", lambda threads: LIMITS)
    monkeypatch.setattr(peak, "rate", lambda threads: 1e9)
    argv = ["--workloads", "W7", "--rounds", "1", "--threads", "1", "--json", "--contestants", "dlcore,numpy"]
    assert peers.main(argv) == 0
    captured = capsys.readouterr()
    assert "check train W7_tiny numpy: ok" in captured.err
    values = json.loads(captured.out)
    assert values["action"] == "train"
    assert {r["contestant"] for r in values["rows"]} == {"dlcore", "torch_eager", "numpy"}
    for r in values["rows"]:
        assert r["ms"] > 0 and r["floor_ms"] > 0 and r["error"] < 1e-5 and r["rss_mb"] > 10
    assert next(r["ratio"] for r in values["rows"] if r["contestant"] == "torch_eager") == 1.0
    assert values["watch"] == {"W7_tiny": {"gflops": [1.0], "repeated": 0}}


# ----------------------------------------------------------------------------------------------------- kernels
def numpy_results(kernel):
    given = kernels.given(kernel)
    version = kernels.layer(kernel, given)
    found = {}
    for part in kernel.parts:
        getattr(version, part)()
        found[part] = [version.results(part)[n].copy() for n in kernel.results(part)]
    return given, found


@pytest.mark.parametrize("kind", kernels.LAYERS)
def test_a_wrong_result_of_a_kernel_is_refused(kind):
    kernel = kernels.Kernel("it", kind, (70, 33, 33) if kind.startswith(("product", "linear")) else (70, 33))
    given, found = numpy_results(kernel)
    assert max(kernels.errors(kernel, given, found, "float32").values()) < 1e-5
    found[kernel.parts[-1]][0][3, 4] += 0.01
    with pytest.raises(ValueError, match=f"it {kernel.parts[-1]}: expected an error within"):
        kernels.errors(kernel, given, found, "float32")


def test_a_dropout_that_keeps_too_much_is_refused():
    kernel = kernels.Kernel("it", "dropout", (70, 33))
    given, found = numpy_results(kernel)
    found["forward"] = [2 * given.x]
    with pytest.raises(ValueError, match=r"it: expected a share of 0\.5 kept, got 1 of 2310 elements"):
        kernels.errors(kernel, given, found, "float32")


def test_bf16_products_may_err_by_the_roundoff_of_their_factors():
    kernel = kernels.Kernel("it", "product", (8, 8, 512))
    given, found = numpy_results(kernel)
    found["forward"][0] *= 1.003
    assert kernels.errors(kernel, given, found, "bf16")["forward"] == pytest.approx(0.003, rel=1e-2)
    with pytest.raises(ValueError, match="expected an error within"):
        kernels.errors(kernel, given, found, "float32")


# ------------------------------------------------------------------------------------------------------ floors
def test_floors_of_a_step_are_counted():
    cost = floors.train("W7_tiny")
    weights, parameters = 8 * 32, 8 * 32 + 32 + 32 * 32 + 32 + 32 + 1
    assert cost.flops == 2 * 32 * (2 * weights + 3 * 32 * 32 + 3 * 32)
    assert cost.bytes == 4 * (32 * 5 * (32 + 32 + 1) + 2 * 32 * 8 + parameters * 7)
    with_norm = floors.train("W2_mnist_batch_norm").bytes - floors.train("W1_mnist").bytes
    scales, states = 2 * 768 * (5 + 2), 535818 * (2 - 1)  # gamma and beta; Adam has a state more than momentum
    assert with_norm == 4 * (scales + states + 128 * 3 * 768)


def test_floors_of_predictions_and_ops_are_counted():
    cost = floors.infer("W7_tiny", "64")
    assert (cost.flops, cost.bytes) == (2 * 64 * (256 + 1024 + 32), 4 * (1377 + 64 * (8 + 2 * 64 + 1)))
    assert floors.ops("product_512x512x512", "forward").flops == 2 * 512**3
    assert floors.ops("layer_norm_128x512", "backward").bytes == 4 * 3 * 128 * 512
    assert floors.ops("adamw_10M", "update").bytes == 4 * 4 * 10**7


@pytest.mark.parametrize("action", ["train", "infer", "ops"])
def test_every_row_has_a_floor(action):
    for _, item in peers.items(action, None):
        for part in compare.parts(action, item):
            assert 0 < floors.milliseconds(action, item, part, LIMITS) < 1e6


def test_the_floor_is_the_nearer_limit():
    assert LIMITS.floor(2e9, 10, 100) == 2.0
    assert LIMITS.floor(1.0, 10**9, 1 << 21) == 1.0


# ----------------------------------------------------------------------------------------------------- figures
def result(**changes):
    rows = made({"dlcore": [1.0, 1.1], "torch_eager": [2.0, 2.0], "numpy": [4.0, 4.4], "torch_bf16": [1.0, 1.0],
                 "torch_compile_bf16": [0.5, 0.5]}, "W7_tiny")  # fmt: skip
    machine = {"processor": "a processor", "threads": 2, "instruction_set": "avx2"}
    return {"action": "train", "date": "2026-01-31", "command": "python bench/peers.py", "machine": machine,
            "rows": list(rows.values()), **changes}  # fmt: skip


def test_figures_are_drawn_from_results(tmp_path):
    need("matplotlib")
    (tmp_path / "peers.json").write_text(json.dumps(result()))
    done = python("figure.py", tmp_path / "peers.json")
    wanted = [tmp_path / f"peers{suffix}.png" for suffix in ("", "_bf16", "_floor")]
    assert done.stdout.split() == list(map(str, wanted)), done.stderr
    assert all(path.stat().st_size > 1000 for path in wanted)


def test_many_rows_stand_in_columns_of_one_height():
    need("matplotlib")
    figure = importlib.import_module("figure")
    columns = figure._columns({f"row {i}": [{}] * 8 for i in range(18)})
    assert [len(names) for names in columns] == [6, 6, 6]
    assert [n for names in columns for n in names] == [f"row {i}" for i in range(18)]
    assert figure._columns({"row": [{}] * 3}) == [["row"]]


# ------------------------------------------------------------------------------------------------- regressions
def led(times, spread=0.02, peer="torch_eager", **changes):
    """A result in which dlcore leads one peer in one row."""
    lead = {"times": times, "low": times * (1 - spread / 2), "high": times * (1 + spread / 2)}
    row = {"row": "W1", "contestant": peer, "precision": "float32", "lead": lead}
    return result(rows=[row], **changes)


def both(slow, fast):
    return result(rows=[*led(slow, peer="numpy")["rows"], *led(fast)["rows"]])


@pytest.mark.parametrize(
    ("fresh", "base", "worse"),
    [
        (led(1.5), led(1.5), False),
        (led(3.0), led(1.5), False),
        (led(1.44), led(1.5), False),  # within 5 %
        (led(1.4), led(1.5), True),
        (led(1.4, 0.05), led(1.5, 0.05), False),  # within the spread of both
        (both(9.0, 1.2), both(9.0, 1.5), True),
        (both(7.0, 1.5), both(9.0, 1.5), False),  # only the fastest peer counts
        (both(0.5, 1.5), led(1.5), False),  # and only one that both have
    ],
)
def test_regressions_are_of_the_lead(fresh, base, worse):
    assert bool(regress.compare(fresh, base)[0]) == worse


def test_noisy_rounds_are_not_judged():
    worse, unclear = regress.compare(led(1.0, 0.5), led(2.0, 0.1))
    assert (worse, len(unclear)) == ([], 1)


@pytest.mark.parametrize(
    ("base", "said"),
    [(led(1.0, action="infer"), "the same action"), (led(1.0, peer="jax"), "rows with a float32 peer"),
     (led(1.0, machine={"processor": "another", "threads": 2, "instruction_set": "avx2"}), "the same processor")],
)  # fmt: skip
def test_results_that_do_not_compare_are_refused(base, said):
    with pytest.raises(regress.Incomparable, match=f"expected .*{said}"):
        regress.compare(led(1.0), base)


def test_a_regression_is_one_line_and_status_1(tmp_path, capsys):
    for name, values in (("fresh", led(1.0)), ("base", led(2.0))):
        (tmp_path / f"{name}.json").write_text(json.dumps(values))
    fresh, base = (str(tmp_path / f"{name}.json") for name in ("fresh", "base"))
    assert regress.main([fresh, base]) == 1
    assert capsys.readouterr().out == ("regression: W1: 1.00x the fastest float32 peer, was 2.00x; 5 % less would be noise\n")
    assert regress.main([base, fresh]) == 0
    assert regress.main([fresh, str(tmp_path / "none.json")]) == 2


def test_the_newest_result_of_this_machine_is_the_base(tmp_path):
    for i, values in enumerate([led(1.0), led(2.0, date="2026-02-01"), led(3.0, date="2026-03-01", action="ops")]):
        (tmp_path / f"{i}_peers_x.json").write_text(json.dumps(values))
    assert regress.newest(led(5.0), tmp_path)["date"] == "2026-02-01"
    with pytest.raises(regress.Incomparable, match="expected a result of infer, a processor, avx2, 2 threads"):
        regress.newest(led(1.0, action="infer"), tmp_path)
