# SPDX-License-Identifier: Apache-2.0
"""The kernels behind the seam: grad_scale, update (every rule) and tick."""

import numpy as np
import pytest

import oracle
from cases import counters, metrics
from checks import assert_close, rng
from dlcore import _core
from instructions import assert_same_bits, run_kernel

STEPS = 25
SIZES = (1, 7, 8, 31, 8191, 8192, 8193, 20011)  # elements; around the blocks of the kernel
RULES = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9},
    "adagrad": {"eps": 1e-10},
    "rmsprop": {"beta2": 0.99, "eps": 1e-8},
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "adamw": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": 0.02},
}


def hyper_row(t, lr, momentum=0.0, beta1=0.0, beta2=0.0, **named):
    """The table's row of update t = 1, 2, ... of one group."""
    row = np.zeros(_core.HYPER)
    values = {"lr": lr, "momentum": momentum or beta1, "beta2": beta2, **named}
    values |= {"correction1": 1 - beta1**t, "correction2": 1 - beta2**t}
    for name, value in values.items():
        row[_core.HYPER_INDEX[name]] = value
    return row


def update_numbers(backend, rule, segments, clip=0.0, clear=0, groups=1):
    """segments: (offset, size, group, decay)."""
    numbers = [0.0] * _core.UPDATE_FIRST
    values = {"rule": backend.rules[rule][0], "clip": clip, "clear": clear, "groups": groups, "segments": len(segments)}
    for name, value in values.items():
        numbers[_core.UPDATE[name]] = value
    for segment in segments:
        entry = [0.0] * len(_core.SEGMENT)
        for name, value in zip(("offset", "size", "group", "decay"), segment, strict=True):
            entry[_core.SEGMENT[name]] = value
        numbers += entry
    return numbers


def states(backend, rule, size, real):
    count = backend.rules[rule][1]
    return [np.zeros((1, size), real) if i < count else None for i in range(2)]


def run_update(backend, w, g, arrays, scale, hyper, update, numbers):
    run_kernel(backend, "update", [w, g, *arrays, np.array([[scale, 0.0]]), hyper, counters(updates=update), None, None], 0, 0,
               numbers=numbers)  # fmt: skip


# ------------------------------------------------------------------------------------------------------ update
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rule", RULES)
def test_rule_matches_oracle_for_25_steps(backend, real, rule, size):
    r = rng(1)
    w = r.normal(size=(1, size)).astype(real)
    want, state, arrays = w.astype(np.float64), {}, states(backend, rule, size, real)
    lr = 0.01 if rule != "adagrad" else 0.1
    hyper = np.stack([hyper_row(t, lr, **RULES[rule]) for t in range(1, STEPS + 1)])
    numbers = update_numbers(backend, rule, [(0, size, 0, 1)])
    for t in range(STEPS):
        g = (3 * r.normal(size=(1, size))).astype(real)
        want = oracle.RULES[rule](want, g, state, lr=lr, scale=0.25, **RULES[rule])
        run_update(backend, w, g, arrays, 0.25, hyper, t, numbers)
    assert_close(w, want, depth=STEPS, scale=np.abs(want).max())


def test_every_rule_is_tested(backend):
    assert set(RULES) == set(backend.rules) == set(oracle.RULES)


def test_penalties_clip_and_decay_match_oracle(backend, real):
    r = rng(2)
    w, g = (r.normal(size=(1, 1000)).astype(real) for _ in range(2))
    w[0, :10] = 0
    hyper = np.stack([hyper_row(1, 0.1, l1=0.03, l2=0.2, decay=0.5)])
    for decays in (0, 1):
        got = w.copy()
        numbers = update_numbers(backend, "sgd", [(0, 1000, 0, decays)], clip=0.6)
        run_update(backend, got, g, [None, None], 0.9, hyper, 0, numbers)
        want = oracle.RULES["sgd"](w, g, {}, lr=0.1, scale=0.9, clip=0.6, l1=0.03 * decays, l2=0.2 * decays,
                                   decay=0.5 * decays)  # fmt: skip
        assert_close(got, want, depth=8, scale=np.abs(w) + 0.1)


def test_update_takes_each_segment_with_its_group(backend, real):
    r = rng(3)
    w, g = (r.normal(size=(1, 9001)).astype(real) for _ in range(2))
    rows = [np.concatenate([hyper_row(1, lr, l2=l2) for lr, l2 in pairs]) for pairs in
            (((9, 9), (9, 9)), ((0.1, 0.3), (0.02, 0.7)))]  # fmt: skip
    segments = [(3, 8500, 1, 1), (8600, 1, 0, 1), (8700, 300, 0, 0)]
    got = w.copy()
    run_update(backend, got, g, [None, None], 1.0, np.stack(rows), 1, update_numbers(backend, "sgd", segments, groups=2))
    want = w.astype(np.float64)
    for (offset, size, _, _), lr, l2 in zip(segments, (0.02, 0.1, 0.1), (0.7, 0.3, 0), strict=True):
        part = slice(offset, offset + size)
        want[:, part] = oracle.RULES["sgd"](w[:, part], g[:, part], {}, lr=lr, l2=l2)
    assert_close(got, want, depth=4, scale=np.abs(w) + np.abs(g))
    outside = np.ones(9001, bool)
    for offset, size, _, _ in segments:
        outside[offset : offset + size] = False
    assert_same_bits(got[:, outside], w[:, outside])


@pytest.mark.parametrize("sizes", [(70_001, 5, 64, 200_003, 129), (9000,) * 20, (1,) * 9000, (40_000,)])
def test_update_reaches_every_element_of_its_segments_once(cpu_isa, real, sizes):
    backend = _core.Backend(cpu_isa, real)
    offsets = np.cumsum([0, *(size + 3 for size in sizes)])
    w, g = np.zeros((1, offsets[-1]), real), np.ones((1, offsets[-1]), real)
    numbers = update_numbers(backend, "sgd", [(at, size, 0, 0) for at, size in zip(offsets, sizes)])
    operands = [w, g, None, None, np.array([[1.0, 0.0]]), hyper_row(1, 1.0)[None], counters(), None, None]
    run_kernel(backend, "update", operands, 0, 0, numbers=numbers, threads=(1, 2, 3, 7))
    want = np.zeros_like(w)
    for at, size in zip(offsets, sizes):
        want[0, at : at + size] = -1
    assert_same_bits(w, want)


@pytest.mark.parametrize("count", [1, 31, 32, 33, 1025])
def test_update_finds_each_of_many_segments(other_device, count):
    backend, sizes = _core.Backend(other_device), np.resize((3, 0, 1030, 1, 0, 0, 8), count)
    offsets = np.cumsum([0, *(sizes + 1)])
    w, g = np.zeros((1, offsets[-1]), np.float32), np.ones((1, offsets[-1]), np.float32)
    groups = np.arange(count) % 3
    numbers = update_numbers(backend, "sgd", list(zip(offsets, sizes, groups, groups * 0)), groups=3)
    hyper = np.concatenate([hyper_row(1, lr) for lr in (1, 2, 3)])[None]
    run_update(backend, w, g, [None, None], 1.0, hyper, 0, numbers)
    want = np.zeros_like(w)
    for at, size, group in zip(offsets, sizes, groups):
        want[0, at : at + size] = -1 - group
    assert_same_bits(w, want)


def test_update_clears_the_gradient_only_when_asked(backend, real):
    w, g = np.ones((1, 100), real), np.ones((1, 100), real)
    for clear in (0, 1):
        numbers = update_numbers(backend, "sgd", [(10, 50, 0, 0)], clear=clear)
        run_update(backend, w, g, [None, None], 1.0, np.stack([hyper_row(1, 0.1)]), 0, numbers)
        assert (g[0, 10:60] == 1 - clear).all()
    assert (g[0, :10] == 1).all()
    assert (g[0, 60:] == 1).all()


@pytest.mark.parametrize(("updates", "row"), [(-1, 0), (-(2**63), 0), (3, 2), (2**63 - 1, 2)])
def test_tables_are_read_and_written_inside_only(backend, real, updates, row):
    """The count of updates comes from memory that may hold anything; the nearest row that exists is taken."""
    w, g, results = np.ones((1, 3), real), np.ones((1, 3), real), np.full((3, _core.RESULTS), -1.0)
    hyper = np.stack([hyper_row(1, lr) for lr in (0.5, 0.25, 0.125)])
    run_update(backend, w, g, [None, None], 1.0, hyper, updates, update_numbers(backend, "sgd", [(0, 3, 0, 0)]))
    assert (w == 1 - hyper[row, _core.HYPER_INDEX["lr"]]).all()
    run_kernel(backend, "tick", [counters(updates=updates), metrics(loss=3), None, results, None], 0, 0, numbers=[0, 0, 0])
    assert results[row, _core.RESULT["loss"]] == 3
    assert (np.delete(results, row, axis=0) == -1).all()


@pytest.mark.parametrize("rule", RULES)
def test_update_passes_a_nan_on_and_only_to_its_element(backend, real, rule):
    w, g = np.ones((1, 40), real), np.ones((1, 40), real)
    g[0, 17] = np.nan
    hyper = np.stack([hyper_row(1, 0.1, **RULES[rule])])
    numbers = update_numbers(backend, rule, [(0, 40, 0, 1)], clip=0.5)
    run_update(backend, w, g, states(backend, rule, 40, real), 1.0, hyper, 0, numbers)
    assert np.isnan(w[0]).tolist() == [i == 17 for i in range(40)]


def test_update_of_a_gradient_of_zero_is_no_nan(backend, real):
    for rule in RULES:
        w, g = np.ones((1, 40), real), np.zeros((1, 40), real)
        hyper = np.stack([hyper_row(1, 0.1, **RULES[rule] | {"decay": 0.0})])
        numbers = update_numbers(backend, rule, [(0, 40, 0, 1)])
        run_update(backend, w, g, states(backend, rule, 40, real), 1.0, hyper, 0, numbers)
        assert (w == 1).all()


# -------------------------------------------------------------------------------------------------- grad_scale
def grad_scale(backend, weight, gradients, max_norm):
    out = np.full((1, 2), np.nan)
    run_kernel(backend, "grad_scale", [metrics(weight=weight), gradients, out, None], 0, 0, numbers=[max_norm])
    return out[0]


def test_grad_scale_matches_oracle(backend, real):
    for size in SIZES:
        g = rng(4).normal(size=(1, size)).astype(real)
        norm = np.sqrt(np.square(g.astype(np.float64)).sum()) / 32
        for max_norm in (0, norm / 2, 2 * norm):
            want = oracle.grad_scale(32.0, [g], max_norm or None)
            assert_close(grad_scale(backend, 32.0, g, max_norm), want, depth=size + 4, scale=np.abs(want))


def test_grad_scale_without_gradients_or_rows(backend, real):
    assert grad_scale(backend, 8.0, None, 1.0).tolist() == [0.125, 0]
    assert grad_scale(backend, 0.0, np.ones((1, 9), real), 1.0).tolist() == [0, 0]


def test_grad_scale_does_not_overflow_in_squares(backend, real):
    g = np.full((1, 100), 1e30, real)
    scale, norm = grad_scale(backend, 1.0, g, 0)
    assert scale == 1
    assert abs(norm / 1e31 - 1) < 1e-6


# -------------------------------------------------------------------------------------------------------- tick
def test_tick_advances_the_counters_and_moves_the_metrics(backend):
    count, table = counters(draws=5, updates=2, position=70, seed=11), metrics(loss=3, weight=2, correct=1, rows=4)
    results = np.full((4, _core.RESULTS), -1.0)
    run_kernel(backend, "tick", [count, table, np.array([[0.5, 0.25]]), results, None], 0, 0, numbers=[1, 1, 32])
    assert_same_bits(count, counters(draws=6, updates=3, position=102, seed=11))
    assert not table.any()
    row = results[2]
    assert [row[_core.RESULT[n]] for n in ("loss", "weight", "correct", "rows", "norm")] == [3, 2, 1, 4, 0.25]
    assert (np.delete(results, 2, axis=0) == -1).all()


def test_tick_between_micro_batches_keeps_the_metrics(backend):
    count, table = counters(draws=5), metrics(loss=3, weight=2)
    run_kernel(backend, "tick", [count, table, None, None, None], 0, 0, numbers=[1, 0, 16])
    assert_same_bits(count, counters(draws=6, position=16))
    assert_same_bits(table, metrics(loss=3, weight=2))
