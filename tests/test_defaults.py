# SPDX-License-Identifier: Apache-2.0
"""The rules for defaults: what is given stays, everything else follows from task, rows and columns."""

import inspect
import math
from itertools import pairwise

import numpy as np
import pytest

import dlcore as dl
from dlcore import defaults
from dlcore.defaults import Settings, choose
from dlcore.layers.activations import Activation

SIZES = [(2, 1), (3, 5), (127, 8), (1294, 64), (14_861, 8), (29_305, 107), (54_000, 784), (10_000_000, 10_000)]


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_defaults_of_every_size_make_a_net_that_can_be_trained(task, rows, columns):
    chosen = choose(task, rows, columns)
    assert chosen.task == task and 1 <= chosen.batch_size <= min(128, rows) and 1 <= chosen.epochs <= 1000
    assert chosen.layers and min(chosen.layers) >= 1 and 0 <= chosen.dropout < 1 and chosen.lr > 0
    assert chosen.make_loss().task == task
    assert chosen.make_optimizer().row(0, 10)["lr"] >= 0


def test_defaults_see_no_name_of_a_data_set():
    assert list(inspect.signature(choose).parameters) == ["task", "rows", "columns", "given"]


def test_what_is_given_stays():
    given = {
        "preprocess": "center", "layers": (8,), "activation": "tanh", "batch_norm": False, "dropout": 0.25,
        "init": "orthogonal", "optimizer": "momentum", "lr": 0.5, "schedule": "step", "weight_decay": 0.125,
        "label_smoothing": 0.0625, "epochs": 7, "batch_size": 3,
    }  # fmt: skip
    assert choose("classification", 100, 4, **given) == Settings(task="classification", **given)


def test_the_rate_follows_optimizer_and_batch_size():
    rate = choose("classification", 1000, 4).lr
    assert choose("classification", 1000, 4, batch_size=32).lr == pytest.approx(rate / 2)
    assert choose("classification", 1000, 4, optimizer="sgd").lr > rate
    assert choose("classification", 1000, 4, optimizer="sgd").weight_decay == 0


def test_a_batch_of_one_row_has_no_batch_norm():
    assert not choose("classification", 1000, 4, batch_size=1).batch_norm


def test_few_rows_have_epochs_for_a_thousand_updates():
    assert [choose("classification", rows, 4).epochs for rows in (100, 1294, 20_000, 54_000, 10**6)] == [1000, 100, 50, 19, 10]


def test_an_unknown_field_is_an_error():
    with pytest.raises(TypeError, match="layer"):
        choose("classification", 1000, 4, layer=(8,))


def test_the_net_has_the_layers_in_order():
    given = {"layers": (8, 6), "activation": "tanh", "dropout": 0.5, "batch_norm": True, "preprocess": "none"}
    chosen = choose("classification", 1000, 4, **given)
    assert repr(chosen.layer(4, 3)) == (
        "Sequential(Linear(4, 8, bias=False), BatchNorm(8), Tanh(), Dropout(0.5), "
        "Linear(8, 6, bias=False), BatchNorm(6), Tanh(), Dropout(0.5), Linear(6, 3))"
    )
    assert repr(choose("regression", 9, 4, layers=(), preprocess="squash").layer(4, 1)) == "Sequential(Tanh(), Linear(4, 1))"


@pytest.mark.parametrize(("activation", "init"), [("relu", "kaiming_uniform"), ("tanh", "xavier_uniform")])
def test_init_auto_follows_the_activation(activation, init):
    hidden, *_, last = choose("classification", 1000, 4, activation=activation, preprocess="none").layer(4, 3)
    assert (hidden.init_name, last.init_name) == (init, "xavier_uniform")


def test_every_activation_and_init_has_a_name():
    assert set(defaults.ACTIVATIONS.values()) == set(Activation.__subclasses__())
    assert {name.replace("-", "_") for name in defaults.INITS} == {"auto", *dl.init.NAMES}
    for name in defaults.INITS:
        assert choose("classification", 1000, 4, init=name).layer(4, 3)


@pytest.mark.parametrize("schedule", defaults.SCHEDULES)
def test_schedules_begin_high_and_never_rise_after_warm_up(schedule):
    chosen = choose("classification", 1000, 4, schedule=schedule, epochs=20, lr=1.0)
    rates = [chosen.make_optimizer().row(update, 10)["lr"] for update in range(200)]
    assert max(rates) == 1.0 and all(math.isfinite(r) and r >= 0 for r in rates)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert (rates[-1] < 0.2) == (schedule != "constant")


@pytest.mark.parametrize("name", defaults.OPTIMIZERS)
def test_every_optimizer_is_made_with_its_rate(name):
    optimizer = choose("classification", 1000, 4, optimizer=name, schedule="constant").make_optimizer()
    assert optimizer.row(0, 1)["lr"] == defaults.OPTIMIZERS[name][2] and optimizer.rule == name


def test_squashed_inputs_are_standardised_and_bounded():
    x = np.float32([[0, 1], [2, 1], [4, 1], [1e6, 1]])
    for name in defaults.PREPROCESS:
        chosen = choose("classification", 1000, 2, preprocess=name)
        scale, shift = chosen.input_scaling(x, None)
        z = x * scale + shift
        assert (z[:, 1] == (1 if name == "none" else 0)).all()
        if name in ("squash", "standardize"):
            linear = defaults.LINEAR if name == "squash" else 1
            assert z[:, 0].std() * linear == pytest.approx(1, rel=1e-5)


def test_images_are_scaled_by_channel():
    x = np.uint8([[0, 10, 2, 30], [4, 50, 6, 70]])
    scale, shift = choose("classification", 2, 4, preprocess="standardize").input_scaling(x, (1, 2, 2))
    assert scale[0] == scale[2] and scale[1] == scale[3] and shift[0] == -scale[0] * 3
