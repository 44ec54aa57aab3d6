# SPDX-License-Identifier: Apache-2.0
"""The benchmark: right answers at small sizes and wrong ones caught, medians, tables."""

from dataclasses import replace

import numpy as np
import pytest

from benches import LIMITS
from dlcore import _core
from dlcore import backend as backends
from dlcore.bench import (
    cases,
    halves,
    infer,
    kernels,
    measure,
    nets,
    peak,
    plain,
    plain_step,
    report,
    step,
    timing,
    workloads,
)
from dlcore.bench.ops import CrossEntropySubject, LayerSubject, UpdateSubject
from dlcore.bench.programs import FUSED, NAIVE, NUMPY, VARIANTS
from dlcore.bench.subject import WrongAnswer
from dlcore.layers import Dropout, LayerNorm, Linear, ReLU, Sequential

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
def test_nets_are_right_by_every_kernel_and_precision(gemm, precision, other_device):
    net, how = workload("norm_dropout", optimizer="adamw"), on_a_device(other_device, gemm, precision)
    check(step.StepSubject(net, 1, other_device, **how))
    check(infer.InferSubject(net, 1, other_device, **how, rows=(1, 5, 67)))


@pytest.mark.parametrize("precision", ["bf16x3", "bf16"])
def test_nets_of_the_cpu_are_right_in_every_precision(precision):
    wide = replace(workload(), layers=workloads.chain([256, 256, 3], lambda _: workloads.RELU), batch=128)
    check(step.StepSubject(wide, 2, precision=precision))
    check(infer.InferSubject(wide, 2, precision=precision, rows=(1, 67)))


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


@pytest.mark.parametrize("net", NETS)
def test_infer_case_is_right_in_every_net(net, threads, device):
    check(infer.InferSubject(workload(net), threads, device, rows=(1, 5, 67)))


def test_a_wrong_prediction_is_never_timed():
    subject = infer.InferSubject(workload(), 1, rows=(1, 5))
    assert list(subject.parts) == ["batch 1", "batch 5"]
    subject.net.parameters["0.weight"][...] *= 1.01  # the snapshots are of before
    check(subject)
    run = subject.programs[FUSED].run
    subject.programs[FUSED].run = lambda rows, times=1: run(rows, times) if rows == (1,) else None
    with pytest.raises(WrongAnswer, match=r"^bench tiny: expected the bits of unfused unrecorded, got 15 of 15 .* batch 5"):
        subject.check()
    subject.programs[FUSED].run = run
    subject.net.store.array[0] += 1
    wrong = infer._Predictions(subject.net, subject.data, (1, 5), 1, True, True)
    subject.programs = dict.fromkeys(subject.programs, wrong)
    with pytest.raises(WrongAnswer, match=r"^bench tiny: expected outputs within .* of the truth, got a relative error"):
        subject.check()


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


def test_memory_probe_writes_the_mean_into_others_and_in_place(cpu_isa):
    rng = np.random.default_rng(0)
    a, b, g = (rng.standard_normal(4 * peak.GROUP // 4).astype(np.float32) for _ in range(3))
    before, mean, out = (a.copy(), b.copy(), g.copy()), (a + b + g) / 3, np.zeros_like(a)
    _core.memory_probe(cpu_isa, [a, b, g], [], 3)
    assert all((now == was).all() for now, was in zip((a, b, g), before, strict=True))
    _core.memory_probe(cpu_isa, [a, b, g], [out], 2)
    np.testing.assert_allclose(out, mean, atol=1e-6)
    _core.memory_probe(cpu_isa, [a, b, g], [a, b], 1)
    np.testing.assert_allclose([a, b], [mean, mean], atol=1e-6)
    assert (g == before[2]).all()


@pytest.mark.parametrize(
    ("read", "written", "said"),
    [([], [4], "buffers to read, got none"), ([4], [5], "buffers of 16 bytes as the first has, got 20")],
)
def test_memory_probe_refuses_what_does_not_fit(read, written, said):
    with pytest.raises(ValueError, match=f"memory_probe: expected {said}"):
        _core.memory_probe("", [np.ones(n, np.float32) for n in read], [np.ones(n, np.float32) for n in written], 1)
    with pytest.raises(ValueError, match="memory_probe: expected contiguous buffers, got strides"):
        _core.memory_probe("", [np.ones(8, np.float32)[::2]], [], 1)


@pytest.mark.parametrize("mix", [kernels.Mix(), kernels.Mix(2, 1), kernels.Mix(1, 0, 3)], ids=str)
def test_streams_pass_over_so_much_memory_in_their_mix(mix, monkeypatch):
    seen = []
    monkeypatch.setattr(peak._core, "memory_probe", lambda isa, *streams: seen.append((isa, *streams)))
    streams = peak.Streams(2, mix, 1 << 20, "some")
    streams.run(7)
    assert len(seen) == 2 and {(isa, times) for isa, _, _, times in seen} == {("some", 7)}
    for _, read, written, _ in seen:
        assert (len(read), len(written)) == (mix.reads + mix.updates, mix.writes + mix.updates)
        assert sum(any(r is w for w in written) for r in read) == mix.updates
    touched = {id(a): a.nbytes for _, read, written, _ in seen for a in (*read, *written)}
    assert sum(touched.values()) == pytest.approx(1 << 20, rel=0.01)
    assert streams.bytes == sum(a.nbytes for _, read, written, _ in seen for a in (*read, *written))


def test_streams_run_where_caches_are_small_and_no_larger_than_is_useful(monkeypatch):
    streams = peak.Streams(1, kernels.Mix(1, 1), 16)
    streams.run(3)
    assert streams.bytes == 2 * peak.GROUP
    monkeypatch.setattr(peak, "LARGEST", 1 << 16)
    assert peak.Streams(2, kernels.Mix(), 1 << 40).bytes == 1 << 16


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
