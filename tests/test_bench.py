# SPDX-License-Identifier: Apache-2.0
"""The benchmark: right answers at small sizes and wrong ones caught, medians, tables, JSON, exit statuses."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlcore import _core, bench
from dlcore import backend as backends
from dlcore.bench import (
    cases,
    gpu,
    halves,
    kernels,
    measure,
    nets,
    peak,
    plain,
    plain_step,
    published,
    report,
    step,
    timing,
    workloads,
)
from dlcore.bench.ops import CrossEntropySubject, LayerSubject, UpdateSubject
from dlcore.bench.programs import FUSED, NAIVE, NUMPY, VARIANTS
from dlcore.bench.subject import WrongAnswer
from dlcore.cli import main
from dlcore.layers import Dropout, LayerNorm, Linear, ReLU, Sequential

FOLDER = Path(__file__).resolve().parents[1] / "bench"
LIMITS = peak.Peak(1, 1e9, ((1 << 20, 1e10), (1 << 30, 1e9)))

LAYERS = {
    "product": (lambda: Linear(5, 7, bias=False), plain.Linear, 5),
    "linear_relu": (lambda: Sequential(Linear(13, 11), ReLU()), plain.LinearRelu, 13),
    "linear_relu_wide": (lambda: Sequential(Linear(70, 65), ReLU()), plain.LinearRelu, 70),
    "norm_relu_dropout": (lambda: cases.norm_relu_dropout(9), plain.NormReluDropout, 9),
    "layer_norm": (lambda: LayerNorm(17), plain.LayerNorm, 17),
    "dropout": (lambda: Dropout(0.5), plain.Dropout, 33),
}
NETS = {
    "relu": workloads.chain([7, 5, 3], lambda _: workloads.RELU),
    "tanh": workloads.chain([7, 5, 3], lambda _: workloads.TANH),
    "gelu": workloads.chain([7, 5, 3], lambda _: workloads.GELU),
    "norm_dropout": workloads.chain([7, 5, 4, 3], lambda n: [("batch_norm", n), ("relu",), ("dropout", 0.5)]),
    "residual": [("residual", workloads.chain([4, 4, 4], lambda n: [("batch_norm", n), ("relu",)])), ("linear", 4, 3)],
}


def workload(net="relu", loss="cross_entropy", optimizer="adam", batch=6):
    return workloads.Workload("tiny", NETS[net], batch, loss, optimizer, 1e-2)


def tiny(name="linear_relu", rows=4, threads=1, device="cpu"):
    make, plain_class, cols = LAYERS[name]
    return LayerSubject(name, make, plain_class, rows, cols, threads, device)


# ----------------------------------------------------------------------------------------------------- answers
def check(subject):
    errors = subject.check()
    variants = set(VARIANTS) | ({NUMPY} if subject.plain is not None else set())
    assert set(errors) == {(v, part) for v in variants for part in subject.parts}
    assert all(np.isfinite(e) for e in errors.values())


@pytest.mark.parametrize("rows", [7, 67])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_case_is_right(name, rows, threads, device):
    check(tiny(name, rows, threads, device))


@pytest.mark.parametrize("shape", [(1, 2), (67, 10)])
def test_cross_entropy_case_is_right(shape, threads, device):
    check(CrossEntropySubject("cross_entropy", *shape, threads, device))


@pytest.mark.parametrize("rule", plain_step.STATES)
def test_update_case_is_right(rule, threads, device):
    check(UpdateSubject(rule, rule, 101, threads, device=device))


PRODUCTS = [(gemm, precision) for gemm in ("mma", "wgmma") for precision in ("float32", "bf16x3", "bf16")]
PRODUCTS += [("simt", "float32"), ("cublaslt", "float32"), ("mma", "float16")]


def on_a_device(device, gemm, precision):
    if device == "cuda":
        try:
            backends.check_gemm("bench", backends.get(device=device), gemm)
        except ValueError as error:
            pytest.skip(str(error))
    return {"gemm": gemm, "precision": precision}


@pytest.mark.parametrize(("gemm", "precision"), PRODUCTS)
@pytest.mark.parametrize("kind", [*kernels.PRODUCTS, "linear_relu", "linear_norm_relu_dropout"])
def test_products_are_right_by_every_kernel_and_precision(kind, gemm, precision, other_device):
    how = on_a_device(other_device, gemm, precision)
    for shape in ((40, 24, 48), (37, 23, 41)):
        subject = cases.subject(kernels.Kernel(kind, kind, shape, gpu=True), 1, other_device, **how)
        check(subject)
        held = precision in ("bf16", "float16")
        assert subject.arrays["y"].dtype == ("uint16" if held and kind != "product_tn" else "float32")


@pytest.mark.parametrize(("gemm", "precision"), PRODUCTS)
def test_step_case_is_right_by_every_kernel_and_precision(gemm, precision, other_device):
    check(
        step.StepSubject(
            workload("norm_dropout", optimizer="adamw"), 1, other_device, **on_a_device(other_device, gemm, precision)
        )
    )


@pytest.mark.parametrize("kind", ["batch_norm_relu_dropout", "layer_norm", "cross_entropy", "adamw"])
def test_copies_of_a_cold_case_are_its_own(kind, device, monkeypatch):
    monkeypatch.setattr(kernels, "COLD_BYTES", 5000)
    kernel = kernels.Kernel(kind, kind, (102, 3) if kind == "adamw" else (19, 9), gpu=True, cold=True)
    cold, warm = (cases.subject(k, 1, device) for k in (kernel, replace(kernel, cold=False)))
    assert cold.copies > 2 and warm.copies == 1
    check(cold)
    part = next(iter(cold.parts))
    assert cold.cost(FUSED, part).bytes == pytest.approx(warm.cost(FUSED, part).bytes, rel=0.05)
    assert cold.cost(FUSED, part).live > (cold.copies - 1) * warm.cost(FUSED, part).live / 2
    assert NUMPY not in cold.contestants(part)


def test_halves_are_rounded_to_nearest_even():
    values = np.array([[1.0, 1 + 2**-8, 1 + 3 * 2**-8, -3.14159274]], np.float32)
    bits = halves.to_bits(values, "bf16")
    assert bits.shape == (1, 8) and not bits[0, 4:].any()
    assert halves.from_bits(bits, 4, "bf16").tolist() == [[1.0, 1.0, 1 + 2**-6, -3.140625]]
    assert halves.from_bits(halves.to_bits(values, "f16"), 4, "f16").tolist() == values.astype(np.float16).tolist()


@pytest.mark.parametrize("tensors", [1, 3])
def test_update_of_many_tensors_is_right(tensors):
    check(UpdateSubject("adamw", "adamw", 96, 2, tensors))


@pytest.mark.parametrize("rule", plain_step.STATES)
def test_step_case_is_right_with_every_rule(rule):
    check(step.StepSubject(workload(optimizer=rule), 1))


@pytest.mark.parametrize("loss", nets.LOSSES)
@pytest.mark.parametrize("net", NETS)
def test_step_case_is_right_in_every_net(net, loss, threads, device):
    check(step.StepSubject(workload(net, loss), threads, device))


def test_step_continues_over_many_calls():
    subject = step.StepSubject(workload(), 1)
    subject.run(FUSED, "step", 2 * subject.calls + 1)
    assert np.isfinite(subject.out).all()


def test_backward_can_be_repeated():
    subject = tiny("norm_relu_dropout", rows=67)
    for variant in VARIANTS:
        subject.reset()
        subject.run(variant, "forward", 2)
        subject.run(variant, "backward", 1)
        first = {n: a.copy() for n, a in subject.results("backward").items()}
        subject.run(variant, "backward", 3)
        for name, array in subject.results("backward").items():
            assert array.tobytes() == first[name].tobytes()


def test_wrong_result_is_never_timed(monkeypatch):
    subject = tiny()
    monkeypatch.setattr(plain.LinearRelu, "forward", lambda self: self.y.fill(1.0))
    with pytest.raises(WrongAnswer, match=r"^bench linear_relu: expected y within .* of the truth, got a relative error"):
        subject.check()


def test_one_bit_between_fused_and_unfused_is_caught(monkeypatch):
    subject = tiny()
    run = subject.programs[FUSED].run

    def spoilt(parts, times=1):
        run(parts, times)
        subject.arrays["dx"].view(np.uint32)[0, 0] ^= 1

    monkeypatch.setattr(subject.programs[FUSED], "run", spoilt)
    with pytest.raises(WrongAnswer, match="the bits of unfused unrecorded, got 1 of 52 elements of dx"):
        subject.check()


# ----------------------------------------------------------------------------------------------------- timing
class Clock:
    """A clock that only the timed function moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_timer_gives_the_seconds_of_one_call():
    clock = Clock()

    def work(times):
        clock.now += 1e-4 * times

    timer = timing.Timer(work, clock)
    assert timer.times >= 80
    assert timer(0.05) == pytest.approx(1e-4)


def test_timer_calls_a_slow_function_little():
    clock, calls = Clock(), []

    def work(times):
        calls.append(times)
        clock.now += 5.0 * times

    assert timing.Timer(work, clock)(0.05) == pytest.approx(5.0)
    assert calls == [1, 1, 1]


def test_rounds_take_turns(monkeypatch):
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0.0)
    order = []

    def contestant(name):
        def run():
            order.append(name)
            return 1.0

        return run

    seconds = timing.interleave({n: contestant(n) for n in "abc"}, rounds=3)
    assert "".join(order) == "abcbcacab"
    assert seconds == {n: [1.0] * 3 for n in "abc"}


class Machine:
    """A probe that gives rates in turn, the last one for ever, and a sleep that only counts."""

    def __init__(self, *rates):
        self.rates, self.slept = list(rates), []

    def __call__(self):
        return self.rates.pop(0) if len(self.rates) > 1 else self.rates[0]

    def watch(self, best=100.0):
        rates, self.rates = self.rates, [best]
        watch = timing.Watch(self, self.slept.append)
        self.rates = rates
        return watch


def test_quiet_rounds_are_not_repeated():
    machine = Machine(100.0)
    watch, calls = machine.watch(), []
    watch.begin(2)
    seconds = timing.interleave({"a": lambda: calls.append(1) or 2.0}, 2, watch)
    assert (seconds, len(calls)) == ({"a": [2.0, 2.0]}, 2)
    assert (watch.rates, watch.repeated) == ([100.0, 100.0], 0)
    assert timing.PAUSE_SECONDS not in machine.slept


def test_a_round_beside_a_low_rate_runs_again():
    # before, after: low before (not even measured), low after (thrown away), then good
    machine = Machine(79.0, 100.0, 100.0, 50.0, 90.0, 85.0)
    watch, taken = machine.watch(), iter([7.0, 3.0])
    watch.begin(1)
    assert timing.interleave({"a": lambda: next(taken)}, 1, watch) == {"a": [3.0]}
    assert (watch.rates, watch.repeated) == ([85.0], 2)
    assert machine.slept.count(timing.PAUSE_SECONDS) == 2


def test_repeats_are_bounded_and_the_low_rate_is_kept():
    machine = Machine(10.0)
    watch = machine.watch()
    watch.begin(2)
    assert timing.interleave({"a": lambda: 1.0}, 2, watch) == {"a": [1.0, 1.0]}
    assert (watch.rates, watch.repeated) == ([10.0, 10.0], 2 * timing.REPEATS)


def test_a_higher_rate_becomes_the_best():
    machine = Machine(200.0, 200.0, 150.0, 150.0, 170.0)
    watch = machine.watch()
    watch.begin(2)
    timing.interleave({"a": lambda: 1.0}, 2, watch)
    assert (watch.best, watch.rates, watch.repeated) == (200.0, [200.0, 170.0], 1)


def test_median_spread_and_ratio():
    assert timing.summary([3.0, 1.0, 2.0]) == timing.Summary(2.0, 0.5)
    assert timing.summary([5.0]) == timing.Summary(5.0, 0.0)
    assert timing.ratio([2.0, 20.0, 4.0], [1.0, 10.0, 1.0]) == 2.0
    assert timing.gain([3.0], [2.0]) == timing.Gain(1.5, 1.5, 1.5)


def test_share_of_peak_is_of_the_nearer_limit():
    assert LIMITS.share(1.0, flops=5e8, moved=10, live=100) == pytest.approx(0.5)
    assert LIMITS.share(1.0, flops=1.0, moved=10**9, live=1 << 20) == pytest.approx(0.1)
    assert LIMITS.share(2.0, flops=1.0, moved=10**9, live=1 << 31) == pytest.approx(0.5)


def test_rate_is_of_all_threads(cpu_isa, monkeypatch):
    monkeypatch.setattr(peak, "FMA_ROUNDS", 100_000)
    assert peak.rate(2, cpu_isa) > 1e8


def test_peak_is_measured(cpu_isa, monkeypatch):
    monkeypatch.setattr(peak, "ATTEMPTS", 1)
    monkeypatch.setattr(peak, "SECONDS", 1e-3)
    monkeypatch.setattr(peak, "LEVELS", (1 << 12, 1 << 16))
    found = peak.measure.__wrapped__(2, cpu_isa)
    assert found.flops > 1e8
    assert [size for size, _ in found.read] == [1 << 13, 1 << 17]
    assert all(rate > 1e8 for _, rate in found.read)


# ---------------------------------------------------------------------------------------------------- reports
def measured(monkeypatch, name="linear_relu"):
    monkeypatch.setattr(measure, "ROUND_SECONDS", 0.0)
    monkeypatch.setattr(timing, "SETTLE_SECONDS", 0.0)
    case = cases.Case(name, "ops", lambda *_: tiny(name))
    return measure.measure(case, 1, 2, LIMITS)


def test_rows_have_their_numbers(monkeypatch):
    for part in measured(monkeypatch):
        assert [r["variant"] for r in part.rows] == [NUMPY, *VARIANTS]
        for row in part.rows:
            assert set(row) == {
                "row", "variant", "ms", "spread", "ratio", "bytes", "flops", "live", "share_of_peak", "error",
            }  # fmt: skip
            assert row["ms"] > 0
            known = row["variant"] != NUMPY
            assert all((row[key] is not None) == known for key in ("bytes", "flops", "live", "share_of_peak"))
        naive = part.rows[1]
        assert (naive["variant"], naive["ratio"]) == (NAIVE, 1.0)
        product = 2 * 4 * 13 * 11 * (1 if part.row.endswith("forward") else 2)
        assert naive["flops"] >= product


def test_table_fits_a_hundred_columns(monkeypatch):
    lines = report.header(report.machine(1, LIMITS))
    for part in measured(monkeypatch):
        lines += report.block(part)
    assert all(len(line) <= 100 for line in lines[1:])
    assert "spread %" in lines[4]


def test_no_gain_is_said_in_plain_words():
    said = [report.in_words({"fusion": g}) for g in (timing.Gain(1.02, 1.01, 1.03), timing.Gain(1.5, 1.4, 1.6), None)]
    assert said == ["no gain from fusion (1.02x)", "fusion 1.50x", "fusion: nothing to do"]
    assert report.in_words({"fusion": timing.Gain(1.5, 0.9, 1.7)}) == "no clear gain from fusion (1.50x)"


# --------------------------------------------------------------------------------------------------- commands
@pytest.fixture
def quick(monkeypatch):
    """Two tiny cases, limits that need no measuring, and rounds that take no time."""
    made = [
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
    assert names == {case.name for case in cases.all_cases()} | {k.name for k in kernels.KERNELS.values() if k.gpu} | set(
        workloads.GPU_WORKLOADS
    )


@pytest.mark.usefixtures("quick")
def test_bench_prints_one_json_object(capsys):
    assert main(["bench", "--json", "--rounds", "2", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    values = json.loads(out)
    assert {"machine", "versions", "command", "rows", "gains"} <= set(values)
    assert values["command"] == "dlcore bench --json --rounds 2 --threads 1"
    assert {r["row"] for r in values["rows"]} == {"linear_relu forward", "linear_relu backward", "tiny step"}


@pytest.mark.usefixtures("quick")
def test_bench_of_a_device_leaves_numpy_out(other_device, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "measure", lambda: LIMITS)
    assert main(["bench", "--json", "--rounds", "1", "--device", other_device]) == 0
    values = json.loads(capsys.readouterr().out)
    assert {r["variant"] for r in values["rows"]} == set(VARIANTS)
    assert values["machine"]["device"] == other_device
    assert all("share_of_published" in r for r in values["rows"])
    assert {"gpu", "gpu_after"} <= set(values["machine"])


def test_limits_of_a_gpu_are_measured():
    if not _core.cuda_info()["available"]:
        pytest.skip(_core.cuda_info()["reason"])
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
def test_run_is_a_door():
    command = [sys.executable, "run.py", "step", "--list"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER, timeout=300, check=False)
    assert (done.returncode, done.stdout.split()) == (0, list(workloads.WORKLOADS))
