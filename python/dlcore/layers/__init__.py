# SPDX-License-Identifier: Apache-2.0
"""The layers a user composes."""

from .activations import ELU, GELU, Identity, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from .base import Layer, Parameter
from .linear import Linear
from .normalization import BatchNorm, LayerNorm
from .structure import Dropout, Residual, Sequential

KINDS = {
    cls.__name__: cls
    for cls in (
        Linear, Identity, ReLU, LeakyReLU, ELU, Sigmoid, Tanh, GELU, SiLU, Softplus, BatchNorm, LayerNorm, Dropout,
        Residual, Sequential,
    )
}  # fmt: skip

__all__ = [*KINDS, "Layer", "Parameter", "from_config"]


MAX_DEPTH = 64


def from_config(config: dict, depth: int = 0) -> Layer:
    """The layer that `Layer.config` describes, with fresh parameters.

    Raises
    ------
    ValueError
        An unknown kind, options that its class refuses, or more than MAX_DEPTH layers inside one another.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"layer configuration: expected at most {MAX_DEPTH} layers inside one another, got more")
    if not isinstance(config, dict) or config.get("kind") not in KINDS:
        raise ValueError(f"layer configuration: expected a kind among {sorted(KINDS)}, got {config!r:.80}")
    options = {k: v for k, v in config.items() if k != "kind"}
    try:
        if config["kind"] == "Sequential":
            return Sequential(*[from_config(c, depth + 1) for c in options["layers"]])
        if config["kind"] == "Residual":
            body, projection = options["body"], options.get("projection")
            return Residual(from_config(body, depth + 1), from_config(projection, depth + 1) if projection else None)
        return KINDS[config["kind"]](**options)
    except (TypeError, KeyError) as error:
        raise ValueError(f"layer configuration of {config['kind']}: {error}") from None
