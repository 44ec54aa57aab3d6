# SPDX-License-Identifier: Apache-2.0
"""Nets in files: what comes back is what was saved, training goes on as if unbroken, and no file does harm."""

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


def test_a_schedule_of_the_users_own_leaves_the_training_state_out(tmp_path):
    model = net()
    model.fit(X, Y, optimizer=dl.SGD(lambda t: 0.1), epochs=1, verbose=0)
    model.save(tmp_path / "net.npz")
    assert dl.load(tmp_path / "net.npz").training is None


def altered(tmp_path, change):
    net().save(tmp_path / "net.npz")
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
