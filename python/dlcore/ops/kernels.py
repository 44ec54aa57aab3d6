# SPDX-License-Identifier: Apache-2.0
"""Ops with a kernel of their own, one small class each, with their gradients."""

from __future__ import annotations

from .base import Op, like

ROLE_NN, ROLE_NT, ROLE_TN = 0, 1, 2  # A B, A B^T, A^T B


class Product(Op):
    """C = A B, A B^T or A^T B; numbers: the role and, as the planner chose, how many bf16 terms and by whom."""

    kernel = "product"
    operands = "a b"

    @staticmethod
    def backward(trace, node, gradient, needs):
        x, w = node.operands["a"], node.operands["b"]
        pairs = []
        if needs(w):
            dw = trace.append(Product, trace.gradient(w.parameter), a=x, b=gradient, numbers=(ROLE_TN,))
            pairs.append((w, dw))
        if needs(x):
            pairs.append((x, trace.append(Product, like(trace, "dx", x), a=gradient, b=w, numbers=(ROLE_NT,))))
        return pairs


class Pointwise(Op):
    """A chain over one stored value."""

    kernel = "pointwise"
    operands = "x"


class Pack(Op):
    """A chain over one stored value, written in the order a product reads; numbers: transposed flags."""

    kernel = "pack"
    operands = "x packed> packed2>?"
    rowwise = False


class Gather(Op):
    """Rows of the data set in the shuffled order, converted to real."""

    kernel = "gather"
    operands = "data order? counters"


class GatherIndex(Op):
    """Rows of an integer column in the shuffled order, as int32."""

    kernel = "gather_index"
    operands = "data order? counters out>"


class MomentsFinish(Op):
    """Batch statistics -> scale, shift, rstd, center, and the running statistics."""

    kernel = "moments_finish"
    operands = "mean m2 gamma beta running_mean!? running_var!? scale> shift> rstd> center>"
    rowwise = False


class NormBackwardFinish(Op):
    """Column sums of the gradient -> the three coefficients of dz, and the gradients of gamma and beta."""

    kernel = "norm_backward_finish"
    operands = "sum dot gamma mean rstd a> b> c> dgamma> dbeta>"
    rowwise = False


class LayerNorm(Op):
    """y = (x - mean) * rstd * gamma + beta over each row."""

    kernel = "layer_norm"
    operands = "x gamma? beta? mean> rstd>"

    @staticmethod
    def backward(trace, node, gradient, needs):
        v = node.operands
        x, gamma, beta = v["x"], v.get("gamma"), v.get("beta")
        dgamma = trace.gradient(gamma.parameter) if gamma is not None and needs(gamma) else None
        dbeta = trace.gradient(beta.parameter) if beta is not None and needs(beta) else None
        dx = trace.append(
            LayerNormBackward, like(trace, "dx", x), dy=gradient, x=x, gamma=gamma, mean=v["mean"], rstd=v["rstd"],
            dgamma=dgamma, dbeta=dbeta,
        )  # fmt: skip
        return [(i, g) for i, g in ((x, dx), (gamma, dgamma), (beta, dbeta)) if g is not None and needs(i)]


class LayerNormBackward(Op):
    """dx, dgamma, dbeta of LayerNorm."""

    kernel = "layer_norm_backward"
    operands = "dy x gamma? mean rstd dgamma>? dbeta>?"


class SoftmaxCrossEntropy(Op):
    """Loss and its gradient with respect to the logits, in one kernel."""

    kernel = "softmax_cross_entropy"
    operands = "logits target weight? class_weight? metrics!"


class ElementLoss(Op):
    """An elementwise loss (numbers[0] of the loss enum) and its gradient, in one kernel."""

    kernel = "loss"
    operands = "prediction target weight? metrics!"


class GradScale(Op):
    """1 / (sum of weights) / (loss scale) x clip factor, and the gradient norm; the next loss scale."""

    kernel = "grad_scale"
    operands = "metrics gradients? out> loss_scale!?"
    rowwise = False


class Update(Op):
    """One optimizer step over the flat arena."""

    kernel = "update"
    operands = "w! g! s1!? s2!? grad_scale hyper counters loss_scale? copies>?"
    rowwise = False


class Tick(Op):
    """Advance the counters; write a row of results."""

    kernel = "tick"
    operands = "counters! metrics!? grad_scale? results!? loss_scale?"
    rowwise = False


class Softmax(Op):
    """Softmax of each row."""

    kernel = "softmax"
    operands = "x"
