# SPDX-License-Identifier: Apache-2.0
"""The comparison with other libraries: its arguments, its rows, and contestants that fail."""

import importlib
import json
import os
import time

import pytest

from benches import ABOUT, LIMITS, Scripted, ScriptedPool, compare, made, need, process, python
from dlcore import _core
from dlcore.bench import peak, timing

contestants, floors, leads, peers = map(importlib.import_module, ("contestants", "floors", "leads", "peers"))


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
     ["--rounds", "0"], ["chek"], ["--isa", "sse9"], ["--contestants", "torch_float64"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_use_is_one_line_and_status_2(argv, capsys):
    assert peers.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("peers.py: expected")
    assert captured.err.count("\n") == 1


# -------------------------------------------------------------------------------------------------------- rows
def test_ratios_stay_within_a_precision():
    rows = made(
        {"dlcore": [1.0, 2.0, 1.0], "torch_eager": [2.0, 6.0, 2.0], "torch_bf16": [0.5] * 3, "torch_compile_bf16": [0.1] * 3}
    )
    assert [r["ratio"] for r in rows.values()] == [5.0, 1.0, 2.0, 1.0]  # by time, the fastest first
    assert rows["torch_eager"]["lead"] == {"times": 2.0, "low": 2.0, "high": 2.5}
    assert rows["torch_bf16"]["lead"] is None and rows["dlcore"]["lead"] is None
    assert (rows["dlcore"]["ms"], rows["dlcore"]["floor_ms"], rows["torch_bf16"]["floor_ms"]) == (1000.0, 500.0, None)
    assert (rows["dlcore"]["of_floor"], rows["dlcore"]["bound"], rows["torch_bf16"]["bound"]) == (0.5, "bytes", None)
    assert leads.fastest(list(rows.values()))["contestant"] == "torch_eager"
    assert leads.fastest(list(rows.values()), "bf16") is None  # dlcore is not there


def test_shares_of_the_floor_are_taken_round_by_round():
    seconds = {"dlcore": [1.0, 2.0, 8.0]}
    rows = compare.table_rows("a row", seconds, ABOUT, {"dlcore": 0.0}, {"dlcore": 1.0}, [0.9, 1.6, 4.0], "bytes")
    assert rows[0]["of_floor"] == pytest.approx(0.8) and rows[0]["floor_ms"] == pytest.approx(1600)


def test_bf16_is_led_by_our_bf16_and_compared_with_our_float32():
    rows = made({"dlcore": [3.0] * 2, "dlcore_bf16": [2.0] * 2, "torch_bf16": [5.0] * 2, "torch_compile_bf16": [4.0] * 2})
    assert leads.fastest(list(rows.values()), "bf16") == rows["torch_compile_bf16"]
    assert (rows["torch_compile_bf16"]["lead"]["times"], rows["dlcore_bf16"]["lead"]) == (2.0, None)
    assert (rows["dlcore_bf16"]["over_float32"]["times"], rows["dlcore"]["over_float32"]) == (1.5, None)
    assert leads.fastest(list(rows.values())) is None  # no peer in float32
    assert peers.table(list(rows.values())).startswith("a row: dlcore_bf16 is 2.00x torch_compile_bf16 (2.00 to 2.00)\n")
    both = made({"dlcore": [3.0], "dlcore_bf16": [2.0], "torch_bf16": [5.0], "numpy": [9.0]})
    assert peers.table(list(both.values())).splitlines()[:2] == [
        "a row: dlcore is 3.00x numpy (3.00 to 3.00)", "  dlcore_bf16 is 2.50x torch_bf16 (2.50 to 2.50)",
    ]  # fmt: skip


def test_the_fastest_peer_is_the_one_we_lead_least():
    rows = made({"dlcore": [1.0, 3.0, 3.0], "jax": [1.2, 9.0, 9.0], "numpy": [2.0, 3.1, 9.1], "torch_eager": [5.0] * 3})
    assert rows["numpy"]["ms"] < rows["torch_eager"]["ms"] < rows["jax"]["ms"]
    assert leads.fastest(list(rows.values()))["contestant"] == "torch_eager"
    assert "dlcore is 1.67x torch_eager" in peers.table(list(rows.values()))


def test_the_table_says_how_a_contestant_computes(monkeypatch):
    monkeypatch.setitem(ABOUT, "dlcore_bf16", {**ABOUT["dlcore_bf16"], "how": "in another way"})
    assert peers.table(list(made({"dlcore": [1.0], "dlcore_bf16": [1.0]}).values())).endswith("  dlcore_bf16: in another way")


def test_a_row_without_its_reference_has_no_ratio():
    rows = made({"dlcore": [1.0], "numpy": [3.0]})
    assert rows["numpy"]["ratio"] is None
    assert rows["numpy"]["lead"]["times"] == 3.0
    assert "a row: dlcore is 3.00x numpy (3.00 to 3.00)" in peers.table(list(rows.values()))


def test_other_kernels_of_dlcore_are_no_peers():
    rows = list(made({"dlcore": [2.0], "dlcore_mma": [1.0], "numpy": [3.0]}).values())
    assert [r["contestant"] for r in leads.peers(rows)] == ["numpy"]
    assert leads.fastest(rows)["lead"] == {"times": 1.5, "low": 1.5, "high": 1.5}


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


def test_the_floor_takes_turns_where_bytes_bind_a_row():
    asked = []

    class Streams:
        bytes = floors.work("train", "W7_tiny", "").bytes

        def run(self, times):
            asked.append(times)
            time.sleep(0.001 * times)

    pool, errors = ScriptedPool(Scripted("dlcore"), Scripted("torch_eager")), {}
    errors = {name: {"step": 0.0} for name in pool.processes}
    fast = peak.Peak(1, 1e30, LIMITS.read)
    machine = compare.Machine(fast, timing.Watch(lambda: 1.0, sleep=lambda _: None), lambda mix, live: Streams())
    rows, seen, _ = compare.measure(pool, "train", "W7_tiny", ABOUT, errors, machine, rounds=3)
    assert {r["contestant"] for r in rows} == {"dlcore", "torch_eager"} and {r["bound"] for r in rows} == {"bytes"}
    assert all(1 <= r["floor_ms"] < 1000 and r["of_floor"] == pytest.approx(r["floor_ms"] / 1000, rel=0.5) for r in rows)
    assert len(seen["W7_tiny"]["gb_per_second"]) == 3 and len(asked) > 6
    slow = compare.Machine(peak.Peak(1, 1.0, LIMITS.read), machine.watch, machine.streams)
    rows, seen, _ = compare.measure(pool, "train", "W7_tiny", ABOUT, errors, slow, rounds=3)
    assert {r["bound"] for r in rows} == {"flops"} and "gb_per_second" not in seen["W7_tiny"]


@pytest.mark.parametrize("name", contestants.TIMED)
def test_a_process_is_held_to_an_instruction_set(name, monkeypatch):
    started = []
    monkeypatch.setattr(process.subprocess, "Popen", lambda *_, env, **__: started.append(env))
    for isa in ("avx2", ""):
        process.Process(name, 3, isa=isa)
    held, free = started
    assert {key: held[key] for key in contestants.ISAS["avx2"]} == contestants.ISAS["avx2"]
    assert (held["DLCORE_CPU"], held["XLA_FLAGS"]) == ("avx2", "--xla_cpu_max_isa=AVX2")
    assert all(free.get(key) == os.environ.get(key) for key in contestants.ISAS["avx2"])
    assert held["OMP_NUM_THREADS"] == free["OMP_NUM_THREADS"] == "3"


def test_an_instruction_set_is_recorded_and_not_mixed_with_another(tmp_path, monkeypatch):
    pools, rates, out = [], [], tmp_path / "rows.json"
    monkeypatch.setattr(_core, "cpu_info", lambda: {"available": ["baseline", "avx2"], "chosen": "another", "forced": ""})
    monkeypatch.setattr(peak, "measure", lambda threads, isa: rates.append(isa) or LIMITS)
    monkeypatch.setattr(peak, "rate", lambda threads, isa: rates.append(isa) or 1e9)
    monkeypatch.setattr(peers, "Pool", lambda *given: pools.append(given) or process.Pool(*given))
    known = {name: dict(version="1", precision="float32", how="") for name in ("dlcore", "onnxruntime")}
    monkeypatch.setattr(compare, "present", lambda *_: (known, []))
    monkeypatch.setattr(compare, "check", lambda *_: ({}, []))
    argv = ["--workloads", "W7", "--out", str(out)]
    assert peers.main([*argv, "--isa", "avx2"]) == 0
    values = json.loads(out.read_text())
    assert (values["isa"], values["machine"]["instruction_set"], pools[0][-1], set(rates)) == ("avx2", "avx2", "avx2", {"avx2"})
    assert (known["dlcore"]["how"], "cannot be held" in known["onnxruntime"]["how"]) == ("", True)
    assert peers.before(out, values)["done"] == [["train", "W7_tiny"]] and peers.before(out, {**values, "isa": ""}) == {}
    assert peers.main([*argv, "--isa", "avx512"]) == 2


def test_rows_are_written_as_they_come_and_not_measured_again(tmp_path, monkeypatch):
    measured, out = [], tmp_path / "rows.json"

    def measure(pool, action, item, *_):
        if item == stopped:
            raise KeyboardInterrupt
        measured.append(item)
        return list(made({"dlcore": [1.0], "numpy": [2.0]}, item).values()), {item: {"gflops": [1.0]}}, [f"{item} is odd"]

    monkeypatch.setattr(peak, "measure", lambda threads, isa: LIMITS)
    monkeypatch.setattr(peak, "rate", lambda threads, isa: 1e9)
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


def test_steps_are_compared(monkeypatch, capsys):
    need("torch")
    monkeypatch.setattr(peak, "measure", lambda threads, isa: LIMITS)
    monkeypatch.setattr(peak, "rate", lambda threads, isa: 1e9)
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
