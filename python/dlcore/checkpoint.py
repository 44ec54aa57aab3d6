# SPDX-License-Identifier: Apache-2.0
"""A net in one file: weights, optimizer state, counters, preprocessing and configuration; data only, never code.

A pickle of a net or of a predictor holds the bytes of such a file, which are checked as those of a file are.
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np

from . import backend as backends
from .arguments import one_of, positive_int
from .errors import DataError, FileFormatError, describe, expected, shorten
from .io import from_bytes, load_arrays, save_arrays, to_bytes
from .layers import KINDS as LAYERS
from .layers import from_config
from .losses import KINDS as LOSSES
from .optim import schedules
from .optim.optimizers import KINDS as OPTIMIZERS

FORMAT = 1
WEIGHTS_ALONE = "dlcore.io.save_arrays(path, net.parameters | net.state) writes the weights alone"
NO_TRAINING = "loss, optimizer and its state are left out"


def save(net, path) -> None:
    """Write ``net`` to ``path``; see `Net.save`."""
    arrays, text = _content(net, "save")
    save_arrays(path, arrays, text=text)


def load(cls, path, device: str = "auto", gemm: str = "auto"):
    """The net in ``path``; see `Net.load`."""
    return _checked(f"load {path}", load_arrays(path), cls, device, gemm)


def reduced(net) -> tuple:
    """What pickle keeps of a net."""
    arrays, text = _content(net, "pickle")
    return unpickled, (type(net), to_bytes(arrays, text=text), net.device, net.gemm, net._threads)


def unpickled(cls, content: bytes, device: str, gemm: str, threads: int | None):
    """The net that `reduced` described."""
    return _checked("unpickle", from_bytes(content), cls, device, gemm, threads)


def reduced_predictor(predictor) -> tuple:
    """What pickle keeps of a predictor: the packed weights, as those of its net may have changed since."""
    arrays, text = _description(predictor, "pickle")
    arrays["snapshot"] = predictor._memory.array
    content = to_bytes(arrays, text=text | {"seed": 0, "places": predictor.snapshot.places})
    return unpickled_predictor, (predictor._made_by, content, predictor.device, predictor.gemm, predictor._threads)


def unpickled_predictor(cls, content: bytes, device: str, gemm: str, threads: int | None):
    """The predictor that `reduced_predictor` described; ``cls`` is the class of its net."""
    arrays = from_bytes(content)
    net = _checked("unpickle", arrays, cls, device, gemm, threads, parameters=False)
    predictor = net.predictor()
    if arrays.text.get("places") != predictor.snapshot.places:
        hint = "pickle the net, and make its predictor where it is used"
        raise FileFormatError(expected("unpickle", f"weights packed for {net.backend.name}", "others", hint=hint))
    packed = predictor._memory.array
    packed[:] = _same(arrays, "snapshot", packed.shape, net.dtype)
    return predictor


# ------------------------------------------------------------------------------------------------------ writing
def _description(net, who: str) -> tuple[dict, dict]:
    """Arrays and text of all but the parameters."""
    for layer in _layers(net.layer):
        _check_kind(who, "a layer", layer, LAYERS, WEIGHTS_ALONE)
    layer = _config(who, net.layer, WEIGHTS_ALONE, from_config)
    text = {"format": FORMAT, "layer": layer, "dtype": net.dtype, "precision": net.precision}
    arrays = {}
    if net.input_affine():
        scale, shift = net.input_affine().values()
        arrays = {"input/scale": np.array(scale), "input/shift": np.array(shift)}
    if net.target_scaler is not None:
        text["target_scaler"] = net.target_scaler.to_dict()
    return arrays, text


def _content(net, who: str) -> tuple[dict, dict]:
    arrays, text = _description(net, who)
    arrays |= {f"parameters/{n}": p.value for n, p in net.store.named.items()}
    frozen = [n for n, p in net.store.named.items() if p.frozen]
    text |= {"seed": net.seed, "preprocessing": net.preprocessing, "frozen": frozen}
    if net.training is not None:
        try:
            more, text["training"] = _goes_on(net.training, who)
            arrays |= more
        except DataError as error:  # the weights are what nobody may lose
            warnings.warn(str(error), stacklevel=4)
    return arrays, text


def _goes_on(training, who: str) -> tuple[dict, dict]:
    """Arrays and text of the training."""
    loss, optimizer, lr = training.loss, training.optimizer, training.optimizer.lr
    _check_kind(who, "a loss", loss, LOSSES, NO_TRAINING)
    _check_kind(who, "an optimizer", optimizer, OPTIMIZERS, NO_TRAINING)
    if callable(lr):
        _check_kind(who, "a schedule", lr, schedules.KINDS, NO_TRAINING)
    text = {
        "loss": _config(who, loss, NO_TRAINING, partial(_rebuilt, LOSSES)),
        "optimizer": _config(who, optimizer, NO_TRAINING, optimizer_from_config),
        "updates": training.updates, "draws": training.draws,
    }  # fmt: skip
    return {f"training/{n}": a for n, a in training.arrays.items()}, text


def _layers(layer):
    yield layer
    for _, child in layer.children():
        yield from _layers(child)


def _check_kind(who: str, what: str, thing, kinds: dict, hint: str) -> None:
    """Refuse a class that is not dlcore's own: its code is in no file."""
    if kinds.get(type(thing).__name__) is not type(thing):
        got = f"{shorten(repr(thing))} of {type(thing).__module__}.{type(thing).__qualname__}"
        raise DataError(expected(who, f"{what} that load can rebuild, of dlcore's own", got, hint=hint))


def _config(who: str, thing, hint: str, rebuild) -> dict:
    """The configuration of what load rebuilds: in plain numbers, of whatever types those of the thing are."""
    try:
        return rebuild(thing.config()).config()
    except (TypeError, ValueError) as error:
        raise DataError(expected(who, "what load can rebuild", f"{shorten(repr(thing))}: {error}", hint=hint)) from None


# ------------------------------------------------------------------------------------------------------ reading
def _checked(who: str, arrays, cls, device: str, gemm: str, threads: int | None = None, parameters: bool = True):
    """The net of arrays and text that may be of anyone's making."""
    backends.check_gemm(who.split()[0], backends.get(device=backends.select_device(device)), gemm)
    text = arrays.text
    if not isinstance(text, dict) or text.get("format") != FORMAT:
        raise FileFormatError(f"{who}: expected a net saved by dlcore, got an archive without its configuration")
    try:
        return _net(cls, arrays, text, parameters, device=device, gemm=gemm, threads=threads)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise FileFormatError(f"{who}: expected a net saved by dlcore, got {error}") from None


def _net(cls, arrays, text: dict, parameters: bool, **options):
    precision = text.get("precision", "float32")
    anywhere = "float32" if precision == "float16" else precision  # only training is bound to a GPU
    layer = from_config(text["layer"])
    if parameters:  # of the sizes that the net will take memory for
        for name, p in layer.named_parameters():
            _same(arrays, f"parameters/{name}", p.shape, text["dtype"])
    net = cls(layer, seed=text["seed"], dtype=text["dtype"], precision=anywhere, **options)
    net.precision = precision
    if "input/scale" in arrays:
        net.normalize_inputs(arrays["input/scale"], arrays["input/shift"])
    if "target_scaler" in text:
        from .data import TargetScaler

        net.target_scaler = TargetScaler.from_dict(text["target_scaler"])
    if parameters:
        _restore(net, text, arrays)
    return net


def _restore(net, text: dict, arrays) -> None:
    """Parameters and what a predictor has not."""
    for name, p in net.store.named.items():
        p.value = arrays[f"parameters/{name}"]
    for name in text.get("frozen", ()):
        net.store.named[name].frozen = True
    net.preprocessing = dict(text["preprocessing"])
    if "training" in text:
        _restore_training(net, text["training"], arrays)


def _restore_training(net, text: dict, arrays) -> None:
    from .train.step import Training

    training = Training(net, _rebuilt(LOSSES, text["loss"]), optimizer_from_config(text["optimizer"]))
    training.updates, training.draws = (positive_int(name, text[name], minimum=0) for name in ("updates", "draws"))
    for name, array in training.arrays.items():
        array[:] = _same(arrays, f"training/{name}", array.shape, net.dtype)
    net.training = training


def _same(arrays, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The array of this name, if it is there as it should be."""
    if name not in arrays:
        raise ValueError(f"no {name}")
    array = arrays[name]
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name}: {describe(array)}, not {dtype} of shape {shape}")
    return array


def optimizer_from_config(config: dict):
    """The optimizer that `Optimizer.config` describes."""
    config = dict(config)
    if isinstance(config.get("lr"), dict):
        config["lr"] = schedules.from_config(config["lr"])
    return _rebuilt(OPTIMIZERS, config)


def _rebuilt(kinds: dict, config: dict):
    options = dict(config)
    return kinds[one_of("configuration", options.pop("kind", None), kinds)](**options)
