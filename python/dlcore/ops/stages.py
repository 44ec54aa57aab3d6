# SPDX-License-Identifier: Apache-2.0
"""Ops that can ride in a chain, one small class each, with their gradients."""

from __future__ import annotations

from ..backend import formulas
from ..graph import Trace, Value
from .base import Stage, columns, like
from .kernels import NormBackwardFinish


class Affine(Stage):
    """y = x * a + b, a and b (1, cols)."""

    stage = "affine"
    operands = "x a? b?"

    @staticmethod
    def backward(trace, node, gradient, needs):
        x, a, b = node.operands["x"], node.operands.get("a"), node.operands.get("b")
        pairs = []
        if b is not None and needs(b) and not _feeds_batch_norm_only(trace, node.value):
            db = trace.gradient(b.parameter)
            trace.append(Sum, x=gradient, out=db)
            pairs.append((b, db))
        if needs(x):
            dx = gradient if a is None else trace.append(Affine, like(trace, "dx", x), x=gradient, a=a)
            pairs.append((x, dx))
        return pairs


def _feeds_batch_norm_only(trace: Trace, value: Value) -> bool:
    """A bias before batch statistics has a gradient of exactly zero: the mean takes it out again."""
    readers = [n.op for n in trace.nodes if n.section == "gradients" and value in n.reads()]
    return Moments in readers and all(op in (Moments, Normalize, Dot, Affine2) for op in readers)


class Normalize(Stage):
    """y = x * scale + shift with batch (or running) statistics: batch normalisation's last node."""

    stage = "affine"
    operands = "x a b"

    @staticmethod
    def backward(trace, node, gradient, needs):
        x, v = node.operands["x"], node.context
        total, dot = columns(trace, "s", x), columns(trace, "t", x)
        trace.append(Sum, x=gradient, out=total)
        trace.append(Dot, x=gradient, operand=x, operand_scale=v["rstd"], operand_shift=v["center"], out=dot)
        a, b, c = (columns(trace, n, x) for n in "ABC")
        dgamma, dbeta = trace.gradient(v["gamma"].parameter), trace.gradient(v["beta"].parameter)
        trace.append(
            NormBackwardFinish, sum=total, dot=dot, gamma=v["gamma"], mean=v["mean"], rstd=v["rstd"],
            a=a, b=b, c=c, dgamma=dgamma, dbeta=dbeta, numbers=(x.rows,),
        )  # fmt: skip
        pairs = [(v["gamma"], dgamma), (v["beta"], dbeta)]
        if needs(x):
            if node.numbers[0]:
                dx = trace.append(Affine2, like(trace, "dz", x), x=gradient, operand=x, a=a, b=b, c=c)
            else:
                dx = trace.append(Affine, like(trace, "dz", x), x=gradient, a=node.operands["a"])
            pairs.append((x, dx))
        return [(i, g) for i, g in pairs if needs(i)]


class Affine2(Stage):
    """y = a x + b operand + c: batch normalisation's gradient."""

    stage = "affine2"
    operands = "x operand a b c"


class Add(Stage):
    """y = x + operand."""

    stage = "add"
    operands = "x operand"

    @staticmethod
    def backward(trace, node, gradient, needs):
        return [(v, gradient) for v in (node.operands["x"], node.operands["operand"]) if needs(v)]


class Accumulate(Stage):
    """accumulator += x: gradients of several micro-batches."""

    stage = "add"
    operands = "x accumulator!"


class Activate(Stage):
    """y = f(x); numbers are the activation's constants."""

    stage = "activate"
    operands = "x"

    @staticmethod
    def backward(trace, node, gradient, needs):
        x, y = node.operands["x"], node.value
        # A function of the output costs no second array; behind batch norm the input is rebuilt from z for nothing.
        behind_norm = any(n.op is Normalize and n.value is x for n in trace.nodes)
        from_output = bool(formulas().activations[node.function][1]) and not behind_norm
        saved = y if from_output else x
        dx = trace.append(
            ActivateGrad, like(trace, "dx", x), x=gradient, operand=saved, function=node.function,
            numbers=(*(node.numbers + (0.0,) * 3)[:3], float(from_output)),
        )  # fmt: skip
        return [(x, dx)]


class ActivateGrad(Stage):
    """dx = dy * f'(operand)."""

    stage = "activate_grad"
    operands = "x operand operand_scale? operand_shift?"


class Dropout(Stage):
    """y = x / keep where kept, else 0; the mask is a function of (seed, draws, random op, row, column). Its bits may be
    written to ``out`` and read again as ``operand``."""

    stage = "dropout"
    operands = "x a operand? out>?"

    @staticmethod
    def backward(trace, node, gradient, needs):
        x = node.operands["x"]
        dx = trace.append(
            Dropout, like(trace, "dx", x), x=gradient, a=node.operands["a"], numbers=node.numbers,
            random_op=node.random_op,
        )  # fmt: skip
        return [(x, dx)]


class Scale(Stage):
    """y = x * numbers[0], and by the scale of the loss where it is given."""

    stage = "scale"
    operands = "x a?"

    @staticmethod
    def backward(trace, node, gradient, needs):
        x = node.operands["x"]
        return [(x, trace.append(Scale, like(trace, "dx", x), x=gradient, numbers=node.numbers))]


class Store(Stage):
    """Write the value that flows through the chain."""

    stage = "store"
    operands = "out>"


class Sum(Stage):
    """out (1, cols) = column sums."""

    stage = "sum"
    reduces = True
    operands = "x out>"


class Dot(Stage):
    """out (1, cols) = column sums of x * (operand * operand_scale + operand_shift)."""

    stage = "dot"
    reduces = True
    operands = "x operand operand_scale? operand_shift? out>"


class Moments(Stage):
    """out = column means, out2 = sums of squared deviations."""

    stage = "moments"
    reduces = True
    operands = "x out> out2>"
