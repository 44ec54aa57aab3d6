# SPDX-License-Identifier: Apache-2.0
"""The oracle against finite differences, published values and its own definitions."""

import numpy as np
import pytest

import oracle
from checks import assert_close, assert_ulps, check_gradient, rng

CONSTANTS = {"leaky_relu": (0.2,), "elu": (1.7,)}


# ------------------------------------------------------------------------------------------------ activations
@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_activation_derivative_matches_finite_difference(name):
    f, df = oracle.ACTIVATIONS[name]
    c = CONSTANTS.get(name, ())
    x = np.linspace(-20.05, 20.05, 402)  # without 0
    for xi in x:
        check_gradient(lambda v: f(v, c)[0], [xi], df([xi], c), scale=1 + abs(f(xi, c)))


def test_activations_bear_the_largest_and_smallest_numbers():
    x = np.array([-3e38, -1e30, -1e-300, 1e-300, 1e30, 3e38])
    for f, df in oracle.ACTIVATIONS.values():
        assert np.isfinite(f(x, ())).all()
        assert np.isfinite(df(x, ())).all()


def test_gelu_keeps_its_digits_in_the_left_tail():
    # Phi(-5) and Phi(-10), from tables.
    want = [-5 * 2.866515718791939e-7, -10 * 7.619853024160526e-24]
    assert_ulps(oracle.ACTIVATIONS["gelu"][0]([-5.0, -10.0], ()), want, 64)


# ---------------------------------------------------------------------------------------------------- layers
def layer_case(seed, rows=7, cols=5):
    r = rng(seed)
    x, dy = r.normal(size=(2, rows, cols))
    gamma, beta = r.normal(size=(2, cols))
    return x, dy, gamma, beta


def check_backward(forward, arguments, gradients, dy):
    """`gradients` of sum(forward(*arguments) * dy) in each argument."""
    for i, gradient in enumerate(gradients):

        def f(v, i=i):
            return (forward(*arguments[:i], v, *arguments[i + 1 :]) * dy).sum()

        check_gradient(f, arguments[i], gradient, depth=dy.size, scale=np.abs(forward(*arguments) * dy).sum())


def test_linear_backward_matches_finite_difference():
    r = rng(1)
    x, weight, bias, dy = r.normal(size=(7, 5)), r.normal(size=(5, 3)), r.normal(size=3), r.normal(size=(7, 3))
    check_backward(oracle.linear, (x, weight, bias), oracle.linear_backward(dy, x, weight), dy)


def test_batch_norm_backward_matches_finite_difference():
    x, dy, gamma, beta = layer_case(2)
    zeros = np.zeros(5)

    def forward(x, gamma, beta):
        return oracle.batch_norm(x, gamma, beta, zeros, zeros)[0]

    check_backward(forward, (x, gamma, beta), oracle.batch_norm_backward(dy, x, gamma), dy)


def test_batch_norm_evaluation_backward_matches_finite_difference():
    x, dy, gamma, beta = layer_case(3)
    mean, var = rng(4).uniform(0.5, 2, size=(2, 5))

    def forward(x, gamma, beta):
        return oracle.batch_norm_evaluation(x, gamma, beta, mean, var)

    check_backward(forward, (x, gamma, beta), oracle.batch_norm_evaluation_backward(dy, x, gamma, mean, var), dy)


def test_layer_norm_backward_matches_finite_difference():
    x, dy, gamma, beta = layer_case(5)

    def forward(x, gamma, beta):
        return oracle.layer_norm(x, gamma, beta)[0]

    check_backward(forward, (x, gamma, beta), oracle.layer_norm_backward(dy, x, gamma), dy)


# ---------------------------------------------------------------------------------------------------- philox
def test_philox_gives_the_published_answers():
    oracle.known_answers()


def test_dropout_mask_is_what_its_definition_says():
    rows, cols, p, seed, random_op, draws = 5, 21, 0.3, 0x123456789ABCDEF0, 3, 0x500000007
    mask = oracle.dropout_mask(rows, cols, p, seed, random_op, draws)
    for row, col in np.ndindex(rows, cols):
        words = oracle.philox4x32_10((col // 8, row, random_op, 7), (0x9ABCDEF0, 0x12345678))
        word = int(words[col % 8 // 2])
        assert mask[row, col] == ((word >> 16 if col % 2 else word & 0xFFFF) < 45875)


def test_dropout_mask_keeps_its_share():
    for p in (0.1, 0.5, 0.9):
        kept = oracle.dropout_mask(1000, 400, p, 1, 0, 0).mean()
        assert abs(kept - (1 - p)) < 5 * np.sqrt(p * (1 - p) / 400_000)
        assert oracle.dropout_scale(p) == pytest.approx(1 / (1 - p), rel=1e-4)
    assert oracle.dropout_mask(9, 9, 0.0, 1, 0, 0).all()
    assert (oracle.dropout_threshold(0.0), oracle.dropout_threshold(1.0)) == (65536, 1)


# ---------------------------------------------------------------------------------------------------- losses
def loss_cases():
    r = rng(9)
    rows = {"weight": r.uniform(0, 2, size=13)}
    smooth = {**rows, "class_weight": r.uniform(0.5, 2, size=5), "smoothing": 0.1}
    cross, binary = oracle.softmax_cross_entropy, oracle.binary_cross_entropy
    return [
        (cross, {"target": r.integers(0, 5, 13), **rows}),
        (cross, {"target": r.integers(0, 5, (13, 1)), **smooth}),
        (cross, {"target": r.dirichlet(np.ones(5), size=13), **smooth}),
        (oracle.squared_error, {"target": r.normal(size=(13, 5)), **rows}),
        (binary, {"target": r.integers(0, 2, (13, 5)), "class_weight": (0.7, 3.0), **rows}),
        (binary, {"target": r.uniform(size=(13, 5)), "class_weight": (0.7, 3.0)}),
    ]


@pytest.mark.parametrize(("loss", "options"), loss_cases())
def test_loss_gradient_matches_finite_difference(loss, options):
    x = rng(10).normal(scale=3, size=(13, 5))
    got = loss(x, **options)
    check_gradient(lambda v: loss(v, **options).loss_sum, x, got.dprediction, depth=x.size)


def test_integer_and_one_hot_targets_give_the_same_loss():
    r = rng(12)
    x, label, w = r.normal(size=(9, 4)), r.integers(0, 4, 9), r.uniform(0.5, 2, size=4)
    a = oracle.softmax_cross_entropy(x, label, class_weight=w, smoothing=0.1)
    b = oracle.softmax_cross_entropy(x, np.eye(4)[label], class_weight=w, smoothing=0.1)
    assert a.loss_sum == b.loss_sum
    np.testing.assert_array_equal(a.dprediction, b.dprediction)


def test_sample_weights_count_as_repeated_rows():
    r = rng(13)
    times = r.integers(0, 4, 8)
    for loss, target in (
        (oracle.softmax_cross_entropy, r.integers(0, 3, 8)),
        (oracle.squared_error, r.normal(size=(8, 3))),
        (oracle.binary_cross_entropy, r.integers(0, 2, (8, 3))),
    ):
        x = r.normal(size=(8, 3))
        weighted, repeated = loss(x, target, times), loss(x.repeat(times, axis=0), target.repeat(times, axis=0))
        assert_close(weighted.loss_sum, repeated.loss_sum, depth=24)
        assert weighted.weight_sum == repeated.weight_sum


def test_binary_cross_entropy_counts_weights_and_hits_by_hand():
    x, t = [[2.0, -1.0], [0.0, 3.0]], [[1, 0], [1, 1]]
    got = oracle.binary_cross_entropy(x, t, weight=[2.0, 1.0], class_weight=(0.5, 3.0))
    assert got.weight_sum == 2 * (3 + 0.5) / 2 + 3
    assert got.correct == 1


def test_update_scales_then_clips_then_adds_penalties():
    w = oracle.RULES["sgd"]([1.0, -2.0, 0.0], [8.0, 1.0, 0.0], {}, lr=0.5, scale=0.5, clip=2.0, l1=0.25, l2=0.5)
    np.testing.assert_array_equal(w, [1 - 0.5 * (2 + 0.5 + 0.25), -2 - 0.5 * (0.5 - 1 - 0.25), 0])


def test_grad_scale_is_one_over_the_weights_and_nothing_for_none():
    assert oracle.grad_scale(8.0) == (0.125, 0.0)
    assert oracle.grad_scale(8.0, [[24.0], [32.0]]) == (0.125, 5.0)
    assert oracle.grad_scale(0.0, [[3.0]], 1.0) == (0.0, 0.0)


def test_cosine_warms_up_in_a_line():
    rate = oracle.SCHEDULES["cosine"](1.0, 20, warmup=4)
    assert [rate(t) for t in (0, 1, 3, 4, 20, 30)] == [0.25, 0.5, 1.0, 1.0, 0.0, 0.0]


# ----------------------------------------------------------------------------------------------------- nets
def example_net(seed):
    r = rng(seed)

    def weight(n, m):
        return r.normal(scale=n**-0.5, size=(n, m))

    return oracle.OracleNet(
        [
            ("linear", weight(5, 8), r.normal(size=8)),
            ("batch_norm", r.normal(size=8), r.normal(size=8), np.zeros(8), np.ones(8)),
            ("elu", 1.3),
            ("dropout", 0.3, 0),
            ("residual", [("linear", weight(8, 6), None), "tanh"], [("linear", weight(8, 6), r.normal(size=6))]),
            ("residual", [("layer_norm", r.normal(size=6), r.normal(size=6)), "silu", ("dropout", 0.5, 1)]),
            ("linear", weight(6, 3), r.normal(size=3)),
        ]
    )


@pytest.mark.parametrize("training", [True, False])
def test_net_gradients_match_finite_differences(training):
    net = example_net(17)
    x, label = rng(18).normal(size=(9, 5)), rng(19).integers(0, 3, 9)

    def loss(net):
        return oracle.softmax_cross_entropy(net.forward(x, training, seed=3, draws=1), label)

    def loss_with(i, value):
        other = oracle.OracleNet(start.layers)
        other.parameters()[i][...] = value
        return loss(other).loss_sum

    start = oracle.OracleNet(net.layers)
    _, gradients = net.backward(loss(net).dprediction)
    assert len(gradients) == len(net.parameters()) == 11
    for i, (p, g) in enumerate(zip(net.parameters(), gradients, strict=True)):
        check_gradient(lambda v, i=i: loss_with(i, v), p, g, depth=100)


def test_net_updates_running_statistics_in_training_only():
    net = example_net(20)
    x = rng(21).normal(size=(9, 5))
    net.forward(x)
    assert (net.layers[1][4] == 1).all()
    net.forward(x, training=True)
    assert (net.layers[1][4] != 1).all()


def test_net_drops_in_training_only_and_anew_for_each_draw():
    x = rng(22).normal(size=(6, 16))
    net = oracle.OracleNet([("dropout", 0.25, 2)])
    np.testing.assert_array_equal(net.forward(x), x)
    for draws in (0, 1):
        mask = oracle.dropout_mask(6, 16, 0.25, 5, 2, draws)
        y = net.forward(x, training=True, seed=5, draws=draws)
        np.testing.assert_array_equal(y, np.where(mask, x * (4 / 3), 0))
