# SPDX-License-Identifier: Apache-2.0
"""Nets in files: what comes back is what was saved, training goes on as if unbroken, and no file does harm."""

from fractions import Fraction

import numpy as np
import pytest

import dlcore as dl
from checks import rng
from dlcore import io

X, Y = rng(0).normal(size=(64, 5)).astype(np.float32), rng(1).integers(0, 3, 64)


def net(seed=3):
    body = dl.Sequential(dl.Linear(8, 8), dl.LayerNorm(8), dl.ELU(0.5), dl.Linear(8, 8))
    return dl.Net(
        [dl.Linear(5, 8), dl.BatchNorm(8), dl.LeakyReLU(0.1), dl.Dropout(0.2), dl.Residual(body), dl.GELU(), dl.Linear(8, 3)],
        seed=seed,
    )  # fmt: skip


OPTIMIZERS = {
    "adamw": lambda: dl.AdamW(dl.schedules.Cosine(0.01, total=10, warmup=1), weight_decay=0.1),
    "nesterov": lambda: dl.SGD(0.1, momentum=0.9, nesterov=True, clip_norm=1.0),
    "rmsprop": lambda: dl.RMSprop(0.01, l2=0.001, decay_all=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_resumed_from_a_file_equals_unbroken_training(optimizer, tmp_path):
    whole, part = net(), net()
    whole.fit(X, Y, optimizer=OPTIMIZERS[optimizer](), epochs=2, batch_size=16, verbose=0)
    whole.fit(X, Y, epochs=2, batch_size=16, verbose=0)
    part.fit(X, Y, optimizer=OPTIMIZERS[optimizer](), epochs=2, batch_size=16, verbose=0)
    part.save(tmp_path / "net.npz")
    again = dl.load(tmp_path / "net.npz")
    again.fit(X, Y, epochs=2, batch_size=16, verbose=0)
    assert again.store.array.tobytes() == whole.store.array.tobytes()
    assert again.predict(X).tobytes() == whole.predict(X).tobytes()


def test_normalisation_and_preprocessing_travel_along(tmp_path):
    model = net()
    model.normalize_inputs(np.arange(1.0, 6.0), np.ones(5))
    model.preprocessing = {"classes": ["a", "b", "c"]}
    model.save(tmp_path / "net.npz")
    again = dl.load(tmp_path / "net.npz")
    assert again.preprocessing == {"classes": ["a", "b", "c"]}
    assert again.predict(X).tobytes() == model.predict(X).tobytes()


def test_the_file_opens_in_numpy_without_pickle(tmp_path):
    net().save(tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz", allow_pickle=False) as arrays:
        assert "parameters/0.weight" in arrays.files


def fitted(**options):
    model = net()
    model.fit(X, Y, epochs=1, verbose=0, **options)
    return model


@pytest.mark.parametrize("lr", [np.float32(0.25), np.float64(0.25), np.int64(1), np.uint8(1), Fraction(1, 4), 1])
def test_a_rate_may_be_a_number_of_any_type(lr, tmp_path):
    model = fitted(optimizer=dl.Adam(lr))
    model.save(tmp_path / "net.npz")
    again = dl.load(tmp_path / "net.npz").training.optimizer
    assert type(model.training.optimizer.lr) is type(again.lr) is float
    assert again.lr == lr


def test_frozen_parameters_stay_frozen(tmp_path):
    model = net()
    model.layer[0].weight.frozen = True
    model.save(tmp_path / "net.npz")
    assert [n for n, p in dl.load(tmp_path / "net.npz").store.named.items() if p.frozen] == ["0.weight"]


def test_a_net_with_an_initialisation_that_is_a_function_comes_back(tmp_path):
    model = dl.Net([dl.Linear(5, 3, init=dl.init.normal(0.1))])
    model.save(tmp_path / "net.npz")
    assert dl.load(tmp_path / "net.npz").predict(X).tobytes() == model.predict(X).tobytes()


class Tanh(dl.Tanh):
    """Of the same name as dlcore's."""


class OwnLoss(dl.SoftmaxCrossEntropy):
    pass


class OwnOptimizer(dl.Adam):
    pass


class OwnSchedule(dl.schedules.Constant):
    pass


def nested(depth):
    layer = dl.Linear(5, 3)
    for _ in range(depth):
        layer = dl.Sequential(layer)
    return layer


def with_option():
    optimizer = dl.Adam()
    optimizer.note = "mine"
    return optimizer


LAYERS = {
    "class": (lambda: dl.Net([dl.Linear(5, 3), dl.Residual(Tanh())]), r"a layer that load .* got Tanh\(\) of test_checkpoint"),
    "depth": (lambda: dl.Net(nested(71)), "what load can rebuild, got Sequential.* at most 64 layers inside one another"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_load_could_not_rebuild_are_refused_before_a_byte_is_written(name, tmp_path):
    make, text = LAYERS[name]
    with pytest.raises(ValueError, match=f"^save: expected {text}.*; dlcore.io.save_arrays.* the weights alone$") as error:
        make().save(tmp_path / "net.npz")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


TRAININGS = {
    "loss": (lambda: fitted(loss=OwnLoss()), r"a loss that load .* got OwnLoss\(\)"),
    "optimizer": (lambda: fitted(optimizer=OwnOptimizer()), r"an optimizer that load .* got OwnOptimizer\(lr"),
    "schedule": (lambda: fitted(optimizer=dl.SGD(OwnSchedule(0.1))), r"a schedule that load .* got OwnSchedule\(lr"),
    "function": (lambda: fitted(optimizer=dl.SGD(lambda t: 0.1)), "a schedule that load .* got <function"),
    "option": (lambda: fitted(optimizer=with_option()), r"what load can rebuild, got Adam\(lr=0.001\): .*note"),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_load_could_not_rebuild_is_left_out_with_a_warning(name, tmp_path):
    make, text = TRAININGS[name]
    model = make()
    with pytest.warns(UserWarning, match=f"^save: expected {text}.*; loss, optimizer and its state are left out$") as caught:
        model.save(tmp_path / "net.npz")
    assert caught[0].filename == __file__
    again = dl.load(tmp_path / "net.npz")
    assert again.training is None
    assert again.predict(X).tobytes() == model.predict(X).tobytes()


def test_options_may_be_set_to_numbers_of_any_type(tmp_path):
    model = fitted(optimizer=dl.Adam())
    model.layer[3].p = model.training.optimizer.clip_norm = np.float32(0.25)
    model.save(tmp_path / "net.npz")
    again = dl.load(tmp_path / "net.npz")
    assert (again.layer[3].p, again.training.optimizer.clip_norm) == (0.25, 0.25)


def altered(tmp_path, change):
    fitted().save(tmp_path / "net.npz")
    arrays = io.load_arrays(tmp_path / "net.npz")
    text = arrays.text
    change(arrays, text)
    io.save_arrays(tmp_path / "altered.npz", dict(arrays), text=text)
    return tmp_path / "altered.npz"


ALTERATIONS = {
    "missing": lambda a, t: a.pop("parameters/0.weight"),
    "shape": lambda a, t: a.update({"parameters/0.weight": np.zeros((5, 9), np.float32)}),
    "dtype": lambda a, t: a.update({"parameters/0.weight": np.zeros((5, 8))}),
    "huge": lambda a, t: t["layer"]["layers"][0].update(in_features=2**40),
    "kind": lambda a, t: t["layer"]["layers"][0].update(kind="Lniear"),
    "option": lambda a, t: t["layer"]["layers"][0].update(in_features=-1),
    "unknown_option": lambda a, t: t["layer"]["layers"][0].update(exec="import os"),
    "layers": lambda a, t: t["layer"].update(layers=3),
    "seed": lambda a, t: t.update(seed=-5),
    "format": lambda a, t: t.update(format=99),
    "no_layer": lambda a, t: t.pop("layer"),
    "huge_number": lambda a, t: t["layer"]["layers"][2].update(slope=10**400),
    "frozen": lambda a, t: t.update(frozen=["1.running"]),
    "negative_updates": lambda a, t: t["training"].update(updates=-1),
    "huge_updates": lambda a, t: t["training"].update(updates=2**70),
    "text_updates": lambda a, t: t["training"].update(updates="5"),
    "negative_draws": lambda a, t: t["training"].update(draws=-1),
    "half_draws": lambda a, t: t["training"].update(draws=3.5),
    "state": lambda a, t: a.pop("training/optimizer1"),
    "state_shape": lambda a, t: a.update({"training/optimizer1": np.zeros(3, np.float32)}),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_files_are_refused_in_one_line(name, tmp_path):
    path = altered(tmp_path, ALTERATIONS[name])
    with pytest.raises(ValueError, match="expected a net saved by dlcore") as error:
        dl.load(path)
    assert "\n" not in str(error.value)


def test_every_truncation_of_a_saved_net_is_refused(tmp_path):
    dl.Net([dl.Linear(2, 2)]).save(tmp_path / "net.npz")
    whole = (tmp_path / "net.npz").read_bytes()
    for end in range(0, len(whole), 7):
        (tmp_path / "cut.npz").write_bytes(whole[:end])
        with pytest.raises(ValueError):
            dl.load(tmp_path / "cut.npz")


def test_deeply_nested_configurations_are_refused(tmp_path):
    def nest(arrays, text):
        layer = text["layer"]
        for _ in range(400):
            layer = {"kind": "Sequential", "layers": [layer]}
        text["layer"] = layer

    with pytest.raises(ValueError):
        dl.load(altered(tmp_path, nest))
