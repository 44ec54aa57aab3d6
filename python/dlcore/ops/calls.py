# SPDX-License-Identifier: Apache-2.0
"""What layers and losses call: each function appends the nodes of one operation to its input's trace."""

from __future__ import annotations

from ..graph import Value
from .base import columns, like
from .kernels import ROLE_NN, ElementLoss, LayerNorm, MomentsFinish, Product, Softmax, SoftmaxCrossEntropy
from .stages import Activate, Add, Affine, Dropout, Moments, Normalize


def linear(x: Value, weight, bias=None) -> Value:
    """x W + b; weight (in, out), bias (out,)."""
    t = x.trace
    w = t.parameter(weight)
    if x.cols != w.rows:
        raise ValueError(f"expected {w.rows} input columns, got {(x.rows, x.cols)}")
    z = t.append(Product, t.value("z", (*x.shape[:-1], w.cols)), a=x, b=w, numbers=(ROLE_NN,))
    return z if bias is None else t.append(Affine, like(t, "z", z), x=z, b=t.parameter(bias))


def activate(x: Value, function: str, constants: tuple[float, ...] = ()) -> Value:
    """An activation of math/activations.h by name."""
    return x.trace.append(Activate, like(x.trace, "y", x), x=x, function=function, numbers=constants)


def add(x: Value, y: Value) -> Value:
    """x + y, equal shapes."""
    if x.shape != y.shape:
        raise ValueError(f"expected two inputs of equal shape, got {x.shape} and {y.shape}")
    return x.trace.append(Add, like(x.trace, "y", x), x=x, operand=y)


def affine(x: Value, scale: Value | None, shift: Value | None) -> Value:
    """x * scale + shift for each column."""
    return x.trace.append(Affine, like(x.trace, "y", x), x=x, a=scale, b=shift)


def dropout(x: Value, p: float) -> Value:
    """Inverted dropout in a training trace; the identity otherwise. Counts as a random op either way."""
    t = x.trace
    number, t.random_ops = t.random_ops, t.random_ops + 1
    if not t.training or p == 0:
        return x
    return t.append(Dropout, like(t, "y", x), x=x, a=t.table("counters"), numbers=(p,), random_op=number)


def batch_norm(x: Value, gamma, beta, running_mean, running_var, eps: float, momentum: float) -> Value:
    """Batch normalisation: batch statistics in a training trace, running statistics otherwise."""
    t = x.trace
    g, b, rm, rv = (t.parameter(p) for p in (gamma, beta, running_mean, running_var))
    if x.cols != g.cols:
        raise ValueError(f"expected {g.cols} input columns, got {(x.rows, x.cols)}")
    scale, shift, rstd, center = (columns(t, n, x) for n in ("scale", "shift", "rstd", "center"))
    out = {"gamma": g, "beta": b, "scale": scale, "shift": shift, "rstd": rstd, "center": center}
    if t.training:
        if x.rows < 2:
            raise ValueError("expected at least 2 rows for batch statistics, got 1; use LayerNorm or a larger batch_size")
        mean, m2 = columns(t, "mean", x), columns(t, "m2", x)
        t.append(Moments, x=x, out=mean, out2=m2)
        t.append(MomentsFinish, mean=mean, m2=m2, running_mean=rm, running_var=rv, numbers=(x.rows, eps, momentum), **out)
    else:
        mean = rm
        t.append(MomentsFinish, mean=rm, m2=rv, numbers=(1, eps, 0), **out)
    return t.append(
        Normalize, like(t, "y", x), x=x, a=scale, b=shift, numbers=(float(t.training),),
        context={"rstd": rstd, "center": center, "mean": mean, "gamma": g, "beta": b},
    )  # fmt: skip


def layer_norm(x: Value, gamma, beta, eps: float) -> Value:
    """Layer normalisation over the last axis."""
    t = x.trace
    g = None if gamma is None else t.parameter(gamma)
    b = None if beta is None else t.parameter(beta)
    if g is not None and x.cols != g.cols:
        raise ValueError(f"expected {g.cols} input columns, got {(x.rows, x.cols)}")
    mean, rstd = t.value("mean", (x.rows, 1)), t.value("rstd", (x.rows, 1))
    return t.append(LayerNorm, like(t, "y", x), x=x, gamma=g, beta=b, mean=mean, rstd=rstd, numbers=(eps,))


def softmax(x: Value) -> Value:
    """Softmax over the last axis."""
    return x.trace.append(Softmax, like(x.trace, "p", x), x=x)


def softmax_cross_entropy(logits, target, weight, class_weight, smoothing: float, gradient: bool) -> None:
    """Add the loss to the metrics; with ``gradient`` seed the backward pass."""
    t = logits.trace
    dlogits = like(t, "dlogits", logits)
    t.append(
        SoftmaxCrossEntropy, dlogits, logits=logits, target=target, weight=weight, class_weight=class_weight,
        metrics=t.table("metrics"), numbers=(smoothing, float(gradient)),
    )  # fmt: skip
    if gradient:
        t.seeds.append((logits, dlogits))


def element_loss(prediction, target, weight, function: str, gradient: bool, constants=(1.0, 1.0)) -> None:
    """An elementwise loss of math/losses.h: mean over columns, summed over rows into the metrics."""
    t = prediction.trace
    d = like(t, "dprediction", prediction)
    t.append(
        ElementLoss, d, prediction=prediction, target=target, weight=weight, metrics=t.table("metrics"),
        function=function, numbers=(float(gradient), *constants),
    )  # fmt: skip
    if gradient:
        t.seeds.append((prediction, d))
