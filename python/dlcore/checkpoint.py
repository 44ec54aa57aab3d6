# SPDX-License-Identifier: Apache-2.0
"""A net in one file: weights, optimizer state, counters, preprocessing and configuration; data only, never code."""

from __future__ import annotations

import numpy as np

from . import backend as backends
from .arguments import one_of
from .errors import FileFormatError, describe
from .io import load_arrays, save_arrays
from .layers import from_config
from .losses import KINDS as LOSSES
from .optim import schedules
from .optim.optimizers import KINDS as OPTIMIZERS

FORMAT = 1


def save(net, path) -> None:
    """Write ``net`` to ``path``; see `Net.save`."""
    arrays = {f"parameters/{n}": p.value for n, p in net.store.named.items()}
    text = {
        "format": FORMAT, "layer": net.layer.config(), "seed": net.seed, "dtype": net.dtype,
        "precision": net.precision, "preprocessing": net.preprocessing,
    }  # fmt: skip
    if net.input_affine():
        scale, shift = net.input_affine().values()
        arrays |= {"input/scale": np.array(scale), "input/shift": np.array(shift)}
    if net.target_scaler is not None:
        text["target_scaler"] = net.target_scaler.to_dict()
    if (training := net.training) is not None and _plain(training.optimizer):
        text["training"] = {
            "loss": training.loss.config(), "optimizer": training.optimizer.config(), "updates": training.updates,
            "draws": training.draws, "accumulate": training.accumulate,
        }  # fmt: skip
        arrays |= {f"training/{n}": a for n, a in training.arrays.items()}
    save_arrays(path, arrays, text=text)


def _plain(optimizer) -> bool:
    """A schedule that is the user's own function cannot be written; its training state is left out."""
    return isinstance(optimizer.lr, (int, float, schedules.Schedule))


def load(cls, path, device: str = "auto", gemm: str = "auto"):
    """The net in ``path``; see `Net.load`."""
    who = f"load {path}"
    backends.check_gemm("load", backends.get(device=backends.select_device(device)), gemm)
    arrays = load_arrays(path)
    text = arrays.text
    if not isinstance(text, dict) or text.get("format") != FORMAT:
        raise FileFormatError(f"{who}: expected a net saved by dlcore, got an archive without its configuration")
    try:
        precision = text.get("precision", "float32")
        anywhere = "float32" if precision == "float16" else precision  # only training is bound to a GPU
        layer = from_config(text["layer"])
        for name, p in layer.named_parameters():  # before there is memory for them
            _found(arrays, f"parameters/{name}", text["dtype"], p.shape)
        net = cls(layer, seed=text["seed"], dtype=text["dtype"], precision=anywhere, device=device, gemm=gemm)
        net.precision = precision
        for name, p in net.store.named.items():
            p.value = arrays[f"parameters/{name}"]
        if "input/scale" in arrays:
            net.normalize_inputs(arrays["input/scale"], arrays["input/shift"])
        net.preprocessing = dict(text["preprocessing"])
        if "target_scaler" in text:
            from .data import TargetScaler

            net.target_scaler = TargetScaler.from_dict(text["target_scaler"])
        if "training" in text:
            _restore_training(net, text["training"], arrays)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{who}: expected a net saved by dlcore, got {error}") from None
    return net


def _found(arrays, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in arrays:
        raise ValueError(f"one without {name}")
    array = arrays[name]
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{describe(array)} as {name} beside a configuration with {dtype} of shape {shape}")
    return array


def _restore_training(net, text: dict, arrays) -> None:
    from .train.step import Training

    training = Training(net, _rebuilt(LOSSES, text["loss"]), optimizer_from_config(text["optimizer"]), text["accumulate"])
    training.updates, training.draws = int(text["updates"]), int(text["draws"])
    for name, array in training.arrays.items():
        array[:] = _found(arrays, f"training/{name}", net.dtype, array.shape)
    net.training = training


def optimizer_from_config(config: dict):
    """The optimizer that `Optimizer.config` describes."""
    config = dict(config)
    if isinstance(config.get("lr"), dict):
        config["lr"] = schedules.from_config(config["lr"])
    return _rebuilt(OPTIMIZERS, config)


def _rebuilt(kinds: dict, config: dict):
    options = dict(config)
    return kinds[one_of("configuration", options.pop("kind", None), kinds)](**options)
