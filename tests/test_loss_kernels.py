# SPDX-License-Identifier: Apache-2.0
"""Softmax, cross-entropy and the elementwise losses: values, gradients and metrics against the oracle."""

import numpy as np
import pytest

import oracle
from cases import metrics
from checks import assert_close, rng, shapes
from dlcore import _core
from instructions import assert_same_bits, run_kernel, stage

SHAPES = [*shapes(2), (3, 3000)]


def normal(r, rows, cols, real, spread=1.0):
    return (spread * r.normal(size=(rows, cols))).astype(real)


def read(table, name):
    return table[0, _core.METRIC[name]]


def assert_metrics(got, want, rows, real, depth, loss_scale, weight_scale):
    """Sums over rows are in double; what a row adds is in real."""
    for name, value, scale in (("loss", want.loss_sum, loss_scale), ("weight", want.weight_sum, weight_scale)):
        assert_close(np.dtype(real).type(read(got, name)), value, depth=depth, scale=scale)
    assert read(got, "rows") == rows


# ----------------------------------------------------------------------------------------------------- softmax
def test_softmax_matches_oracle(backend, real):
    r = rng(1)
    for rows, cols in SHAPES:
        x, y = normal(r, rows, cols, real, 5), np.empty((rows, cols), real)
        run_kernel(backend, "softmax", [x], rows, cols, [stage("store", out=y)])
        want = oracle.softmax(x)
        distance = x.max(axis=1, keepdims=True) - x.astype(np.float64)
        assert_close(y, want, depth=cols, scale=want * (2 + distance), ulps=2)


def test_softmax_bears_what_overflows_exp(backend, real):
    x = np.array([[1e30, 0, -1e30], [-1e30, -1e30, -1e30], [5e4, 5e4, 0], [-np.inf, 0, 0]], real)
    y = np.empty_like(x)
    run_kernel(backend, "softmax", [x], 4, 3, [stage("store", out=y)])
    assert_close(y, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0], [0, 0.5, 0.5]], depth=3)


def test_softmax_keeps_nan_in_its_row(backend, real):
    x = normal(rng(2), 66, 33, real)
    x[65, 32] = np.nan
    y = np.empty_like(x)
    run_kernel(backend, "softmax", [x], 66, 33, [stage("store", out=y)])
    assert np.isnan(y).all(axis=1).tolist() == np.isnan(y).any(axis=1).tolist() == [row == 65 for row in range(66)]


# ----------------------------------------------------------------------------------------------- cross-entropy
@pytest.mark.parametrize("cols", [300, 320])
def test_softmax_may_overwrite_what_enters(backend, real, cols):
    x = normal(rng(10), 70, cols, real)
    y = np.empty_like(x)
    for out in (y, x):
        run_kernel(backend, "softmax", [x], 70, cols, [stage("store", out=out)])
    assert_same_bits(x, y)


def test_softmax_of_logits_far_below_is_small_or_nothing(backend, real):
    # cols of 64: exponentials go where the result is stored
    x = -rng(11).uniform(80, 110, (9, 64)).astype(real)
    x[:, 0] = 0
    y = np.empty_like(x)
    run_kernel(backend, "softmax", [x], 9, 64, [stage("store", out=y)])
    want, normal_numbers = oracle.softmax(x), x > -87
    assert_close(y[normal_numbers], want[normal_numbers], scale=want[normal_numbers], depth=1, ulps=2)
    assert ((y[~normal_numbers] >= 0) & (y[~normal_numbers] <= 2 * want[~normal_numbers])).all()


def targets(r, rows, cols, real):
    """Labels, one-hot rows and probabilities."""
    labels = r.integers(0, cols, size=(rows, 1)).astype(np.int32)
    soft = r.uniform(size=(rows, cols)) ** 4
    return labels, np.eye(cols, dtype=real)[labels[:, 0]], (soft / soft.sum(axis=1, keepdims=True)).astype(real)


def check_cross_entropy(backend, x, target, weight, class_weight, smoothing):
    rows, cols = x.shape
    got, gradient = metrics(), np.full_like(x, np.nan)
    run_kernel(backend, "softmax_cross_entropy", [x, target, weight, class_weight, got], rows, cols,
               [stage("store", out=gradient)], [smoothing, 1])  # fmt: skip
    want = oracle.softmax_cross_entropy(x, target, weight, class_weight, smoothing)
    sample = np.ones((rows, 1)) if weight is None else weight.astype(np.float64)
    w = np.ones((1, cols)) if class_weight is None else class_weight.astype(np.float64)
    t = np.eye(cols)[target[:, 0]] if target.dtype == np.int32 else target.astype(np.float64)
    q = w * ((1 - smoothing) * t + smoothing / cols)
    distance = x.max(axis=1, keepdims=True) - x.astype(np.float64)
    terms = sample * q * (distance + np.log(cols) + 1)
    assert_metrics(got, want, rows, x.dtype, cols + 8, terms.sum(), want.weight_sum)
    assert read(got, "correct") == want.correct
    softmax = oracle.softmax(x)
    size = sample * (q.sum(axis=1, keepdims=True) * softmax * (2 + distance) + q)
    assert_close(gradient, want.dprediction, depth=cols + 8, scale=size, ulps=2)


def test_cross_entropy_matches_oracle(backend, real):
    r = rng(3)
    for rows, cols in SHAPES:
        x = normal(r, rows, cols, real, 3)
        weight, class_weight = r.uniform(0, 2, (rows, 1)).astype(real), r.uniform(0.1, 2, (1, cols)).astype(real)
        for target in targets(r, rows, cols, real):
            check_cross_entropy(backend, x, target, None, None, 0.0)
            check_cross_entropy(backend, x, target, weight, class_weight, 0.1)


@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", ["", "rows", "classes", "rows classes"])
def test_cross_entropy_options_match_oracle(backend, real, weighted, smoothing):
    r = rng(4)
    x = normal(r, 67, 11, real, 3)
    weight = r.uniform(0, 2, (67, 1)).astype(real) if "rows" in weighted else None
    class_weight = r.uniform(0.1, 2, (1, 11)).astype(real) if "classes" in weighted else None
    for target in targets(r, 67, 11, real):
        check_cross_entropy(backend, x, target, weight, class_weight, smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("label", [-1, 7, 2**31 - 1, -(2**31)])
def test_cross_entropy_of_a_label_out_of_range_weighs_nothing(backend, real, label, smoothing):
    r = rng(8)
    x, class_weight = normal(r, 70, 7, real), r.uniform(0.1, 2, (1, 7)).astype(real)
    target, weight = r.integers(0, 7, size=(70, 1)).astype(np.int32), np.ones((70, 1), real)
    want, got, gradients = metrics(), metrics(), np.empty((2, 70, 7), real)
    weight[66] = 0
    target[66] = x[66].argmin()  # not correct
    run_kernel(backend, "softmax_cross_entropy", [x, target, weight, class_weight, want], 70, 7,
               [stage("store", out=gradients[0])], [smoothing, 1])  # fmt: skip
    target[66], weight[66] = label, 1
    run_kernel(backend, "softmax_cross_entropy", [x, target, weight, class_weight, got], 70, 7,
               [stage("store", out=gradients[1])], [smoothing, 1])  # fmt: skip
    assert_same_bits(got, want)
    assert (gradients[1] == gradients[0]).all()
    assert not gradients[1, 66].any()


def test_cross_entropy_counts_the_first_of_equal_logits(backend, real):
    x = np.array([[1, 1, 0], [1, 1, 0], [0, 2, 2]], real)
    for target, correct in (([0, 0, 1], 3), ([1, 0, 2], 1), ([1, 1, 2], 0)):
        found = metrics()
        label = np.array(target, np.int32)[:, None]
        run_kernel(backend, "softmax_cross_entropy", [x, label, None, None, found], 3, 3, numbers=[0, 0])
        assert read(found, "correct") == correct


def test_cross_entropy_of_a_sure_answer_is_exact(backend, real):
    x = np.array([[0, 200, 0], [200, 0, 0]], real)
    label = np.array([[1], [1]], np.int32)
    found, gradient = metrics(), np.empty_like(x)
    run_kernel(backend, "softmax_cross_entropy", [x, label, None, None, found], 2, 3, [stage("store", out=gradient)],
               [0, 1])  # fmt: skip
    assert read(found, "loss") == 200
    assert_close(gradient, [[0, 0, 0], [1, -1, 0]], scale=1)


# ----------------------------------------------------------------------------------------- elementwise losses
def check_loss(backend, name, p, t, weight, classes=(1.0, 1.0), depth=8):
    rows, cols = p.shape
    got, gradient = metrics(), np.full_like(p, np.nan)
    run_kernel(backend, "loss", [p, t, weight, got], rows, cols, [stage("store", out=gradient)],
               [backend.losses[name], 1, *classes])  # fmt: skip
    options = {"class_weight": classes} if name == "binary_cross_entropy" else {}
    want = oracle.LOSSES[name](p, t, weight, **options)
    sample = np.ones((rows, 1)) if weight is None else weight.astype(np.float64)
    pw, tw = p.astype(np.float64), t.astype(np.float64)
    if name == "squared_error":
        size, slope = np.square(np.abs(pw) + np.abs(tw)), 2 * (np.abs(pw) + np.abs(tw))
    else:
        size, slope = max(classes) * (np.abs(pw) + 1), max(classes) * (1 + np.abs(tw))
    weights = (sample * max(classes)).sum()
    assert_metrics(got, want, rows, p.dtype, cols + depth, (sample * size).sum() / cols, weights)
    assert_close(gradient, want.dprediction, depth=depth, scale=sample * slope / cols)
    return got, want


def test_squared_error_matches_oracle(backend, real):
    r = rng(5)
    for rows, cols in SHAPES:
        p, t = normal(r, rows, cols, real), normal(r, rows, cols, real)
        for weight in (None, r.uniform(0, 2, (rows, 1)).astype(real)):
            got, _ = check_loss(backend, "squared_error", p, t, weight)
            assert read(got, "correct") == 0


@pytest.mark.parametrize("soft", [False, True], ids=["labels", "probabilities"])
def test_binary_cross_entropy_matches_oracle(backend, real, soft):
    r = rng(6)
    for rows, cols in SHAPES:
        p, t = normal(r, rows, cols, real, 4), r.uniform(size=(rows, cols)).astype(real)
        t = t if soft else np.round(t)
        weight = r.uniform(0, 2, (rows, 1)).astype(real)
        for given, classes in ((None, (1.0, 1.0)), (weight, (0.5, 2.0))):
            got, want = check_loss(backend, "binary_cross_entropy", p, t, given, classes)
            assert read(got, "correct") == want.correct


def test_binary_cross_entropy_bears_large_logits(backend, real):
    p, t = np.array([[1e4, -1e4, 1e4, -1e4]], real), np.array([[1, 0, 0, 1]], real)
    got, gradient = metrics(), np.empty_like(p)
    run_kernel(backend, "loss", [p, t, None, got], 1, 4, [stage("store", out=gradient)],
               [backend.losses["binary_cross_entropy"], 1, 1, 1])  # fmt: skip
    assert read(got, "loss") == 5000
    assert gradient.tolist() == [[0, 0, 0.25, -0.25]]


# ------------------------------------------------------------------------------------------------------ common
def loss_case(backend, name, rows, cols, real):
    r = rng(7)
    x, weight = normal(r, rows, cols, real), r.uniform(0, 2, (rows, 1)).astype(real)
    if name == "softmax_cross_entropy":
        label = r.integers(0, cols, size=(rows, 1)).astype(np.int32)
        return "softmax_cross_entropy", [x, label, weight, None], (0.1,)
    t = r.integers(0, 2, size=(rows, cols)).astype(real)
    return "loss", [x, t, weight], (backend.losses[name],)


@pytest.mark.parametrize("name", oracle.LOSSES)
def test_loss_adds_to_the_metrics(backend, real, name):
    kernel, operands, (first,) = loss_case(backend, name, 130, 7, real)
    rest = () if kernel == "softmax_cross_entropy" else (1, 1)
    once, twice = metrics(), metrics()
    run_kernel(backend, kernel, [*operands, once], 130, 7, numbers=[first, 0, *rest])
    for _ in range(2):
        run_kernel(backend, kernel, [*operands, twice], 130, 7, numbers=[first, 0, *rest])
    assert once[0, [_core.METRIC[n] for n in ("loss", "weight", "rows")]].all()
    assert_close(twice, 2 * once, depth=4, scale=once)


@pytest.mark.parametrize(("rows", "cols"), [(64, 1), (4200, 2), (33000, 1), (4200, 129)])
def test_metrics_are_summed_in_one_order_on_every_device(other_device, rows, cols):
    """Rows within a chunk, then chunks; what a row adds has the same bits, as one column of it is not zero."""
    r, found = rng(9), []
    p, t = np.zeros((2, rows, cols), np.float32)
    p[:, 0] = r.normal(size=rows)
    weight, before = r.uniform(0, 2, (rows, 1)).astype(np.float32), r.normal(size=_core.METRICS)
    for isa in (other_device, _core.cpu_info()["available"][-1]):
        backend, table = _core.Backend(isa), metrics()
        table[0] = before
        run_kernel(backend, "loss", [p, t, weight, table], rows, cols, numbers=[backend.losses["squared_error"], 0, 1, 1])
        found.append(table)
    assert_same_bits(*found)


@pytest.mark.parametrize("cols", [5, 64])
@pytest.mark.parametrize("name", oracle.LOSSES)
def test_loss_without_gradient_leaves_the_chain_alone(backend, real, name, cols):
    kernel, operands, (first,) = loss_case(backend, name, 65, cols, real)
    rest = () if kernel == "softmax_cross_entropy" else (1, 1)
    found, gradient = [metrics(), metrics()], np.full((65, cols), 7, real)
    for i, table in enumerate(found):
        run_kernel(backend, kernel, [*operands, table], 65, cols, [stage("store", out=gradient)] * i,
                   [first, 0, *rest])  # fmt: skip
    assert (gradient == 7).all()
    assert_same_bits(*found)


@pytest.mark.parametrize("cols", [300, 320])
@pytest.mark.parametrize("name", oracle.LOSSES)
def test_loss_may_overwrite_its_prediction(backend, real, name, cols):
    kernel, operands, (first,) = loss_case(backend, name, 130, cols, real)
    rest = () if kernel == "softmax_cross_entropy" else (1, 1)
    want = np.empty((130, cols), real)
    for out in (want, operands[0]):
        run_kernel(backend, kernel, [*operands, metrics()], 130, cols, [stage("store", out=out)], [first, 1, *rest])
    assert_same_bits(operands[0], want)
