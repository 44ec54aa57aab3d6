# SPDX-License-Identifier: Apache-2.0
"""Every layer through one check: shapes, oracle, gradients, fused equals unfused, both modes, save and load."""

import numpy as np
import pytest

import dlcore as dl
import oracle
from checks import assert_close, check_gradient, rng

MODES = [(False, False), (True, False), (False, True), (True, True)]  # fuse, record


def describe(layer):
    """A layer in the oracle's words; random ops are numbered by the net."""
    if isinstance(layer, dl.Sequential):
        return [d for child in layer.layers for d in describe(child)]
    if isinstance(layer, dl.Linear):
        return [("linear", layer.weight.value, None if layer.bias is None else layer.bias.value)]
    if isinstance(layer, dl.BatchNorm):
        state = (layer.running_mean.value, layer.running_var.value)
        return [("batch_norm", layer.weight.value, layer.bias.value, *state, layer.momentum, layer.eps)]
    if isinstance(layer, dl.LayerNorm):
        return [("layer_norm", layer.weight.value, layer.bias.value, layer.eps)]
    if isinstance(layer, dl.Residual):
        shortcut = [] if layer.projection is None else [describe(layer.projection)]
        return [("residual", describe(layer.body), *shortcut)]
    if isinstance(layer, dl.Identity) or (isinstance(layer, dl.Dropout) and layer.p == 0):
        return [("identity",)]
    return [(layer.function, *layer.constants)]


def check_layer(make, rows=37, cols=12, training=True):
    """The whole test of a layer without randomness."""
    generator = rng(1)
    x = generator.normal(size=(rows, cols))
    layer = make()
    for _, p in layer.named_parameters():
        if not p.state:
            p.value = generator.normal(size=p.shape)
    net = oracle.OracleNet(describe(layer))
    want = net.forward(x, training=training)
    dy = generator.normal(size=want.shape)
    want_dx, want_gradients = net.backward(dy)
    y, pull = dl.vjp(layer, x, training=training)
    dx, gradients = pull(dy)
    depth = 64 * max(cols, rows)
    assert_close(y, want, depth=depth)
    assert_close(dx, want_dx, depth=depth, scale=np.abs(want_dx).max() + 1)
    for (name, got), expected in zip(gradients.items(), want_gradients, strict=True):
        (
            assert_close(got, np.reshape(expected, got.shape), depth=depth, scale=np.abs(want_dx).max() * np.sqrt(rows) + 1),
            name,
        )

    def loss(v):
        return float((dl.vjp(layer, v.reshape(x.shape), training=training)[0] * dy).sum())

    check_gradient(loss, x.ravel(), dx.ravel(), depth=depth, samples=24)
    check_training_is_the_same_fused_and_unfused(make, rows, cols)
    check_save_and_load(make, cols)


def widened(make, cols):
    """A net around the layer."""
    layer = make()
    out = dl.Net(layer if layer.width() else dl.Sequential(dl.Linear(cols, cols), layer)).out_features
    return lambda threads: dl.Net(dl.Sequential(dl.Linear(cols, cols), make(), dl.Linear(out, 3)), seed=5, threads=threads)


def check_training_is_the_same_fused_and_unfused(make, rows, cols):
    generator = rng(2)
    x, y = generator.normal(size=(rows, cols)).astype(np.float32), generator.integers(0, 3, rows)
    build, seen = widened(make, cols), set()
    for threads in (1, 2):
        for fuse, record in MODES:
            net = build(threads)
            step = net.compile(dl.SoftmaxCrossEntropy(), dl.Adam(0.01), rows, fuse=fuse, record=record)
            losses = [step(x, y) for _ in range(4)]
            seen.add((tuple(losses), net.store.array.tobytes()))
    assert len(seen) == 1
    assert losses[-1] < losses[0]


def check_save_and_load(make, cols):
    import tempfile
    from pathlib import Path

    net = widened(make, cols)(1)
    x = rng(3).normal(size=(5, cols)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        net.save(Path(folder) / "net.npz")
        again = dl.load(Path(folder) / "net.npz")
    assert repr(again.layer) == repr(net.layer)
    assert again.predict(x).tobytes() == net.predict(x).tobytes()


LAYERS = {
    "linear": lambda: dl.Linear(12, 9),
    "linear_without_bias": lambda: dl.Linear(12, 9, bias=False),
    "identity": dl.Identity,
    "relu": dl.ReLU,
    "leaky_relu": lambda: dl.LeakyReLU(0.2),
    "elu": lambda: dl.ELU(0.7),
    "sigmoid": dl.Sigmoid,
    "tanh": dl.Tanh,
    "gelu": dl.GELU,
    "gelu_tanh": lambda: dl.GELU("tanh"),
    "silu": dl.SiLU,
    "softplus": dl.Softplus,
    "batch_norm": lambda: dl.BatchNorm(12),
    "layer_norm": lambda: dl.LayerNorm(12),
    "residual": lambda: dl.Residual(dl.Sequential(dl.Linear(12, 12), dl.Tanh())),
    "residual_projection": lambda: dl.Residual(dl.Sequential(dl.Linear(12, 8), dl.Tanh()), dl.Linear(12, 8)),
    "nested": lambda: dl.Sequential(
        dl.Residual(dl.Sequential(dl.Linear(12, 12), dl.BatchNorm(12), dl.SiLU(), dl.Residual(dl.Linear(12, 12)))),
        dl.LayerNorm(12),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    check_layer(LAYERS[name])


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "nested"])
def test_layer_in_evaluation_mode(name):
    check_layer(LAYERS[name], training=False)


@pytest.mark.parametrize("rows", [1, 64, 65, 129])
def test_layers_at_the_edges_of_row_chunks(rows):
    check_layer(LAYERS["residual"], rows=rows)


def test_dropout_masks_are_the_oracles_whatever_the_fusion_and_threads():
    x = rng(0).normal(size=(130, 20)).astype(np.float32)
    y, pull = dl.vjp(dl.Sequential(dl.Dropout(0.3), dl.Dropout(0.6)), x, training=True, seed=7)
    keep = [oracle.dropout_mask(130, 20, p, 7, i, 0) for i, p in enumerate((0.3, 0.6))]
    want = oracle.dropout(oracle.dropout(x, keep[0], 0.3), keep[1], 0.6)
    assert_close(y, want, depth=2)
    assert_close(pull(np.ones_like(x))[0], (want != 0) * oracle.dropout_scale(0.3) * oracle.dropout_scale(0.6), depth=2)


def test_gradients_can_be_pulled_many_times():
    layer = dl.Sequential(dl.Linear(6, 9), dl.SiLU(), dl.LayerNorm(9), dl.Linear(9, 9), dl.GELU(), dl.Linear(9, 4))
    x = rng(2).normal(size=(70, 6)).astype(np.float32)
    y, pull = dl.vjp(layer, x)
    first, other = pull(np.ones_like(y)), pull(2 * np.ones_like(y))
    again = pull(np.ones_like(y))
    assert first[0].tobytes() == again[0].tobytes()
    assert all(first[1][n].tobytes() == again[1][n].tobytes() for n in first[1])
    assert_close(other[0], 2 * first[0].astype(np.float64), depth=1)


def test_dropout_is_the_identity_at_evaluation():
    x = rng(0).normal(size=(4, 5)).astype(np.float32)
    assert dl.vjp(dl.Dropout(0.9), x)[0].tobytes() == x.tobytes()


def test_batch_norm_keeps_pytorchs_running_statistics():
    x = rng(0).normal(2.0, 3.0, size=(50, 4))
    layer = dl.BatchNorm(4, momentum=0.25)
    dl.vjp(layer, x, training=True)
    assert_close(layer.running_mean.value, 0.25 * x.mean(axis=0), depth=50)
    assert_close(layer.running_var.value, 0.75 + 0.25 * x.var(axis=0, ddof=1), depth=50)


def test_layer_errors_name_the_path_and_both_widths():
    with pytest.raises(ValueError, match=r"\[1\]\.body\[0\] Linear\(5, 4\): expected 5 input columns, got \(2, 4\)"):
        dl.Net([dl.Linear(3, 4), dl.Residual(dl.Sequential(dl.Linear(5, 4)))])


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: dl.Linear(0, 3), "in_features: expected an integer >= 1, got 0"),
        (lambda: dl.Linear(3, True), "out_features: expected an integer >= 1, got True"),
        (lambda: dl.Linear(3, 2, init="kaiming_unifrom"), "did you mean 'kaiming_uniform'"),
        (lambda: dl.Dropout(1.0), r"expected p in \[0, 1\), got 1.0"),
        (lambda: dl.Dropout(float("nan")), "finite"),
        (lambda: dl.LeakyReLU("a"), "finite number"),
        (lambda: dl.GELU("exact"), "'none' or 'tanh'"),
        (lambda: dl.Sequential(dl.ReLU(), 3), "expected layers, got 3 at position 1"),
        (lambda: dl.Net([dl.ReLU()]), "fixes the input width"),
        (lambda: dl.Net([dl.Linear(2, 2)] * 2), "every layer once"),
    ],
)
def test_layers_refuse_bad_arguments(make, text):
    with pytest.raises((ValueError, TypeError), match=text):
        make()


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (np.ones(3), r"float64 array of shape \(3,\)"),
        (np.ones((3, 4)), r"float64 array of shape \(3, 4\)"),
        (None, "None"),
        (np.full((4, 3), "a"), "<U1 array"),
    ],
)
def test_initialisations_of_another_shape_are_refused(value, got):
    first, second = dl.Linear(4, 4), dl.Linear(4, 3, init=lambda shape, rng: value)
    with pytest.raises(ValueError, match=rf"^1.weight: init: expected numbers of shape \(4, 3\), got {got}"):
        dl.Net([first, second])
    with pytest.raises(ValueError, match=rf"init: expected numbers of shape \(4, 3\), got {got}"):
        dl.Linear(4, 3, init=lambda shape, rng: value)(np.ones((2, 4)))
    dl.Net([first])  # which the net that was refused has left free


X, Y = np.ones((5, 3)), np.arange(5) % 3
CROSS_ENTROPY, SQUARED_ERROR = dl.SoftmaxCrossEntropy(), dl.MeanSquaredError()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: dl.vjp(5, X), "vjp: expected a layer or a loss, got 5"),
        (lambda: dl.vjp(dl.Tanh, X), r"vjp: .*, got the class Tanh; call it: Tanh\(\)"),
        (lambda: dl.vjp(dl.MeanSquaredError, X, X), r"vjp: .*, got the class MeanSquaredError; call it"),
        (lambda: dl.vjp(dl.Tanh(), X, X), "vjp: expected one input for a layer, got 2 inputs"),
        (lambda: dl.vjp(CROSS_ENTROPY, X), "vjp: expected prediction, target and optional weights for a loss, got 1"),
        (lambda: dl.vjp(dl.Tanh(), [[1.0], [2.0, 3.0]]), "vjp: input 0: expected an array of numbers"),
        (lambda: dl.vjp(dl.Dropout(), X, training=True, seed="a"), "vjp: expected seed to be an integer in .*, got 'a'"),
        (lambda: dl.vjp(dl.Dropout(), X, training=True, seed=2**64), "vjp: expected seed to be an integer in .*, got 184"),
        (lambda: dl.vjp(CROSS_ENTROPY, X, Y[:3]), r"vjp: y: expected 5 rows as x has, got shape \(3,\)"),
        (lambda: dl.vjp(SQUARED_ERROR, X, np.ones(3)), r"vjp: y: expected 5 rows as x has, got shape \(3,\)"),
        (lambda: dl.vjp(SQUARED_ERROR, X, np.ones(15)), r"vjp: y: expected 5 rows as x has, got shape \(15,\)"),
        (lambda: dl.vjp(CROSS_ENTROPY, X, 1), r"vjp: y: expected 5 rows as x has, got shape \(\)"),
        (lambda: dl.vjp(CROSS_ENTROPY, X, Y + 2**32), r"vjp: y: expected labels in \[0, 3\)"),
        (lambda: dl.vjp(SQUARED_ERROR, X[None], X[None]), "vjp: prediction: expected one or two dimensions"),
        (lambda: dl.vjp(SQUARED_ERROR, X.astype("f4"), X * 1e39), "vjp: y: expected finite numbers, got 15 beyond float32"),
        (lambda: dl.vjp(CROSS_ENTROPY, X, Y, -np.ones(5)), "vjp: sample_weight: expected weights >= 0, not all 0, got"),
        (lambda: dl.vjp(CROSS_ENTROPY, X, Y, np.zeros(5)), "vjp: sample_weight: expected weights >= 0, not all 0, got"),
        (lambda: dl.vjp(CROSS_ENTROPY, X, Y, np.ones(3)), r"vjp: sample_weight: expected shape \(5,\)"),
        (lambda: dl.vjp(CROSS_ENTROPY, X, Y)[1]("a"), "pull: dy: expected numbers"),
        (lambda: dl.vjp(CROSS_ENTROPY, X, Y)[1](np.ones(7)), r"pull: dy: expected one number for a loss, got shape \(7,\)"),
        (lambda: dl.vjp(dl.Tanh(), X)[1]("a"), "pull: dy: expected numbers"),
    ],
)
def test_vjp_refuses(call, text):
    with pytest.raises((ValueError, TypeError), match=text):
        call()


def test_vjp_takes_one_row_without_its_axis():
    for loss, y in ((CROSS_ENTROPY, 1), (CROSS_ENTROPY, [1]), (CROSS_ENTROPY, [0, 1, 0]), (SQUARED_ERROR, [3, 2, 1])):
        rows = np.reshape(y, (1, -1))
        assert dl.vjp(loss, [1.0, 2.0, 0.0], y)[0] == dl.vjp(loss, [[1.0, 2.0, 0.0]], rows)[0]


def test_a_layer_belongs_to_one_net():
    layer = dl.Linear(2, 2)
    dl.Net([layer])
    with pytest.raises(ValueError, match="layers of no other net"):
        dl.Net([layer])


def test_constant_initialisation_warns_about_symmetry():
    with pytest.warns(UserWarning, match="symmetric units"):
        dl.Net([dl.Linear(3, 4, init="zeros")])
